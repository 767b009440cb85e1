"""How far values can go while the input stays in a box: interval arithmetic as an ONNX graph.

Each value becomes two, its lower and its upper bound, and one run of ONNX Runtime computes them all
in the model's own arithmetic: what underflows or saturates there does so here (Moore, "Interval
Analysis", 1966; for networks Gowal et al., "On the Effectiveness of Interval Bound Propagation",
2018). Where an operator has no rule, the bounds are what it makes of both ends of its arguments,
which is an estimate; such values are named.
"""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from scanner.graph.core.draft import Draft
from scanner.graph.core.extract import upstream
from scanner.graph.core.opsets import lift
from scanner.graph.core.structure import attribute
from scanner.graph.dormancy.bounding import PLACES, Interval, Rule, Writer
from scanner.modelfile.model import required_inputs

_BY_CHANNEL = 21
"""The operator set since which groups are normalised with a factor for each channel."""
_LARGE = 1e30
"""Stands for no bound: its products and sums stay finite more often than those of infinity."""


@dataclasses.dataclass(frozen=True, slots=True)
class Bounded:
    """A graph that computes bounds.

    Attributes:
        proto: The graph. It takes the ends of the box in place of each input.
        box: By input of the model, the inputs of the graph that take its ends.
        values: By value, the outputs of the graph that bound it; a value without bounds is missing.
        estimated: Values whose bounds are no proof: an operator before them has no rule.
    """

    proto: Draft
    box: Mapping[str, Interval]
    values: Mapping[str, Interval]
    estimated: frozenset[str]


def bounded(flat: onnx.ModelProto, values: Sequence[str]) -> Bounded:
    """Return a graph that computes bounds of values, given a box that the input lies in.

    Before: the model is flat, and its tensors' data lie inside it.
    After: as for `scanner.graph.core.extract.upstream`; the outputs are pairs of bounds.

    Raises:
        UnsupportedModelError: The operator set is older than bounds can be written in.
        ValueNotFoundError: There is no such value.
    """
    cut = upstream(flat, values)
    lift(cut)  # bounds are written in operators that older sets lack
    writer = Writer(cut, RULES)
    for node in cut.graph.node:
        writer.add(node)
    found = {name: writer.intervals[name] for name in values if name in writer.intervals}
    graph = cut.graph
    inputs = list(required_inputs(graph))
    del graph.node[:], graph.input[:], graph.output[:]
    for info in inputs:
        for end in dataclasses.astuple(writer.intervals[info.name]):
            copy = onnx.ValueInfoProto()
            copy.CopyFrom(info)
            copy.name = end
            graph.input.append(copy)
    graph.node.extend(writer.nodes)
    graph.initializer.extend(writer.constants)
    ends = dict.fromkeys(end for pair in found.values() for end in dataclasses.astuple(pair))
    graph.output.extend(helper.make_empty_tensor_value_info(end) for end in ends)
    box = {info.name: writer.intervals[info.name] for info in inputs}
    return Bounded(cut, box, found, frozenset(writer.estimated.intersection(found)))


def _monotone(writer: Writer, node: onnx.NodeProto) -> Interval:
    return writer.monotone(node)


def _antitone(writer: Writer, node: onnx.NodeProto) -> Interval:
    ends = writer.monotone(node)
    return Interval(ends.high, ends.low)


def _first_moves(writer: Writer, node: onnx.NodeProto) -> Interval | None:
    """Bound a node that is monotone in its first input, where the others are constants."""
    fixed = all(name not in writer.intervals for name in node.input[1:])
    return writer.monotone(node) if fixed else None


def _difference(writer: Writer, node: onnx.NodeProto) -> Interval:
    first, second = map(writer.pair, node.input)
    return Interval(
        writer.copy(node, [first.low, second.high]), writer.copy(node, [first.high, second.low])
    )


def _corners(writer: Writer, node: onnx.NodeProto) -> Interval:
    """Bound what is largest and smallest at the corners of its arguments."""
    first, second = map(writer.pair, node.input)
    if node.input[0] == node.input[1]:
        return _square(writer, first)
    ends = [
        writer.copy(node, [one, other])
        for one in dict.fromkeys(dataclasses.astuple(first))
        for other in dict.fromkeys(dataclasses.astuple(second))
    ]
    return Interval(writer.op("Min", ends), writer.op("Max", ends))


