"""Bounds on what shape inference will write, told beforehand in one pass over a graph.

onnx's inference is C++ that cannot be stopped, and a few nodes can make it write without end: a
value's rank comes from how long another value is (Expand, Reshape, ConstantOfShape), ranks add up
(Unsqueeze, Gather), numbers in shapes are multiplied by Concat, a Split of one output lists as many
pieces as an attribute says, every body of an If copies the table of all values around it, and the
name of an open dimension is copied to each value that has it.

Where numbers are followed, each operator that passes them on lists every element of whatever has
one dimension of known size, whether a number is known of it or not.
"""

import math
import re
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import onnx
from onnx import numpy_helper

from scanner.modelfile.domains import STANDARD_DOMAINS
from scanner.modelfile.nested import subgraphs, walk

MOST_DIMENSIONS = 64
"""Of one value; NumPy ends there too."""
MOST_NUMBERS = 2**22
"""Numbers that inference may list, over all nodes: 300 MiB of dimensions, a third of a second."""
_MOST_OF_ONE = 2**16
"""Numbers that it may list at one node, and pieces of one Split."""
_LONGEST_STEP = 2**30
"""Of a Slice: onnx adds a step to a position of 32 bits, and beyond reads outside of its list."""
_MOST_COPIES = 2 * 10**7
"""Entries of tables copied for bodies: about a second."""
_LONGEST_NAME = 64
"""Characters of a dimension's name. Longer ones are shortened, each to a name of its own."""
HIDDEN = "hidden"
"""The domain of nodes that inference does not see."""
_ENDLESS = 2**62  # no bound needs to tell larger numbers apart

# Which input says how many dimensions the result has, by how long it is.
_RANK_FROM_LENGTH = {
    "AffineGrid": 1, "CenterCropPad": 1, "Col2Im": 1, "ConstantOfShape": 0, "Expand": 1,
    "MaxUnpool": 2, "Reshape": 1, "Tile": 1,
}  # fmt: skip
_RANK_FROM_ATTRIBUTE = frozenset({"RandomNormal", "RandomUniform", "Reshape"})
_RANKS_ADD_UP = frozenset({"Gather", "GatherND"})
_RANK_GROWS = frozenset({
    "ConcatFromSequence", "DFT", "Loop", "OneHot", "STFT", "Scan", "StringSplit",
})  # fmt: skip
_PIECES = ("num_outputs", "split")  # attributes of Split that say how many pieces it makes
_EQUATION = re.compile(rb"[A-Za-z.,>\s-]*")
_LEAST_RANK = 5  # of what an operator makes that has a rank of its own
# Operators whose result is as long as an input: lists of sizes pass through these.
_AS_LONG_AS_FIRST = frozenset({
    "Abs", "Cast", "CastLike", "Ceil", "Clip", "CumSum", "Flatten", "Floor", "Identity", "Neg",
    "Not", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceSum", "Reshape", "Round",
    "ScatterElements", "ScatterND", "Sign", "Slice", "Split", "Sqrt", "Squeeze", "Transpose",
    "Unsqueeze",
})  # fmt: skip
_AS_LONG_AS_LONGEST = frozenset({
    "Add", "And", "Div", "Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Max", "Min",
    "Mod", "Mul", "Or", "Pow", "Sub", "Where",
})  # fmt: skip
FOLLOWED = frozenset({
    "Add", "Cast", "Concat", "Gather", "MeanVarianceNormalization", "Mul", "Shape", "Size", "Slice",
    "Squeeze", "Sub", "Unsqueeze",
})  # fmt: skip
"""Operators through which onnx follows numbers, or whose bodies hold such ones."""
_SHAPED_BY_A_LIST = frozenset({"ConstantOfShape", "Expand", "Reshape"})
# Results of these have two dimensions at least, or inference says nothing of them.
_NEVER_LISTS = frozenset({
    "AveragePool", "Conv", "ConvInteger", "ConvTranspose", "DepthToSpace", "Flatten", "Gemm",
    "GlobalAveragePool", "GlobalLpPool", "GlobalMaxPool", "LpPool", "MaxPool", "QLinearConv",
    "SpaceToDepth",
})  # fmt: skip
_AS_TALL_AS_FIRST = frozenset({
    "Abs", "BatchNormalization", "Cast", "CastLike", "Ceil", "Clip", "CumSum", "DequantizeLinear",
    "Dropout", "Elu", "Erf", "Exp", "Expand", "Floor", "Gelu", "HardSigmoid", "HardSwish",
    "Identity", "InstanceNormalization", "LRN", "LayerNormalization", "LeakyRelu", "Log",
    "LogSoftmax", "MeanVarianceNormalization", "Mish", "Neg", "PRelu", "Pad", "QuantizeLinear",
    "Reciprocal", "Relu", "Resize", "Round", "Selu", "Sigmoid", "Sign", "Slice", "Softmax",
    "Softplus", "Split", "Sqrt", "Tanh", "Tile", "Transpose", "Upsample",
})  # fmt: skip


