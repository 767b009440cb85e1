"""No input of a box leaves the bounds, operator by operator."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from scanner.errors import ValueNotFoundError
from scanner.graph.dormancy.bounds import RULES, bounded

Array = npt.NDArray[Any]
SHAPE = (1, 2, 4, 4)
OPSET = 18
W = np.random.default_rng(3)


def floats(*shape: int) -> Array:
    return W.normal(0, 1, shape).astype(np.float32)


def whole(*numbers: int) -> Array:
    return np.array(numbers, np.int64)


CHANNEL = whole(1)
ONE = np.array(1, np.float32)
# By operator: its inputs ("x" is the image, "y" a second value of it) and its attributes.
ROWS: dict[str, tuple[list[Any], dict[str, Any]]] = {
    "Add": (["x", "y"], {}),
    "Sub": (["x", "y"], {}),
    "Mul": (["x", "y"], {}),
    "Div": (["x", "y"], {}),
    "Sum": (["x", "y"], {}),
    "Mean": (["x", "y"], {}),
    "Max": (["x", "y"], {}),
    "Min": (["x", "y"], {}),
    "And": (["b", "c"], {}),
    "Or": (["b", "c"], {}),
    "Xor": (["b", "c"], {}),
    "Not": (["b"], {}),
    "Greater": (["x", "y"], {}),
    "GreaterOrEqual": (["x", "y"], {}),
    "Less": (["x", "y"], {}),
    "LessOrEqual": (["x", "y"], {}),
    "Equal": (["r", "s"], {}),
    "Where": (["b", "x", "y"], {}),
    "Pow": (["x", np.array(2, np.float32)], {}),
    "Clip": (["x", np.array(-0.5, np.float32), np.array(0.5, np.float32)], {}),
    "Reshape": (["x", whole(1, -1)], {}),
    "Squeeze": (["x", whole(0)], {}),
    "Unsqueeze": (["x", whole(0)], {}),
    "Slice": (["x", whole(1), whole(3), whole(2)], {}),
    "Gather": (["x", whole(0, 1, 1)], {"axis": 1}),
    "GatherElements": (["x", np.zeros((1, 1, 1, 1), np.int64)], {"axis": 1}),
    "GatherND": (["x", np.array([[0, 1]], np.int64)], {}),
    "Split": (["x"], {"axis": 1, "num_outputs": 2}),
    "Pad": (["x", whole(0, 0, 1, 1, 0, 0, 1, 1)], {}),
    "Expand": (["x", whole(3, 2, 4, 4)], {}),
    "Tile": (["x", whole(1, 1, 2, 1)], {}),
    "Resize": (["x", "", np.array([1, 1, 2, 2], np.float32)], {"mode": "nearest"}),
    "CumSum": (["x", np.array(2, np.int64)], {}),
    "QuantizeLinear": (["x", np.array(0.1, np.float32), np.array(5, np.int8)], {}),
    "DequantizeLinear": (["q", np.array(0.1, np.float32), np.array(5, np.int8)], {}),
    "TopK": (["x", whole(2)], {"axis": 3}),
    "Conv": (["x", floats(3, 2, 3, 3), floats(3)], {"pads": [1, 1, 1, 1]}),
    "ConvTranspose": (["x", floats(2, 3, 3, 3), floats(3)], {}),
    "Einsum": (["x", floats(2, 4, 4, 3)], {"equation": "nchw,chwk->nk"}),
    "Gemm": (["f", floats(32, 3), floats(3)], {"alpha": 0.5}),
    "MatMul": (["x", floats(4, 3)], {}),
    "BatchNormalization": (["x", floats(2), floats(2), floats(2), np.abs(floats(2))], {}),
    "ReduceSum": (["x", CHANNEL], {}),
    "ReduceMean": (["x", CHANNEL], {}),
    "ReduceMax": (["x", CHANNEL], {}),
    "ReduceMin": (["x", CHANNEL], {}),
    "ReduceLogSumExp": (["x", CHANNEL], {}),
    "ReduceL1": (["x", CHANNEL], {}),
    "ReduceL2": (["x", CHANNEL], {}),
    "ReduceSumSquare": (["x", CHANNEL], {}),
    "MaxPool": (["x"], {"kernel_shape": [2, 2]}),
    "AveragePool": (["x"], {"kernel_shape": [2, 2]}),
    "Concat": (["x", "y"], {"axis": 1}),
    "Mod": (["x", np.array(0.7, np.float32)], {"fmod": 1}),
    "Transpose": (["x"], {"perm": [0, 2, 3, 1]}),
    "Cast": (["x"], {"to": TensorProto.BOOL}),
    "DepthToSpace": (["g"], {"blocksize": 2}),
    "SpaceToDepth": (["x"], {"blocksize": 2}),
    "Sqrt": (["p"], {}),
    "Log": (["p"], {}),
    "Reciprocal": (["x"], {}),
    "Acosh": (["p"], {}),
    "Softmax": (["x"], {"axis": 1}),
    "Hardmax": (["x"], {"axis": 1}),
    "Shrink": (["x"], {"lambd": 0.2}),
    "ArgMax": (["x"], {"axis": 3}),
    "ArgMin": (["x"], {"axis": -1, "keepdims": 0}),
    "OneHot": (["i", whole(2), np.array([-1, 3], np.float32)], {"axis": 1}),
    "LayerNormalization": (["x", floats(4), floats(4)], {"axis": -1}),
    "InstanceNormalization": (["x", floats(2), floats(2)], {}),
    "GroupNormalization": (["x", floats(2), floats(2)], {"num_groups": 1}),
}
SINCE = {"Gelu": 20, "GroupNormalization": 21, "Swish": 24}
"""Operators that are younger than `OPSET`."""
CHAINED = ("Relu", "Abs", "Sigmoid", "Neg", "Add", "Mul", "Sub", "Tanh", "Exp", "Elu")
BEFORE = [
    helper.make_node("Conv", ["x", "mixing"], ["y"]),
    helper.make_node("Greater", ["x", "nothing"], ["b"]),
    helper.make_node("Less", ["y", "nothing"], ["c"]),
    helper.make_node("Round", ["x"], ["r"]),
    helper.make_node("Round", ["y"], ["s"]),
    helper.make_node("Cast", ["r"], ["q"], to=TensorProto.INT8),
    helper.make_node("Flatten", ["x"], ["f"]),
    helper.make_node("Concat", ["x", "y"], ["g"], axis=1),
    helper.make_node("Abs", ["y"], ["p"]),
    helper.make_node("ArgMax", ["x"], ["i"], axis=1, keepdims=0),
]
MIXING = np.array([[0.6, -0.8], [1.1, 0.3]], np.float32).reshape(2, 2, 1, 1)


def model(op: str) -> onnx.ModelProto:
    inputs, attributes = ROWS.get(op, (["x"], {}))
    constants = {"mixing": MIXING, "nothing": np.array(0, np.float32)}
    names = []
    for place, value in enumerate(inputs):
        if not isinstance(value, str):
            constants[f"c{place}"] = value
        names.append(value if isinstance(value, str) else f"c{place}")
    outputs = ["out", "out2"] if op == "Split" else ["out", "places"] if op == "TopK" else ["out"]
    graph = helper.make_graph(
        [*BEFORE, helper.make_node(op, names, outputs, **attributes)],
        op,
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, SHAPE)],
        [helper.make_empty_tensor_value_info("out")],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    opset = helper.make_opsetid("", SINCE.get(op, OPSET))
    return helper.make_model(graph, opset_imports=[opset], ir_version=10)


def session(proto: onnx.ModelProto) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(
        proto.SerializeToString(), providers=["CPUExecutionProvider"]
    )


def inside(bounds: Sequence[Array], value: Array) -> bool:
    """Whether a value lies within bounds, up to rounding; what is no number lies anywhere."""
    lowest, number, highest = (np.asarray(a, np.float64) for a in (bounds[0], value, bounds[-1]))
    assert lowest.shape == number.shape == highest.shape
    slack = 1e-4 * (1 + np.abs(number))
    outside = (lowest > number + slack) | (number > highest + slack)
    return not bool(outside.any())


def box(seed: int) -> tuple[Array, Array, Array]:
    """Return the ends of a box and an image inside it."""
    generator = np.random.default_rng(seed)
    middle = generator.uniform(-0.4, 0.4, SHAPE)
    width = generator.uniform(0, 0.5, SHAPE)
    low, high = (middle - width).astype(np.float32), (middle + width).astype(np.float32)
    return low, high, (low + (high - low) * generator.random(SHAPE)).astype(np.float32)


def is_proven(proto: onnx.ModelProto) -> bool:
    """Whether the bounds of `out` are no estimate, and hold for an image."""
    found = bounded(proto, ["out"])
    low, high, image = box(0)
    ends = session(found.proto).run(None, {"x/low": low, "x/high": high})
    return not found.estimated and inside(ends, session(proto).run(None, {"x": image})[0])


@pytest.mark.parametrize("op", sorted(RULES))
def test_no_input_of_a_box_leaves_the_bounds(op: str) -> None:
    proto = model(op)
    bounds, plain = session(bounded(proto, ["out"]).proto), session(proto)
    for seed in range(8):
        low, high, image = box(seed)
        ends = bounds.run(None, {"x/low": low, "x/high": high})
        assert inside(ends, plain.run(None, {"x": image})[0])


@given(st.lists(st.sampled_from(CHAINED), min_size=1, max_size=5), st.integers(0, 2**20))
@settings(max_examples=15, deadline=None)
def test_no_input_leaves_the_bounds_of_a_chain(ops: list[str], seed: int) -> None:
    proto = model(ops[0])
    for place, op in enumerate(ops[1:]):
        source = f"out{place}" if place else "out"
        inputs = [source, "x"] if op in ("Add", "Mul", "Sub") else [source]
        proto.graph.node.append(helper.make_node(op, inputs, [f"out{place + 1}"]))
    last = f"out{len(ops) - 1}" if len(ops) > 1 else "out"
    proto.graph.output[0].name = last
    low, high, image = box(seed)
    ends = session(bounded(proto, [last]).proto).run(None, {"x/low": low, "x/high": high})
    assert inside(ends, session(proto).run(None, {"x": image})[0])


def test_what_has_no_rule_is_an_estimate_and_so_is_what_follows() -> None:
    proto = model("Relu")
    proto.graph.node.extend([
        helper.make_node("Cos", ["out"], ["waved"]),
        helper.make_node("Det", ["out"], ["place"]),
        helper.make_node("Neg", ["place"], ["turned"]),
    ])  # fmt: skip
    found = bounded(proto, ["waved", "place", "turned"])
    assert found.estimated == {"place", "turned"}
    assert set(found.values) == {"waved", "place", "turned"}


@pytest.mark.parametrize("opset", [7, 11, 13, 15])
def test_an_older_operator_set_has_bounds_too(opset: int) -> None:
    """Bounds are written in operators that these sets lack, such as CastLike."""
    graph = helper.make_graph(
        [
            helper.make_node("Conv", ["x", "mixing"], ["y"]),
            helper.make_node("ReduceMean", ["y"], ["m"], axes=[2, 3], keepdims=0),
            helper.make_node("Softmax", ["m"], ["out"], axis=1),
        ],
        "old",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, SHAPE)],
        [helper.make_empty_tensor_value_info("out")],
        [numpy_helper.from_array(MIXING, "mixing")],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=6)
    assert is_proven(proto)


def test_a_shape_that_is_computed_leaves_bounds_a_proof() -> None:
    """As PyTorch writes view(x.size(0), -1)."""
    graph = helper.make_graph(
        [
            helper.make_node("Relu", ["x"], ["y"]),
            helper.make_node("Shape", ["y"], ["sizes"]),
            helper.make_node("Gather", ["sizes", "place"], ["batch"]),
            helper.make_node("Concat", ["batch", "rest"], ["shape"], axis=0),
            helper.make_node("Reshape", ["y", "shape"], ["out"]),
        ],
        "viewed",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, SHAPE)],
        [helper.make_empty_tensor_value_info("out")],
        [numpy_helper.from_array(whole(0), "place"), numpy_helper.from_array(whole(-1), "rest")],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=9)
    assert is_proven(proto)


def test_a_factor_for_each_group_is_not_taken_for_one_of_each_channel() -> None:
    proto = model("GroupNormalization")
    proto.opset_import[0].version = 18
    assert bounded(proto, ["out"]).estimated == {"out"}


def test_a_test_that_no_input_passes_is_fixed() -> None:
    ends = session(bounded(model("IsNaN"), ["out"]).proto)
    low, high, _ = box(0)
    assert not any(end.any() for end in ends.run(None, {"x/low": low, "x/high": high}))


def test_a_divisor_that_may_be_zero_leaves_no_bounds() -> None:
    one = np.ones(SHAPE, np.float32)
    bounds = session(bounded(model("Reciprocal"), ["out"]).proto)
    lowest, highest = bounds.run(None, {"x/low": -one, "x/high": one})
    assert lowest.max() < -1e29
    assert highest.min() > 1e29


def test_a_value_that_is_not_there() -> None:
    with pytest.raises(ValueNotFoundError):
        bounded(model("Relu"), ["nobody"])


def test_a_place_is_bounded_whatever_is_compared() -> None:
    """The tangent has no rule; which of four numbers is the largest is one of four places."""
    graph = helper.make_graph(
        [
            helper.make_node("Tan", ["x"], ["t"]),
            helper.make_node("ArgMax", ["t"], ["place"], axis=3),
            helper.make_node("Cast", ["place"], ["number"], to=TensorProto.FLOAT),
        ],
        "places",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, SHAPE)],
        [helper.make_empty_tensor_value_info("number")],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=9)
    found = bounded(proto, ["t", "number"])
    assert found.estimated == {"t"}
    ends = found.values["number"]
    low, high = session(found.proto).run(
        [ends.low, ends.high],
        {name: np.zeros(SHAPE, np.float32) for pair in found.box.values()
         for name in (pair.low, pair.high)},
    )  # fmt: skip
    assert (low == 0).all()
    assert (high == 3).all()