def _square(writer: Writer, pair: Interval) -> Interval:
    size = _size(writer, pair)
    return Interval(
        writer.op("Mul", [size.low, size.low]), writer.op("Mul", [size.high, size.high])
    )


def _size(writer: Writer, pair: Interval) -> Interval:
    """Return the bounds of an absolute value."""
    low, high = (writer.op("Abs", [end]) for end in (pair.low, pair.high))
    outside = writer.op("Max", [pair.low, writer.op("Neg", [pair.high])])
    nothing = writer.op("Sub", [low, low])
    return Interval(writer.op("Max", [outside, nothing]), writer.op("Max", [low, high]))


def _absolute(writer: Writer, node: onnx.NodeProto) -> Interval:
    return _size(writer, writer.pair(node.input[0]))


def _of_sizes(writer: Writer, node: onnx.NodeProto) -> Interval:
    """Bound what grows with the absolute values of its argument."""
    size = _size(writer, writer.pair(node.input[0]))
    rest = list(node.input[1:])
    return Interval(writer.copy(node, [size.low, *rest]), writer.copy(node, [size.high, *rest]))


def _quotient(writer: Writer, node: onnx.NodeProto) -> Interval:
    if node.input[0] == node.input[1]:
        one = writer.copy(node, [writer.pair(node.input[0]).high] * 2)
        return Interval(one, one)
    ends = _corners(writer, node)
    divisor = writer.pair(node.input[1])
    if divisor.low == divisor.high:
        return ends
    return _unless_crossing(writer, divisor, ends)


def _unless_crossing(writer: Writer, divisor: Interval, ends: Interval) -> Interval:
    """Return bounds, or none where a divisor may be zero."""
    signs = writer.op("Mul", [writer.op("Sign", [end]) for end in (divisor.low, divisor.high)])
    nothing = writer.op("Sub", [signs, signs])
    crossing = writer.op("LessOrEqual", [signs, nothing])
    low, high = (writer.number(sign * _LARGE, divisor.low) for sign in (-1, 1))
    return Interval(
        writer.op("Where", [crossing, low, ends.low]),
        writer.op("Where", [crossing, high, ends.high]),
    )


def _reciprocal(writer: Writer, node: onnx.NodeProto) -> Interval:
    pair = writer.pair(node.input[0])
    return _unless_crossing(writer, pair, _antitone(writer, node))


def _power(writer: Writer, node: onnx.NodeProto) -> Interval | None:
    array = writer.array(node.input[1])
    if array is None or array.size != 1:
        return None
    exponent = float(array.reshape(-1)[0])
    pair = writer.pair(node.input[0])
    even = exponent == round(exponent) and round(exponent) % 2 == 0
    base = _size(writer, pair) if even else pair
    ends = [writer.copy(node, [end, node.input[1]]) for end in (base.low, base.high)]
    if exponent >= 0:
        return Interval(*ends)
    return _unless_crossing(writer, base, Interval(ends[1], ends[0]))


def _weighted(writer: Writer, node: onnx.NodeProto) -> Interval | None:
    """Bound a linear layer: its positive weights keep the order, its negative ones reverse it."""
    if len(node.input) < 2:  # noqa: PLR2004 - an Einsum of one argument
        return None
    place = 1 if node.input[0] in writer.intervals else 0
    parts = writer.signs(node.input[place])
    if parts is None or any(name in writer.intervals for name in node.input[2:]):
        return None
    data, rest = writer.pair(node.input[1 - place]), list(node.input[2:])
    if node.op_type == "Einsum" and rest:
        return None

    def half(end: str, weights: str, others: list[str]) -> str:
        arguments = [end, weights] if place else [weights, end]
        return writer.copy(node, [*arguments, *others])

    positive, negative = parts
    return Interval(
        writer.op("Add", [half(data.low, positive, rest), half(data.high, negative, [])]),
        writer.op("Add", [half(data.high, positive, rest), half(data.low, negative, [])]),
    )