class _Bound(NamedTuple):
    """Upper bounds on what inference can say of one value.

    Attributes:
        rank: How many dimensions it may have.
        length: How many elements it has; infinite where that is not known.
        volume: If it is a list of sizes: how many elements a tensor of these sizes has.
        fewest: How many elements it has at least, if it is a list.
        tall: Whether it has two dimensions at least, if inference knows how many.
        data: How many numbers inference has followed to it.
    """

    rank: int = _LEAST_RANK
    length: float = math.inf
    volume: float = math.inf
    fewest: float = 0
    tall: bool = False
    data: float = 0

    @property
    def listed(self) -> float:
        """How many numbers inference lists for it where an operator passes them on."""
        return self.data if self.tall else max(self.data, self.length)


_UNKNOWN = _Bound()
_NOTHING = _Bound(rank=0, length=0)


class _Scope:
    """The values of a graph, and behind them, not copied, those of the graphs around it."""

    def __init__(self, around: "_Scope | None" = None) -> None:
        self.own: dict[str, _Bound] = {}
        self.around = around

    def get(self, name: str, default: _Bound) -> _Bound:
        scope: _Scope | None = self
        while scope is not None:
            if name in scope.own:
                return scope.own[name]
            scope = scope.around
        return default


class Bounds:
    """The bounds of a whole model.

    Args:
        model: The model; with `hide`, it is changed.
        hide: Whether to hide the nodes that might exceed the bounds, to shorten long names, and to
            leave negative sizes open.
        follow: Whether numbers will be followed, so that nodes count that would list too many.

    Attributes:
        excess: Whether there is anything to hide or to shorten.
        unbounded: Whether a node may list too many numbers.
        numbers: How many numbers inference would list at most, such nodes left out.
        values: What holds of each value of the main graph.
    """

    def __init__(self, model: onnx.ModelProto, *, hide: bool = False, follow: bool = False) -> None:
        self.excess = self.unbounded = False
        self.numbers: float = 0
        self._hide, self._follow = hide, follow
        self._names: dict[str, str] = {}
        graphs = [graph for graph in walk([model.graph]) if isinstance(graph, onnx.GraphProto)]
        values = sum(len(g.node) + len(g.input) + len(g.initializer) for g in graphs)
        self._bodies_cost_too_much = (len(graphs) - 1) * values > _MOST_COPIES
        for graph in graphs:
            self._shorten_names(graph)
        self.values = self._read(model.graph).own
        if hide and self.excess:
            model.opset_import.append(onnx.helper.make_opsetid(HIDDEN, 1))

    def _shorten_names(self, graph: onnx.GraphProto) -> None:
        for kind in map(_tensor_type, (*graph.input, *graph.output, *graph.value_info)):
            for size in kind.shape.dim:
                if size.dim_value < 0:  # onnx's inference of a Slice aborts the process
                    self.excess = True
                    if self._hide:
                        size.ClearField("dim_value")
                if len(size.dim_param) > _LONGEST_NAME or len(size.denotation) > _LONGEST_NAME:
                    self.excess = True
                    if self._hide:
                        size.ClearField("denotation")
                        self._shorten(size)

    def _shorten(self, size: onnx.TensorShapeProto.Dimension) -> None:
        if len(size.dim_param) > _LONGEST_NAME:
            short = f"{size.dim_param[: _LONGEST_NAME // 2]}~{len(self._names)}"
            size.dim_param = self._names.setdefault(size.dim_param, short)

    def _read(self, graph: onnx.GraphProto, around: _Scope | None = None) -> _Scope:
        """Go through a graph in the file's order, and return the bounds of its values."""
        scope = _Scope(around)
        own = scope.own
        for value in (*graph.value_info, *graph.input, *graph.output):  # the last one counts
            own[value.name] = _declared(value)
        declared = dict(own)
        for tensor in graph.initializer:
            own[tensor.name] = _of_constant(tensor)
        for node in graph.node:
            bound = self._bound(node, scope)
            if bound is None:
                self.excess, bound = True, _UNKNOWN
                if self._hide:
                    node.domain = HIDDEN
            for name in node.output:
                own[name] = _merged(bound, declared.get(name))
        return scope

    def _bound(self, node: onnx.NodeProto, scope: _Scope) -> _Bound | None:
        """Return what holds of a node's results, or None if the node must be hidden."""
        if node.domain not in STANDARD_DOMAINS:
            return _UNKNOWN  # inference knows no such operator
        if node.op_type == "Constant":
            return next(map(_of_attribute, node.attribute), _UNKNOWN)
        bodies = subgraphs(node)
        if bodies and self._bodies_cost_too_much:
            return None
        inputs = [scope.get(name, _UNKNOWN) if name else _NOTHING for name in node.input]
        results: list[_Bound] = []
        for body in bodies:
            inner = self._read(body, scope)
            results += [inner.get(value.name, _UNKNOWN) for value in body.output]
        rank = _rank(node, inputs, max((bound.rank for bound in (*inputs, *results)), default=0))
        data = self._followed(node, inputs)
        if rank > MOST_DIMENSIONS or data is None or not _readable(node, inputs):
            return None
        length = _length(node, inputs)
        if node.op_type == "If":
            length = max((bound.length for bound in results), default=math.inf)
        return _Bound(
            rank=int(rank),
            length=length,
            volume=_volume(node, inputs),
            fewest=sum(b.fewest for b in inputs) if node.op_type == "Concat" else 0,
            tall=_tall(node, inputs) or (bool(results) and all(bound.tall for bound in results)),
            data=data,
        )

    def _followed(self, node: onnx.NodeProto, inputs: Sequence[_Bound]) -> float | None:
        """Return how many numbers a node passes on, or None if it must be hidden."""
        if node.op_type not in FOLLOWED:
            return 0
        data = _passed_on(node, inputs)
        numbers = data + sum(bound.listed for bound in inputs)
        if numbers > _MOST_OF_ONE:
            self.unbounded = True
            return None if self._follow else data
        self.numbers += numbers
        return data


