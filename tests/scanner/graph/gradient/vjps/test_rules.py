"""The table of gradients: every operator in its usual and its awkward forms, one row each.

To test a new gradient, add a row. It says what the operator needs (inputs, constants, attributes,
operator set), where it or its derivative jumps, and by what it is judged: central differences of
the reference evaluator or, for linear operators that the evaluator gets wrong, of ONNX Runtime. An
operator without a row fails `test_every_operator_has_a_row`.

This table stands for a test file of each family in `scanner.graph.gradient.vjps`; laws over all
geometries are in tests/property/test_gradients.py.
"""

import dataclasses
from typing import Any

import numpy as np
import pytest
from finite_differences import CORRECTED, Array, Function, assert_gradient, node, run
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

from scanner.errors import NoGradientError
from scanner.graph.gradient.backward import gradient_model
from scanner.graph.gradient.vjps import FAMILIES, VJPS, ZERO

RNG = np.random.default_rng(7)
X = RNG.standard_normal((2, 4, 6, 6))
SMALL = RNG.standard_normal((2, 3, 4))
POSITIVE = RNG.uniform(0.4, 1.8, (2, 3, 4))
FRACTION = RNG.uniform(-0.9, 0.9, (2, 3, 4))
WIDE = RNG.uniform(-5, 5, (4, 25))
WITH_ZEROS = np.where(np.arange(24).reshape(2, 3, 4) % 5 == 0, 0, SMALL)