def _normalised(writer: Writer, node: onnx.NodeProto) -> Interval | None:
    """Bound a batch normalisation, whose factors may be negative."""
    parts = writer.signs(node.input[1])
    if parts is None or attribute(node, "training_mode", 0):
        return None
    data = writer.pair(node.input[0])
    nothing = writer.op("Sub", [node.input[2], node.input[2]])

    def half(end: str, scale: str, bias: str) -> str:
        return writer.copy(node, [end, scale, bias, *node.input[3:]])

    positive, negative = parts
    return Interval(
        writer.op(
            "Add", [half(data.low, positive, node.input[2]), half(data.high, negative, nothing)]
        ),
        writer.op(
            "Add", [half(data.high, positive, node.input[2]), half(data.low, negative, nothing)]
        ),
    )


def _dipping(lowest: float) -> Rule:
    """Bound an activation that falls up to one place, which is its lowest, and rises from there."""

    def rule(writer: Writer, node: onnx.NodeProto) -> Interval:
        data = writer.pair(node.input[0])
        scale = attribute(node, "alpha", 1.0) if node.op_type == "Swish" else 1.0
        place = writer.number(lowest / scale, data.low) if scale else data.low
        nearest = writer.op("Min", [writer.op("Max", [place, data.low]), data.high])
        ends = writer.monotone(node)
        return Interval(writer.copy(node, [nearest]), writer.op("Max", [ends.low, ends.high]))

    return rule


def _layer_normalised(writer: Writer, node: onnx.NodeProto) -> Interval | None:
    """Bound a layer normalisation.

    Of n numbers none is further from their mean than sqrt(n - 1) standard deviations (P. A.
    Samuelson, "How deviant can you be?", Journal of the American Statistical Association 63, 1968).
    """
    if any(name in writer.intervals for name in node.input[1:]) or len(node.output) > 1:
        return None
    furthest = _root_of_size(writer, node.input[0], int(attribute(node, "axis", -1)))
    width = writer.op("Mul", [writer.op("Abs", [node.input[1]]), furthest])
    bias = node.input[2] if len(node.input) > 2 else writer.op("Sub", [width, width])  # noqa: PLR2004
    like = writer.pair(node.input[0]).low
    shape = writer.op("Sub", [like, like])
    return Interval(
        writer.op("Add", [shape, writer.op("Sub", [bias, width])]),
        writer.op("Add", [shape, writer.op("Add", [bias, width])]),
    )


def _channels_normalised(writer: Writer, node: onnx.NodeProto) -> Interval | None:
    """Bound a normalisation of instances or groups, with a factor for each channel."""
    of_groups = node.op_type == "GroupNormalization" and writer.opset < _BY_CHANNEL
    if of_groups or any(name in writer.intervals for name in node.input[1:]):
        return None
    _, scale, bias = node.input
    # Of a whole image: that is no less than of a channel or a group.
    furthest = _root_of_size(writer, node.input[0], 1)
    width = writer.op("Mul", [writer.op("Abs", [scale]), furthest])
    like = writer.pair(node.input[0]).low
    nothing = writer.op("Sub", [bias, bias])
    one = writer.op("Add", [nothing, writer.number(1, bias)])

    def end(operator: str) -> str:
        # A batch normalisation of nothing puts the numbers of channels along their axis.
        level = writer.op(operator, [bias, width])
        image = writer.op("Sub", [like, like])
        return writer.op("BatchNormalization", [image, one, level, nothing, one])

    return Interval(end("Sub"), end("Add"))


def _root_of_size(writer: Writer, name: str, axis: int) -> str:
    """Return the root of how many numbers a value holds from an axis on."""
    low = writer.pair(name).low
    sizes = writer.op("Shape", [low], start=axis)
    count = writer.op("ReduceProd", [sizes], keepdims=0)
    return writer.op("Sqrt", [writer.op("CastLike", [count, low])])


def _greater(writer: Writer, node: onnx.NodeProto) -> Interval:
    return _difference(writer, node)