def _rank(  # noqa: PLR0911 - one rule after another
    node: onnx.NodeProto, inputs: Sequence[_Bound], highest: int
) -> float:
    """Return how many dimensions a result may have; `highest` is the most that an input has."""
    kind = node.op_type
    if kind == "Shape":
        return 1
    if kind == "Unsqueeze":
        return highest + max(_longest(node), inputs[1].length if len(inputs) > 1 else 0)
    if kind in _RANKS_ADD_UP:
        return max(1, sum(bound.rank for bound in inputs)) - 1
    place = _RANK_FROM_LENGTH.get(kind, len(inputs))
    if place < len(inputs):
        return inputs[place].length if kind == "Reshape" else max(inputs[place].length, highest)
    if kind in _RANK_FROM_ATTRIBUTE:
        return max(highest, _longest(node))
    if kind == "Einsum":
        return max((len(a.s) for a in node.attribute if a.name == "equation"), default=0)
    if kind in _AS_LONG_AS_FIRST or kind in _AS_LONG_AS_LONGEST or kind == "Concat":
        return highest
    return max(highest + (kind in _RANK_GROWS), _LEAST_RANK)


def _tall(node: onnx.NodeProto, inputs: Sequence[_Bound]) -> bool:
    """Whether a result has two dimensions at least, if inference knows how many it has."""
    kind = node.op_type
    first, second = (*inputs, _UNKNOWN, _UNKNOWN)[:2]
    if kind in _AS_LONG_AS_LONGEST or kind == "Concat":
        return any(bound.tall for bound in inputs)
    if kind in ("Gather", "MatMul"):
        return first.tall and second.tall
    shape = first if kind == "ConstantOfShape" else second
    if kind in _SHAPED_BY_A_LIST and shape.fewest > 1:
        return True
    if kind == "BatchNormalization" and len(node.output) > 1:
        return False  # the others are means and variances, one for each channel
    return kind in _NEVER_LISTS or (kind in _AS_TALL_AS_FIRST and first.tall)


