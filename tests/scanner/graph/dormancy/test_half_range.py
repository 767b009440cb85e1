"""How far layers can drive what a file holds in float16."""

import models
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from scanner.graph.core.flatten import flatten
from scanner.graph.dormancy import half_range
from scanner.instruments import runtime
from scanner.settings import Device


def layer(weight: float) -> onnx.ModelProto:
    """A dense layer in float16 of two numbers, scaled by 10 and then rectified."""
    halves = {"w": np.array([[weight, 1], [0, -1]]), "ten": np.array(10)}
    return helper.make_model(
        helper.make_graph(
            [
                helper.make_node("Cast", ["x"], ["x16"], to=TensorProto.FLOAT16),
                helper.make_node("Exp", ["x16"], ["read"]),
                helper.make_node("MatMul", ["read", "w"], ["made"]),
                helper.make_node("Mul", ["made", "ten"], ["scaled"]),
                helper.make_node("Relu", ["scaled"], ["bent"]),
                helper.make_node("Cast", ["bent"], ["y"], to=TensorProto.FLOAT),
            ],
            "g",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 2])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 2])],
            [numpy_helper.from_array(v.astype(np.float16), n) for n, v in halves.items()],
        ),
        opset_imports=[helper.make_opsetid("", 18)],
        ir_version=8,
    )


def test_what_layers_make_in_float16_is_found() -> None:
    found = half_range.find(flatten(layer(3)))
    assert found is not None
    assert found.entrances == {"read": -1}
    assert found.values == ("made", "scaled", "bent")


def test_in_32_bits_there_is_nothing_to_bound() -> None:
    assert half_range.find(flatten(models.plain())) is None


def test_bounds_of_a_layer_by_hand() -> None:
    """Of numbers from 0 to 2 and from 0 to 1: 3 times the first, the first less the second."""
    found = half_range.find(flatten(layer(3)))
    assert found is not None
    graph = half_range.reach(found, {"read": (1, 2)})
    session = runtime.open_session(onnx.ModelProto.SerializeToString(graph.proto), Device.CPU, 1)
    pair = graph.box["read"]
    feeds = {
        pair.low: np.zeros((1, 2), np.float32),
        pair.high: np.array([[2, 1]], np.float32),
    }
    names = [output.name for output in session.native.get_outputs()]
    made = dict(zip(names, session.feed(feeds), strict=True))
    ends = {n: (float(made[p.low]), float(made[p.high])) for n, p in graph.values.items()}
    assert ends == {
        "made": pytest.approx((-1, 6)),
        "scaled": pytest.approx((-10, 60)),
        "bent": pytest.approx((0, 60)),
    }


def test_what_comes_from_a_value_that_was_not_watched_is_left_out() -> None:
    found = half_range.find(flatten(layer(3)))
    assert found is not None
    assert half_range.reach(found, {}).values == {}