def _less(writer: Writer, node: onnx.NodeProto) -> Interval:
    ends = _difference(writer, node)
    return Interval(ends.high, ends.low)


def _equal(writer: Writer, node: onnx.NodeProto) -> Interval:
    first, second = map(writer.pair, node.input)
    possible = writer.op(
        "And",
        [
            writer.op("LessOrEqual", [first.low, second.high]),
            writer.op("GreaterOrEqual", [first.high, second.low]),
        ],
    )
    fixed = [writer.op("Equal", [pair.low, pair.high]) for pair in (first, second)]
    same = writer.op("Equal", [first.low, second.low])
    return Interval(writer.op("And", [same, writer.op("And", fixed)]), possible)


def _xor(writer: Writer, node: onnx.NodeProto) -> Interval:
    first, second = map(writer.pair, node.input)
    fixed = [
        writer.op("Not", [writer.op("Xor", [pair.low, pair.high])]) for pair in (first, second)
    ]
    known = writer.op("And", fixed)
    made = writer.op("Xor", [first.low, second.low])
    return Interval(
        writer.op("And", [made, known]), writer.op("Or", [made, writer.op("Not", [known])])
    )


def _selected(writer: Writer, node: onnx.NodeProto) -> Interval | None:
    condition, first, second = map(writer.pair, node.input)
    if condition.low == condition.high:
        return writer.monotone(node)
    lowest = writer.op("Min", [first.low, second.low])
    highest = writer.op("Max", [first.high, second.high])
    return Interval(
        writer.op(
            "Where",
            [condition.low, first.low, writer.op("Where", [condition.high, lowest, second.low])],
        ),
        writer.op(
            "Where",
            [condition.low, first.high, writer.op("Where", [condition.high, highest, second.high])],
        ),
    )


def _between(low: float, high: float) -> Rule:
    """Bound a node by what its operator can give at all."""

    def rule(writer: Writer, node: onnx.NodeProto) -> Interval:
        made = writer.monotone(node)
        # Not a number times zero is not a number: the constant is added to a comparison instead.
        nothing = writer.op("Cast", [writer.op("IsNaN", [made.low])], to=TensorProto.FLOAT)
        nothing = writer.op("CastLike", [writer.op("Mul", [nothing, _zero(writer)]), made.low])
        return Interval(
            writer.op("Add", [nothing, writer.number(low, made.low)]),
            writer.op("Add", [nothing, writer.number(high, made.low)]),
        )

    return rule


def _zero(writer: Writer) -> str:
    name = f"bound/number/{len(writer.constants)}"
    writer.constants.append(numpy_helper.from_array(np.zeros((), np.float32), name))
    return name


def _place(writer: Writer, node: onnx.NodeProto) -> Interval:
    """Bound the number of a place along an axis."""
    ends = writer.monotone(node)
    axis = int(attribute(node, "axis", 0))
    sizes = writer.op("Shape", [writer.pair(node.input[0]).low])
    size = writer.op("Gather", [sizes, writer.held(axis)])
    nothing = writer.op("Sub", [ends.low, ends.low])
    last = writer.op("Sub", [size, writer.held(1)])
    return Interval(nothing, writer.op("Add", [nothing, last]))


def _one_hot(writer: Writer, node: onnx.NodeProto) -> Interval | None:
    """Bound numbers that are one of two, which the last input holds."""
    array = writer.array(node.input[2])
    if array is None or array.size != 2 or node.input[1] in writer.intervals:  # noqa: PLR2004
        return None
    made = writer.monotone(node)
    nothing = writer.op("Sub", [made.low, made.low])
    ends = (
        writer.op("CastLike", [writer.held(np.asarray(end, array.dtype)), nothing])
        for end in sorted(array.tolist())
    )
    return Interval(*(writer.op("Add", [nothing, end]) for end in ends))


def _never(writer: Writer, node: onnx.NodeProto) -> Interval:
    """Bound a test that no input of the box passes."""
    low = writer.pair(node.input[0]).low
    no = writer.op("Not", [writer.op("Equal", [low, low])])
    return Interval(no, no)