def _passed_on(node: onnx.NodeProto, inputs: Sequence[_Bound]) -> float:
    """Return how many numbers are known of a result, where numbers are followed."""
    kind, listed = node.op_type, [bound.listed for bound in inputs] or [0]
    if kind == "Slice" and len(inputs) > 4 and inputs[4].volume > _LONGEST_STEP:  # noqa: PLR2004
        return math.inf
    if kind == "MeanVarianceNormalization":  # whose body passes them on several times
        return math.inf if listed[0] else 0
    if kind == "Shape":
        return inputs[0].rank if inputs else 0
    if kind == "Size":
        return 1
    if kind in ("Add", "Concat", "Mul", "Sub"):
        return 0 if not all(listed) else sum(listed) if kind == "Concat" else max(listed)
    return listed[-1] if kind == "Gather" and listed[0] else listed[0]


def _readable(node: onnx.NodeProto, inputs: Sequence[_Bound]) -> bool:
    """Whether inference reads a node within the lists that it makes, and makes none too long."""
    listed = inputs[1].length if node.op_type == "Split" and len(inputs) > 1 else math.inf
    said = [a.i for a in node.attribute if a.name == "num_outputs"]
    if node.op_type == "Split" and max(said, default=0) > _MOST_OF_ONE:
        return False  # it lists the sizes of all pieces, however few are outputs
    return len(node.output) <= min(most_outputs(node), listed) and has_equation(node)


def has_equation(node: onnx.NodeProto) -> bool:
    """Whether a node is no Einsum, or one whose equation is made of what equations are made of.

    At any other character, the loop that reads an equation in onnx does not end.
    """
    if node.op_type != "Einsum":
        return True
    return all(_EQUATION.fullmatch(a.s) for a in node.attribute if a.name == "equation")


def most_outputs(node: onnx.NodeProto) -> float:
    """Return how many outputs a node may have by its attributes; only a Split's say it.

    Where it has more, shape inference writes behind the end of a list, in onnx and in ONNX Runtime.
    """
    said = [
        a.i if a.name == "num_outputs" else len(a.ints)
        for a in (node.attribute if node.op_type == "Split" else ())
        if a.name in _PIECES and not a.ref_attr_name
    ]
    return min(said, default=math.inf)


def _longest(node: onnx.NodeProto) -> int:
    return max((len(attribute.ints) for attribute in node.attribute), default=0)


def _length(node: onnx.NodeProto, inputs: Sequence[_Bound]) -> float:
    """Return how many elements a result may have, as far as inference can tell."""
    length = _unchecked_length(node, inputs)
    # An empty list beside an endless one is no number.
    return length if length < _ENDLESS else _ENDLESS if math.isfinite(length) else math.inf


