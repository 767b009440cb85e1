"""A draft is a model of one's own."""

import models
import onnx

from scanner.graph.core.draft import copied


def test_a_copy_is_equal_and_changes_alone() -> None:
    model = models.plain()
    before = model.SerializeToString(deterministic=True)
    draft: onnx.ModelProto = copied(model)
    assert draft.SerializeToString(deterministic=True) == before
    draft.graph.node[0].input[0] = "other"
    draft.graph.initializer[0].raw_data = b""
    assert model.SerializeToString(deterministic=True) == before
