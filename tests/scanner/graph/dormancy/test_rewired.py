"""Values given by hand, and rectifiers that leak."""

import numpy as np
import onnx
import onnxruntime
import pytest
from models import SIDE, plain

from scanner.errors import ValueNotFoundError
from scanner.graph.dormancy.rewired import held, leaking

IMAGE = np.full((1, 1, SIDE, SIDE), 0.5, np.float32)


def test_the_answer_follows_the_value_that_is_given() -> None:
    given = np.zeros((1, 4), np.float32)
    cut: onnx.ModelProto = held(plain(), "flat", given, "logits")
    session = onnxruntime.InferenceSession(cut.SerializeToString())
    assert [info.name for info in session.get_inputs()] == ["flat"]
    assert not session.run(None, {"flat": given})[0].any()


def test_there_must_be_such_an_answer() -> None:
    with pytest.raises(ValueNotFoundError):
        held(plain(), "flat", np.zeros((1, 4), np.float32), "nothing")


def test_a_shut_rectifier_leaks_a_tenth() -> None:
    model = plain()
    leaky: onnx.ModelProto = leaking(model)
    assert [node.op_type for node in model.graph.node][1] == "Relu"
    for proto in (model, leaky):
        del proto.graph.output[:]
        proto.graph.output.extend(
            [type(model.graph.input[0])(name=n) for n in ("convolved", "activated")]
        )
    before, after = onnxruntime.InferenceSession(leaky.SerializeToString()).run(
        None, {"image": -IMAGE}
    )
    assert (before < 0).any()
    assert np.allclose(after, np.where(before < 0, 0.1 * before, before))