def _unchecked_length(node: onnx.NodeProto, inputs: Sequence[_Bound]) -> float:
    kind = node.op_type
    first, second = (*inputs, _UNKNOWN, _UNKNOWN)[:2]
    if kind in _AS_LONG_AS_LONGEST:
        lengths = [bound.length for bound in inputs]
        grows = any(bound.tall for bound in inputs)  # a row and a column make a matrix
        return math.prod(lengths) if grows else max(lengths, default=math.inf)
    lengths_of: dict[str, Callable[[], float]] = {
        "Concat": lambda: sum(bound.length for bound in inputs),
        "ConstantOfShape": lambda: first.volume,
        "Expand": lambda: second.volume if first.length == 1 else math.inf,
        "Gather": lambda: second.length * (first.length if first.rank > 1 else 1),
        "OneHot": lambda: first.length * second.volume,  # of a constant depth
        # Inference does not ask whether the sizes agree.
        "Reshape": lambda: max(first.length, second.volume),
        "Shape": lambda: first.rank,
        "Size": lambda: 1,
        "Split": lambda: max(first.length, _largest_piece(node, second)),
    }
    if kind in lengths_of:
        return lengths_of[kind]()
    return first.length if kind in _AS_LONG_AS_FIRST else math.inf


def _largest_piece(node: onnx.NodeProto, split: _Bound) -> float:
    """Return a bound on what a Split says of one piece: beside negative ones, others are larger."""
    said = [abs(size) for a in node.attribute if a.name == "split" for size in a.ints]
    return split.volume if len(node.input) > 1 else max(said, default=0)


def _volume(node: onnx.NodeProto, inputs: Sequence[_Bound]) -> float:
    """Return how many elements a tensor has whose sizes a node lists."""
    if inputs and node.op_type == "Shape":
        return inputs[0].length if not node.attribute else math.inf
    return inputs[0].volume if inputs and node.op_type in ("Cast", "Identity") else math.inf


def _declared(value: onnx.ValueInfoProto) -> _Bound:
    kind = _tensor_type(value)
    sizes = kind.shape.dim
    known = kind.HasField("shape") and all(size.HasField("dim_value") for size in sizes)
    length = _elements([size.dim_value for size in sizes]) if known else math.inf
    return _Bound(rank=len(sizes), length=length, tall=len(sizes) > 1)


def _elements(sizes: Sequence[int]) -> float:
    """Return how many elements there are, or would be if no size were 0."""
    return min(math.prod(max(size, len(sizes) > 1) for size in sizes), _ENDLESS)


def _merged(bound: _Bound, declared: _Bound | None) -> _Bound:
    """Return what holds of a result that is declared too: inference keeps a declared rank."""
    if declared is None:
        return bound
    rank = max(bound.rank, declared.rank)
    if math.isfinite(declared.length):
        bound = bound._replace(length=declared.length)
    return bound._replace(rank=rank, tall=bound.tall or declared.tall)


def _of_constant(tensor: onnx.TensorProto) -> _Bound:
    elements, tall = _elements(tensor.dims), len(tensor.dims) > 1
    volume = math.inf
    readable = elements <= MOST_DIMENSIONS and not tensor.external_data
    if readable and tensor.data_type in (onnx.TensorProto.INT32, onnx.TensorProto.INT64):
        volume = _largest(map(int, numpy_helper.to_array(tensor).reshape(-1)))
    listed = 0 if tall else elements
    return _Bound(len(tensor.dims), elements, volume, listed, tall, listed)


def _of_attribute(attribute: onnx.AttributeProto) -> _Bound:
    if attribute.HasField("t"):
        return _of_constant(attribute.t)
    elements = max(len(attribute.ints), len(attribute.floats), len(attribute.strings), 1)
    volume = _largest(attribute.ints) if elements <= MOST_DIMENSIONS else math.inf
    return _Bound(1, elements, volume, elements, data=elements)


def _largest(numbers: Iterable[int]) -> float:
    """Return a number that is no smaller than any of these, nor than any product of them."""
    return min(math.prod(max(abs(number), 1) for number in numbers), _ENDLESS)


def _tensor_type(value: onnx.ValueInfoProto) -> onnx.TypeProto.Tensor:
    return value.type.tensor_type
