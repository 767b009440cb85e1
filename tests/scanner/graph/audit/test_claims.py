"""Claims of types and shapes, true and false."""

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
from models import plain
from onnx import TensorProto, helper

from scanner.graph.audit.claims import observe

Claim = Callable[[onnx.GraphProto], None]


def _value(name: str, kind: int, shape: list[int | str] | None) -> Claim:
    return lambda graph: graph.value_info.append(helper.make_tensor_value_info(name, kind, shape))


def _output(graph: onnx.GraphProto) -> None:
    graph.output[0].CopyFrom(helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", 99]))


def _constant(graph: onnx.GraphProto) -> None:
    graph.input.append(helper.make_tensor_value_info("dense", TensorProto.FLOAT, [4, 4]))


FALSE: dict[str, Claim] = {
    "another size": _value("convolved", TensorProto.FLOAT, ["N", 4, 8, 9]),
    "another rank": _value("convolved", TensorProto.FLOAT, ["N", 4]),
    "another type": _value("convolved", TensorProto.DOUBLE, None),
    "of the output": _output,
    "of a constant": _constant,
}
TRUE: dict[str, Claim] = {
    "the same": _value("convolved", TensorProto.FLOAT, ["N", 4, 8, 8]),
    "less": _value("convolved", TensorProto.FLOAT, ["batch", "c", "h", "w"]),
    "nothing": _value("convolved", TensorProto.UNDEFINED, None),
    "an open size as -1": _value("convolved", TensorProto.FLOAT, [-1, 4, -1, -1]),
    "of a value that is not there": _value("elsewhere", TensorProto.INT8, [1]),
}


@pytest.mark.parametrize("claim", FALSE)
def test_it_is_contradicted(claim: str) -> None:
    model = plain()
    FALSE[claim](model.graph)
    (observation,) = observe(model)
    assert observation.code == "false-claim"
    assert observation.details["count"] == 1


@pytest.mark.parametrize("claim", TRUE)
def test_it_is_not(claim: str) -> None:
    model = plain()
    TRUE[claim](model.graph)
    assert list(observe(model)) == []


@pytest.mark.parametrize(
    ("answer", "false"),
    [
        (np.zeros((1, 3), np.float32), False),
        (np.zeros((1, 5), np.float32), True),
        (np.zeros((1, 3, 1), np.float32), True),
        (np.zeros((1, 3)), True),
    ],
)
def test_an_answer_contradicts_too(answer: np.ndarray, false: bool) -> None:
    model = plain()
    # Inference knows nothing of an operator from elsewhere.
    model.graph.node[-1].domain = "elsewhere"
    claim = helper.make_tensor_value_info("logits", TensorProto.FLOAT, [64, 3])
    model.graph.output[0].CopyFrom(claim)
    assert bool(list(observe(model, [answer]))) is false


def test_an_answer_that_is_no_tensor_contradicts_nothing() -> None:
    """A sequence of maps, as the ZipMap of scikit-learn's classifiers makes."""
    maps: Any = [{0: 0.25, 1: 0.75}]
    assert list(observe(plain(), [maps])) == []
