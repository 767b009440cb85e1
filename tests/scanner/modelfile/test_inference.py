"""Inference tells what onnx tells, but of nodes that might make it write without end."""

from collections.abc import Callable
from unittest.mock import Mock

import models
import onnx
import pytest
from google.protobuf.message import EncodeError
from hostile import attacks

from scanner.errors import MalformedModelError
from scanner.modelfile.inference import infer_shapes


@pytest.mark.parametrize("build", models.MEASURABLE.values(), ids=models.MEASURABLE)
def test_nothing_is_hidden_in_an_honest_model(build: Callable[[bool], onnx.ModelProto]) -> None:
    model = build(False)
    ours = infer_shapes(model, follow_numbers=True)
    assert ours == onnx.shape_inference.infer_shapes(model, data_prop=True)


def test_the_argument_is_not_touched() -> None:
    model = attacks.rank_by_length(100)
    before = model.SerializeToString()
    infer_shapes(model, follow_numbers=True)
    assert model.SerializeToString() == before


def test_what_onnx_cannot_read_is_malformed(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_model: onnx.ModelProto, data_prop: bool) -> onnx.ModelProto:
        raise onnx.shape_inference.InferenceError(f"no\nmore {data_prop}")

    monkeypatch.setattr(onnx.shape_inference, "infer_shapes", refuse)
    with pytest.raises(MalformedModelError, match=r"contradict one another \(no\)"):
        infer_shapes(models.plain(), follow_numbers=False)


def test_a_lack_of_memory_is_no_bug_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    short = Mock(side_effect=EncodeError("Failed to serialize proto"))
    monkeypatch.setattr(onnx.shape_inference, "infer_shapes", short)
    with pytest.raises(MemoryError):
        infer_shapes(models.plain(), follow_numbers=True)