def _remainder(writer: Writer, node: onnx.NodeProto) -> Interval | None:
    array = writer.array(node.input[1])
    if array is None or array.size != 1:
        return None
    size = abs(float(array.reshape(-1)[0]))
    low = writer.pair(node.input[0]).low
    nothing = writer.op("Sub", [low, low])
    # With the attribute fmod a remainder has the sign of what is divided.
    return Interval(
        writer.op("Add", [nothing, writer.number(-size, low)]),
        writer.op("Add", [nothing, writer.number(size, low)]),
    )


def _cast(writer: Writer, node: onnx.NodeProto) -> Interval:
    if attribute(node, "to") != TensorProto.BOOL:
        return writer.monotone(node)
    pair = writer.pair(node.input[0])
    floats = [writer.op("Cast", [end], to=TensorProto.DOUBLE) for end in (pair.low, pair.high)]
    signs = writer.op("Mul", [writer.op("Sign", [end]) for end in floats])
    nothing = writer.op("Sub", [signs, signs])
    certain = writer.op("Greater", [signs, nothing])
    either = writer.op("Or", [writer.copy(node, [end]) for end in (pair.low, pair.high)])
    differ = writer.op("Less", floats)
    return Interval(certain, writer.op("Or", [either, differ]))


_MONOTONE = (
    "Relu", "Sigmoid", "Tanh", "Erf", "Softplus", "Softsign", "Atan", "Asinh", "Sinh", "Asin",
    "Acosh", "Atanh", "Exp", "Log", "Sqrt", "Floor", "Ceil", "Round", "Sign", "Elu", "Celu",
    "Selu", "HardSigmoid", "ThresholdedRelu", "LeakyRelu", "Shrink", "Identity", "Dropout",
    "Flatten", "Transpose", "Concat", "MaxPool", "AveragePool", "GlobalAveragePool",
    "GlobalMaxPool", "ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceLogSumExp",
    "Add", "Sum", "Max", "Min", "Mean", "And", "Or", "DepthToSpace", "SpaceToDepth",
)  # fmt: skip
_FIRST = (
    "Clip", "Reshape", "Squeeze", "Unsqueeze", "Slice", "Gather", "GatherElements", "GatherND",
    "Split", "Pad", "Expand", "Tile", "Resize", "CumSum", "QuantizeLinear", "DequantizeLinear",
    "TopK",
)  # fmt: skip
RULES: Mapping[str, Rule] = {
    **dict.fromkeys(_MONOTONE, _monotone),
    **dict.fromkeys(_FIRST, _first_moves),
    **dict.fromkeys(("Conv", "ConvTranspose", "Einsum", "Gemm", "MatMul"), _weighted),
    **dict.fromkeys(("ReduceL1", "ReduceL2", "ReduceSumSquare", "Cosh"), _of_sizes),
    **dict.fromkeys(("Softmax", "Hardmax"), _between(0, 1)),
    **dict.fromkeys(("Sin", "Cos"), _between(-1, 1)),
    **dict.fromkeys(("Greater", "GreaterOrEqual"), _greater),
    **dict.fromkeys(("Less", "LessOrEqual"), _less),
    **dict.fromkeys(("IsNaN", "IsInf"), _never),
    **dict.fromkeys(PLACES, _place),
    "OneHot": _one_hot,
    "Neg": _antitone,
    "Acos": _antitone,
    "Not": _antitone,
    "Sub": _difference,
    "Mul": _corners,
    "Div": _quotient,
    "Reciprocal": _reciprocal,
    "Abs": _absolute,
    "Pow": _power,
    "BatchNormalization": _normalised,
    "Equal": _equal,
    "Xor": _xor,
    "Where": _selected,
    "Mod": _remainder,
    "Cast": _cast,
    "HardSwish": _dipping(-1.5),
    "Gelu": _dipping(-0.7518),
    "Mish": _dipping(-1.19243),
    "Swish": _dipping(-1.27846),
    "LayerNormalization": _layer_normalised,
    "InstanceNormalization": _channels_normalised,
    "GroupNormalization": _channels_normalised,
}
"""Bounds by operator."""