CLEAR = 1e-4
"""Distance of a row's numbers from its kinks; central differences step by a few 1e-6."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Row:
    """One form of an operator.

    Attributes:
        function: A graph of it.
        kinks: Numbers of the first input at which the operator or its derivative jumps: the row's
            own keep clear of them.
        ordered: The derivative depends on the order of the inputs' numbers: no two may be equal.
        linear: It is linear in each input, and the reference evaluator gets it wrong: ONNX Runtime
            itself is the oracle.
    """

    function: Function
    kinks: tuple[float, ...] = ()
    ordered: bool = False
    linear: bool = False


_JUDGED = {field.name for field in dataclasses.fields(Row)} - {"function"}


def ints(*numbers: int) -> Array:
    return np.array(numbers, np.int64)


def case(kind: str, x: Array = SMALL, *, opset: int = 18, words: str = "x", **given: Any) -> Row:
    """Return an operator of `x` alone; constants have upper-case names, others are attributes."""
    judged = {name: given.pop(name) for name in _JUDGED & given.keys()}
    constants = {name: value for name, value in given.items() if name.isupper()}
    attributes = {name: value for name, value in given.items() if not name.isupper()}
    nodes = [node(kind, " ".join([words, *constants]), **attributes)]
    return Row(function=Function(nodes, {"x": x}, constants, opset=opset), **judged)


def inputs(kind: str, *, opset: int = 18, **given: Any) -> Row:
    """Return an operator differentiated with respect to all its floating-point inputs."""
    judged = {name: given.pop(name) for name in _JUDGED & given.keys()}
    arrays = {name: value for name, value in given.items() if isinstance(value, np.ndarray)}
    attributes = {name: value for name, value in given.items() if name not in arrays}
    floats = {name: array for name, array in arrays.items() if array.dtype.kind == "f"}
    constants = {name: array for name, array in arrays.items() if name not in floats}
    nodes = [node(kind, " ".join(arrays), **attributes)]
    return Row(function=Function(nodes, floats, constants, opset=opset), **judged)


def statistics(channels: int) -> dict[str, Any]:
    rng = np.random.default_rng(channels)
    return {
        "SCALE": rng.uniform(0.5, 2, channels),
        "BIAS": rng.standard_normal(channels),
        "MEAN": rng.standard_normal(channels),
        "VAR": rng.uniform(0.5, 2, channels),
    }


SCALE, SHIFT = RNG.uniform(0.5, 2, 4), RNG.standard_normal(4)
ROWS: dict[str, Row] = {
    "Abs": case("Abs", kinks=(0,)),
    "Acos": case("Acos", FRACTION),
    "Acosh": case("Acosh", POSITIVE + 1),
    "Add": inputs("Add", a=SMALL, b=SMALL[0]),
    "Asin": case("Asin", FRACTION),
    "Asinh": case("Asinh"),
    "Atan": case("Atan"),
    "Atanh": case("Atanh", FRACTION),
    "AveragePool": case("AveragePool", X, kernel_shape=[3, 2], strides=[2, 1], pads=[1, 0, 1, 1]),
    "AveragePool tiled": case("AveragePool", X, kernel_shape=[2, 3], strides=[2, 3]),
    "AveragePool whole": case("AveragePool", X, kernel_shape=[6, 6]),
    "AveragePool same": case(
        "AveragePool", X, kernel_shape=[3, 3], strides=[2, 2], auto_pad="SAME_UPPER", linear=True
    ),
    "AveragePool dilated": case(
        "AveragePool", X, kernel_shape=[2, 2], dilations=[2, 3], opset=19, linear=True
    ),
    "BatchNormalization": case("BatchNormalization", X, **statistics(4)),
    "BatchNormalization of a matrix": case("BatchNormalization", X[:, :, 0, 0], **statistics(4)),
    "CastLike": case("CastLike", SMALL, Y=np.zeros(1)),
    "Celu": case("Celu", alpha=0.7),
    "Clip": case("Clip", LOW=np.array(-0.5), HIGH=np.array(0.7), kinks=(-0.5, 0.7)),
    "Clip from below": case("Clip", LOW=np.array(-0.5), kinks=(-0.5,)),
    "Clip by a computed bound": inputs(
        "Clip", x=SMALL, low=np.array(-0.5), high=np.array(0.7), kinks=(-0.5, 0.7)
    ),
    "Concat": inputs("Concat", a=SMALL, b=SMALL[:, :2], c=SMALL[:, 1:], axis=-2),
    "Conv": case(
        "Conv",
        X,
        W=RNG.standard_normal((6, 2, 3, 3)),
        B=RNG.standard_normal(6),
        group=2,
        strides=[2, 1],
    ),
    "Conv of few channels": case(
        "Conv",
        X,
        W=RNG.standard_normal((3, 4, 3, 2)),
        dilations=[1, 2],
        pads=[1, 0, 2, 1],
    ),
    "Conv of many channels": case(
        "Conv",
        RNG.standard_normal((2, 6, 5, 5)),
        W=RNG.standard_normal((3, 6, 3, 2)),
        dilations=[1, 2],
        pads=[1, 0, 2, 1],
    ),
    "Conv with padding wider than its kernel": case(
        "Conv", X, W=RNG.standard_normal((2, 4, 1, 1)), pads=[1, 1, 1, 1]
    ),
    "Conv bias": Row(
        function=Function(
            [node("Conv", "x W b")],
            {"x": X, "b": RNG.standard_normal(2)},
            {"W": RNG.standard_normal((2, 4, 1, 1))},
        )
    ),
    "Conv weights": Row(
        function=Function(
            [node("Conv", "W x", pads=[1, 1, 1, 1], strides=[2, 1], dilations=[1, 2])],
            {"x": RNG.standard_normal((3, 4, 3, 2))},
            {"W": X},
        )
    ),
    "Conv weights in groups": Row(
        function=Function(
            [node("Conv", "W x", group=2, strides=[2, 2], pads=[0, 1, 1, 0])],
            {"x": RNG.standard_normal((6, 2, 3, 3))},
            {"W": X},
        )
    ),
    "ConvTranspose bias": Row(
        function=Function(
            [node("ConvTranspose", "x W b")],
            {"x": X, "b": RNG.standard_normal(2)},
            {"W": RNG.standard_normal((4, 2, 2, 2))},
        ),
        linear=True,
    ),
    "ConvTranspose": case(
        "ConvTranspose",
        X,
        W=RNG.standard_normal((4, 3, 3, 3)),
        strides=[2, 2],
        pads=[1, 1, 1, 1],
        linear=True,
    ),
    "Cos": case("Cos"),
    "Cosh": case("Cosh"),
    "CumSum": case("CumSum", AXIS=np.array(1), reverse=1, exclusive=1),
    "Compress": case("Compress", KEEP=np.array([True, False, True]), axis=1),
    "DepthToSpace": case("DepthToSpace", X, blocksize=2),
    "DepthToSpace by columns": case("DepthToSpace", X, blocksize=2, mode="CRD"),
    "Div": inputs("Div", a=SMALL, b=POSITIVE[:, :1]),
    "Dropout": case("Dropout"),
    "Einsum": inputs("Einsum", a=SMALL, b=SMALL, equation="bij, bkj -> bik"),
    "Einsum that transposes": inputs("Einsum", a=SMALL, equation="...ij->...ji"),
    "Einsum that turns": inputs("Einsum", a=SMALL, equation="i...->...i"),
    "Einsum with a sum": inputs("Einsum", a=SMALL, b=SMALL, equation="bij,bkj->bk"),
    "Elu": case("Elu", alpha=0.5, kinks=(0,)),
    "Erf": case("Erf"),
    "Exp": case("Exp"),
    "Expand": case("Expand", SMALL[:, :1], SHAPE=ints(5, 2, 3, 4)),
    "Flatten": case("Flatten", X, axis=2),
    "Gather": case("Gather", PLACES=ints(2, 0, 2, -1), axis=1),
    "Gather one": case("Gather", PLACES=np.array(1), axis=1),
    "GatherElements": case("GatherElements", PLACES=RNG.integers(0, 3, (2, 5, 4)), axis=1),
    "GatherND": case("GatherND", PLACES=np.array([[0, 1], [1, 2], [0, 1]])),
    "Gelu": case("Gelu", opset=20),
    "Gelu by tanh": case("Gelu", opset=20, approximate="tanh"),
    "Gemm": inputs("Gemm", a=SMALL[0], b=SMALL[1], c=SHIFT[:3], transB=1, alpha=0.3, beta=2.0),
    "GlobalAveragePool": case("GlobalAveragePool", X),
    "GlobalLpPool": case("GlobalLpPool", X, p=3),
    "GlobalMaxPool": case("GlobalMaxPool", X, ordered=True),
    "GroupNormalization": case("GroupNormalization", X, S=SCALE[:2], B=SHIFT[:2], num_groups=2),
    "GroupNormalization 21": case(
        "GroupNormalization", X, S=SCALE, B=SHIFT, num_groups=2, opset=21
    ),
    "HardSigmoid": case("HardSigmoid", WIDE, alpha=0.3, beta=0.4, kinks=(-0.4 / 0.3, 0.6 / 0.3)),
    "HardSwish": case("HardSwish", WIDE, kinks=(-3, 3)),
    "Identity": case("Identity"),
    "InstanceNormalization": inputs("InstanceNormalization", x=X, s=SCALE, b=SHIFT),
    "LRN": case("LRN", X, size=3, alpha=0.3, beta=0.6, bias=1.5),
    "LayerNormalization": inputs("LayerNormalization", x=SMALL, s=SCALE, b=SHIFT),
    "LayerNormalization of two axes": inputs("LayerNormalization", x=SMALL, s=SMALL[0], axis=1),
    "LeakyRelu": case("LeakyRelu", alpha=0.2, kinks=(0,)),
    "Log": case("Log", POSITIVE),
    "LogSoftmax": case("LogSoftmax", axis=1),
    "LpNormalization": case("LpNormalization", axis=1, p=2),
    "LpNormalization by sums": case("LpNormalization", axis=1, p=1, kinks=(0,)),
    "LpPool": case("LpPool", X, kernel_shape=[3, 3], strides=[2, 2], p=3),
    "MatMul": inputs("MatMul", a=SMALL, b=np.ascontiguousarray(SMALL.transpose(0, 2, 1))),
    "Max": inputs("Max", a=SMALL, b=FRACTION, c=POSITIVE[0], ordered=True),
    "MaxPool": case(
        "MaxPool", X, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1], ordered=True
    ),
    "MaxPool tiled": case("MaxPool", X, kernel_shape=[2, 2], strides=[2, 2], ordered=True),
    "MaxPool with a ragged border": case(
        "MaxPool", X, kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1, ordered=True
    ),
    "Mean": inputs("Mean", a=SMALL, b=SMALL[0]),
    "MeanVarianceNormalization": case("MeanVarianceNormalization", X),
    "Min": inputs("Min", a=SMALL, b=FRACTION, ordered=True),
    "Mish": case("Mish"),
    "Mod": case("Mod", POSITIVE + 3, B=np.array(1.7), fmod=1, kinks=(3.4, 5.1)),
    "Mul": inputs("Mul", a=SMALL, b=SMALL[:, :1]),
    "Mul of a value by itself": Row(function=Function([node("Mul", "x x")], {"x": SMALL})),
    "Neg": case("Neg"),
    "PRelu": inputs("PRelu", x=SMALL, slope=POSITIVE[0, :, :1], kinks=(0,)),
    "Pad": case("Pad", X, AMOUNTS=ints(0, 0, 1, 2, 0, 0, 3, 1), linear=True),
    "Pad by mirroring": case("Pad", X, AMOUNTS=ints(0, 0, 1, 2, 0, 0, 3, 1), mode="reflect"),
    "Pad of some axes": case(
        "Pad", X, AMOUNTS=ints(1, 2, 3, 1), VALUE=np.array(0.5), AXES=ints(-1, 2), linear=True
    ),
    "Pow": inputs("Pow", a=POSITIVE, b=FRACTION[0]),
    "Pow of zeros": Row(
        function=Function(
            [node("Pow", "x B")],
            {"x": np.array([0.0, 0.0, 0.0, -1.5])},
            {"B": np.array([0.0, 1.0, 3.0, 3.0])},
        )
    ),
    "Pow of a constant zero": Row(
        function=Function([node("Pow", "A x")], {"x": POSITIVE[0, 0, :2]}, {"A": ints(0, 2) * 1.0})
    ),
    "Pow 2": case("Pow", SMALL, B=np.array(2.0)),
    "RMSNormalization": inputs("RMSNormalization", x=SMALL, s=SCALE, opset=23),
    "Reciprocal": case("Reciprocal", POSITIVE),
    "ReduceL1": case("ReduceL1", AXES=ints(1), kinks=(0,)),
    "ReduceL2": case("ReduceL2", AXES=ints(0, 2), keepdims=0),
    "ReduceLogSum": case("ReduceLogSum", POSITIVE, AXES=ints(1)),
    "ReduceLogSumExp": case("ReduceLogSumExp", AXES=ints(1)),
    "ReduceMax": case("ReduceMax", AXES=ints(2), keepdims=0, ordered=True),
    "ReduceMean": case("ReduceMean", AXES=ints(-1), keepdims=0),
    "ReduceMin": case("ReduceMin", ordered=True),
    "ReduceProd": case("ReduceProd", POSITIVE, AXES=ints(1)),
    "ReduceProd of zeros": case("ReduceProd", WITH_ZEROS, AXES=ints(1)),
    "ReduceProd of nothing": case("ReduceProd", WITH_ZEROS, noop_with_empty_axes=1),
    "ReduceSum": case("ReduceSum", AXES=ints(0), keepdims=0),
    "ReduceSum of nothing": case("ReduceSum", noop_with_empty_axes=1),
    "ReduceSumSquare": case("ReduceSumSquare", AXES=ints(1, 2)),
    "Relu": case("Relu", kinks=(0,)),
    "Reshape": case("Reshape", SHAPE=ints(0, -1)),
    "Resize": case("Resize", X, words="x - -", SIZES=ints(2, 4, 9, 5), mode="linear"),
    "Resize by scales": case(
        "Resize", X, words="x -", SCALES=np.array([1, 1, 1.5, 0.7], np.float32), linear=True
    ),
    "Resize that keeps a size": case(
        "Resize",
        X,
        words="x -",
        SCALES=np.array([1, 1, 1.1, 2], np.float32),
        mode="linear",
        linear=True,
    ),
    "ReverseSequence": case("ReverseSequence", SMALL[0], LENGTHS=ints(2, 1, 3, 3)),
    "ScatterElements": inputs(
        "ScatterElements", x=SMALL, i=np.array([[[1, 0]], [[2, 1]]]), u=SMALL[:, :1, :2], axis=1
    ),
    "ScatterElements adding": inputs(
        "ScatterElements",
        x=SMALL,
        i=np.array([[[1, 1]], [[2, 1]]]),
        u=SMALL[:, :1, :2],
        axis=1,
        reduction="add",
    ),
    "ScatterND": inputs("ScatterND", x=SMALL, i=np.array([[0, 1], [1, 2]]), u=SMALL[0, :2]),
    "Selu": case("Selu", kinks=(0,)),
    "Shrink": case("Shrink", lambd=0.4, bias=0.1, kinks=(-0.4, 0.4)),
    "Sigmoid": case("Sigmoid"),
    "Sin": case("Sin"),
    "Sinh": case("Sinh"),
    "Slice": case("Slice", S=ints(1, -3), E=ints(3, -1), A=ints(1, 2)),
    "Slice backwards": case("Slice", S=ints(-1), E=ints(-100), A=ints(2), T=ints(-2)),
    "Slice of 32-bit places": case(
        "Slice",
        S=np.array([-1], np.int32),
        E=np.array([-100], np.int32),
        A=np.array([2], np.int32),
        T=np.array([-2], np.int32),
    ),
    "Softmax": case("Softmax", axis=1),
    "Softplus": case("Softplus"),
    "Softsign": case("Softsign"),
    "SpaceToDepth": case("SpaceToDepth", X, blocksize=2),
    "Split": Row(
        function=Function(
            [
                helper.make_node("Split", ["x"], ["a", "b", "c"], axis=1, num_outputs=3),
                node("Mul", "a c"),
            ],
            {"x": SMALL},
        )
    ),
    "Sqrt": case("Sqrt", POSITIVE),
    "Squeeze": case("Squeeze", SMALL[:, :1], AXES=ints(1)),
    "Sub": inputs("Sub", a=SMALL, b=SMALL[0]),
    "Sum": inputs("Sum", a=SMALL, b=SMALL[0], c=FRACTION),
    "Swish": case("Swish", opset=24, alpha=1.5),
    "Tan": case("Tan", FRACTION),
    "Tanh": case("Tanh"),
    "ThresholdedRelu": case("ThresholdedRelu", alpha=0.3, kinks=(0.3,)),
    "Tile": case("Tile", REPEATS=ints(2, 1, 3)),
    "TopK": Row(
        function=Function(
            [helper.make_node("TopK", ["x", "K"], ["y", "i"], axis=1)],
            {"x": SMALL},
            {"K": ints(2)},
        ),
        ordered=True,
    ),
    "Transpose": case("Transpose", perm=[2, 0, 1]),
    "Transpose reversed": case("Transpose"),
    "Trilu": case("Trilu", upper=0),
    "Unsqueeze": case("Unsqueeze", AXES=ints(0, 3)),
    "Where": inputs("Where", c=SMALL > 0, a=SMALL, b=FRACTION[0]),
}

ELSEWHERE = {
    "Cast": "test_cast_carries_gradients_between_precisions",
    "DequantizeLinear": "test_channels_are_quantised_separately",
    "QuantizeLinear": "test_channels_are_quantised_separately",
    "Sign": "test_a_sign_is_differentiated_straight_through",
}
"""Operators whose gradient is not the derivative, or crosses types, and the test of each."""


@pytest.mark.parametrize("name", ROWS)
def test_gradient_agrees_with_differences(name: str) -> None:
    row = ROWS[name]
    assert_gradient(row.function, np.random.default_rng(0), linear=row.linear)


@pytest.mark.parametrize("name", ROWS)
def test_a_row_keeps_clear_of_what_it_says_it_needs(name: str) -> None:
    row = ROWS[name]
    first = next(iter(row.function.inputs.values())).reshape(-1, 1)
    assert np.abs(first - np.array(row.kinks)).min(initial=1) > CLEAR
    if row.ordered:
        numbers = np.concatenate([array.reshape(-1) for array in row.function.inputs.values()])
        assert len(np.unique(numbers)) == len(numbers)


@pytest.mark.parametrize("name", [name for name, row in ROWS.items() if row.kinks])
def test_a_stated_kink_is_one(name: str) -> None:
    function = ROWS[name].function
    first, x = next(iter(function.inputs.items()))
    for kink in ROWS[name].kinks:
        sides = []
        for side in (-1, 1):
            beside = x.copy()
            beside.flat[0] = kink + side * CLEAR
            sides.append(value_and_gradient(function, {**function.inputs, first: beside}))
        assert np.abs(sides[0] - sides[1]).max() > 0.05


def value_and_gradient(function: Function, values: dict[str, Array]) -> Array:
    """Return the output, and the gradient of its sum with respect to the first input, in a row."""
    backward = gradient_model(
        function.model(np.float32), of="y", with_respect_to=[next(iter(values))]
    )
    feeds = {name: array.astype(np.float32) for name, array in values.items()}
    evaluator = ReferenceEvaluator(function.model(np.float32), new_ops=list(CORRECTED))
    (value,) = evaluator.run(None, feeds)
    found = run(backward, {**feeds, backward.weights: np.ones(np.shape(value), np.float32)})
    return np.concatenate([array.reshape(-1) for array in found.values()])


@pytest.mark.parametrize(
    "name", ["GlobalLpPool", "LpNormalization", "LpPool", "ReduceL2", "ReduceL1"]
)
def test_zeros_whose_norm_has_no_slope_pass_nothing(name: str) -> None:
    function = ROWS[name].function
    zeros = np.zeros_like(function.inputs["x"])
    with np.errstate(invalid="ignore"):  # of the evaluator, which divides by the norm
        found = value_and_gradient(function, {"x": zeros})
    assert not found[-zeros.size :].any()


def test_every_operator_has_a_row() -> None:
    tested = {item.op_type for row in ROWS.values() for item in row.function.nodes}
    assert set(VJPS) - tested == set(ELSEWHERE)
    assert set(ELSEWHERE.values()) <= globals().keys()


def test_a_row_is_named_after_its_operator() -> None:
    for name, row in ROWS.items():
        assert name.split()[0] in {item.op_type for item in row.function.nodes}


def test_an_operator_belongs_to_one_family_and_is_not_flat() -> None:
    assert sum(len(family.VJPS) for family in FAMILIES) == len(VJPS)
    assert not set(VJPS) & ZERO


def test_unknown_operator_is_refused_by_name() -> None:
    function = Function([helper.make_node("Det", ["x"], ["y"], name="the node")], {"x": np.eye(3)})
    with pytest.raises(
        NoGradientError, match=r"Det \(node 'the node'\).*no gradient rule is known"
    ):
        gradient_model(function.model(np.float32), of="y", with_respect_to=["x"])


def test_cast_carries_gradients_between_precisions() -> None:
    nodes = [
        helper.make_node("Cast", ["x"], ["wide"], to=TensorProto.DOUBLE),
        helper.make_node("Mul", ["wide", "wide"], ["square"]),
        helper.make_node("Cast", ["square"], ["y"], to=TensorProto.FLOAT),
    ]
    function = Function(nodes, {"x": SMALL})
    backward = gradient_model(function.model(np.float32), of="y", with_respect_to=["x"])
    x = SMALL.astype(np.float32)
    np.testing.assert_allclose(
        run(backward, {"x": x, backward.weights: np.ones_like(x)})["x"], 2 * x, rtol=1e-6
    )


def test_a_sign_is_differentiated_straight_through() -> None:
    weights = RNG.standard_normal((4, 5))
    nodes = [
        helper.make_node("Sign", ["x"], ["s"]),
        helper.make_node("MatMul", ["s", "W"], ["y"]),
    ]
    function = Function(nodes, {"x": SMALL}, {"W": weights})
    found = value_and_gradient(function, {"x": SMALL})
    expected = np.broadcast_to(weights.sum(axis=1), SMALL.shape)
    np.testing.assert_allclose(found[-SMALL.size :], expected.reshape(-1), rtol=1e-5)


def test_channels_are_quantised_separately() -> None:
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"], axis=1),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["y"], axis=1),
    ]
    constants = {"s": np.array([0.01, 0.1]), "z": np.array([0, 100], np.uint8)}
    x = np.array([[[1.0, 3.0], [1.0, 30.0]], [[-1.0, 0.5], [-9.0, -11.0]]])
    backward = gradient_model(
        Function(nodes, {"x": x}, constants).model(np.float32), of="y", with_respect_to=["x"]
    )
    found = run(
        backward, {"x": x.astype(np.float32), backward.weights: np.ones(x.shape, np.float32)}
    )["x"]
    np.testing.assert_allclose(found, [[[1, 0], [1, 0]], [[0, 1], [1, 0]]], rtol=1e-6)
