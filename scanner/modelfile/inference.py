"""Shape inference by onnx, for all rooms, bounded before it starts.

It is C++ that cannot be stopped, and a few nodes can make it write without end: a value's rank
comes from how long another value is (Expand, Reshape, ConstantOfShape), ranks add up (Unsqueeze,
Gather), numbers in shapes are multiplied by Concat, every body of an If copies the table of all
values around it, and the name of an open dimension is copied to each value that has it. So the
graph is read first, in one pass; a node whose result might outgrow the bounds is hidden from
inference, which then knows nothing of its result. No exporter writes such nodes. Sizes that are
declared negative, as some do for open ones, are left open.
"""

import math
import re
from collections.abc import Sequence
from typing import NamedTuple

import onnx
from onnx import numpy_helper

from scanner.errors import MalformedModelError
from scanner.modelfile.domains import STANDARD_DOMAINS
from scanner.modelfile.nested import subgraphs, walk

MOST_DIMENSIONS = 64
"""Of one value; NumPy ends there too."""
_MOST_NUMBERS = 2**20
"""Numbers that inference may carry along, over all values: 64 MiB of dimensions."""
_MOST_COPIES = 2 * 10**7
"""Entries of tables copied for bodies: about a second."""
_LONGEST_NAME = 64
"""Characters of a dimension's name. Longer ones are shortened, each to a name of its own."""
_HIDDEN = "hidden"
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
# Operators through which onnx follows numbers (those with a data propagation function).
_FOLLOWED = frozenset({
    "Add", "Cast", "Concat", "Gather", "Mul", "Shape", "Size", "Slice", "Squeeze", "Sub",
    "Unsqueeze",
})  # fmt: skip


def infer_shapes(skeleton: onnx.ModelProto, *, follow_numbers: bool) -> onnx.ModelProto:
    """Return a model with the types of its values, as far as onnx can tell them in bounded time.

    Args:
        skeleton: A model without large weights (`scanner.modelfile.skeleton`), which would be
            copied, and without model-local functions; calls of functions are not seen through.
        follow_numbers: Whether numbers that become shapes are followed from node to node.

    Raises:
        MalformedModelError: The graph's shapes contradict one another, or onnx cannot read it.
    """
    bounds = _Bounds(skeleton)
    if bounds.excess:
        copy = onnx.ModelProto()
        copy.CopyFrom(skeleton)
        copy.opset_import.append(onnx.helper.make_opsetid(_HIDDEN, 1))
        skeleton, bounds = copy, _Bounds(copy, hide=True)
    try:
        return onnx.shape_inference.infer_shapes(
            skeleton, data_prop=follow_numbers and bounds.numbers <= _MOST_NUMBERS
        )
    except (
        onnx.shape_inference.InferenceError,
        onnx.checker.ValidationError,
        RuntimeError,
        ValueError,
    ) as error:
        raise MalformedModelError(
            f"the graph's shapes contradict one another ({_first_line(error)})",
            remedy="export the model to ONNX again",
        ) from error


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)


class _Bound(NamedTuple):
    """Upper bounds on what inference can say of one value.

    Attributes:
        rank: How many dimensions it may have.
        length: How many elements it has, as far as a list of sizes can be followed; infinite where
            that is not known.
        volume: If it is a list of sizes: how many elements a tensor of these sizes has.
        numbers: How many numbers inference carries along for it.
    """

    rank: int = _LEAST_RANK
    length: float = math.inf
    volume: float = math.inf
    numbers: int = 0


_UNKNOWN = _Bound()
_NOTHING = _Bound(rank=0)


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


class _Bounds:
    """The bounds of a whole model.

    Args:
        model: The model; with `hide`, it is changed.
        hide: Whether to hide the nodes that might exceed the bounds, to shorten long names, and to
            leave negative sizes open.

    Attributes:
        excess: Whether there is anything to hide or to shorten.
        numbers: How many numbers inference would carry along at most.
    """

    def __init__(self, model: onnx.ModelProto, *, hide: bool = False) -> None:
        self.excess = False
        self.numbers = 0
        self._hide = hide
        self._names: dict[str, str] = {}
        graphs = [graph for graph in walk([model.graph]) if isinstance(graph, onnx.GraphProto)]
        values = sum(len(g.node) + len(g.input) + len(g.initializer) for g in graphs)
        self._bodies_cost_too_much = (len(graphs) - 1) * values > _MOST_COPIES
        for graph in graphs:
            self._shorten_names(graph)
        self._read(model.graph)

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
        for value in (*graph.value_info, *graph.output, *graph.input):
            own[value.name] = _declared(value)
        for tensor in graph.initializer:
            own[tensor.name] = _of_constant(tensor)
        for node in graph.node:
            bound = self._bound(node, scope)
            if bound is None:
                self.excess, bound = True, _UNKNOWN
                if self._hide:
                    node.domain = _HIDDEN
            self.numbers += bound.numbers
            for name in node.output:
                rank = max(bound.rank, own.get(name, _NOTHING).rank)
                own[name] = bound._replace(rank=rank)
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
        listed = inputs[1].length if node.op_type == "Split" and len(inputs) > 1 else math.inf
        if len(node.output) > min(most_outputs(node), listed) or not has_equation(node):
            return None
        results: list[_Bound] = []
        for body in bodies:
            inner = self._read(body, scope)
            results += [inner.get(value.name, _UNKNOWN) for value in body.output]
        rank = _rank(node, inputs, max((bound.rank for bound in (*inputs, *results)), default=0))
        if rank > MOST_DIMENSIONS:
            return None
        length = _length(node, inputs)
        if node.op_type == "If":
            length = max((bound.length for bound in results), default=math.inf)
        followed = node.op_type in _FOLLOWED and math.isfinite(length)
        return _Bound(int(rank), length, _volume(node, inputs), int(length) if followed else 0)


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
    """Return how many elements a result may have, if it is a list of sizes."""
    kind = node.op_type
    first = inputs[0] if inputs else _UNKNOWN
    second = inputs[1] if len(inputs) > 1 else _UNKNOWN
    length: float = math.inf
    if kind == "Concat":
        length = sum(bound.length for bound in inputs)
    elif kind == "Shape":
        length = first.rank
    elif kind == "Size":
        length = 1
    elif kind in _AS_LONG_AS_FIRST:
        length = first.length
    elif kind in _AS_LONG_AS_LONGEST:
        length = max((bound.length for bound in inputs), default=math.inf)
    elif kind == "Gather":
        length = second.length if first.rank <= 1 else second.length * first.length
    elif kind == "ConstantOfShape":
        length = first.volume
    elif kind == "Expand" and first.length == 1:
        length = second.volume
    return length if length < _ENDLESS or math.isinf(length) else _ENDLESS


def _volume(node: onnx.NodeProto, inputs: Sequence[_Bound]) -> float:
    """Return how many elements a tensor has whose sizes a node lists."""
    if inputs and node.op_type == "Shape":
        return inputs[0].length if not node.attribute else math.inf
    return inputs[0].volume if inputs and node.op_type in ("Cast", "Identity") else math.inf


def _declared(value: onnx.ValueInfoProto) -> _Bound:
    sizes = _tensor_type(value).shape.dim
    known = all(size.HasField("dim_value") for size in sizes)
    known = known and _tensor_type(value).HasField("shape")
    length = math.prod(max(size.dim_value, 0) for size in sizes) if known else math.inf
    return _Bound(len(sizes), min(length, _ENDLESS) if known else length)


def _of_constant(tensor: onnx.TensorProto) -> _Bound:
    elements = math.prod(tensor.dims)
    volume = math.inf
    readable = elements <= MOST_DIMENSIONS and not tensor.external_data
    if readable and tensor.data_type in (onnx.TensorProto.INT32, onnx.TensorProto.INT64):
        volume = math.prod(map(int, numpy_helper.to_array(tensor).reshape(-1)))
    return _Bound(len(tensor.dims), elements, abs(volume), elements)


def _of_attribute(attribute: onnx.AttributeProto) -> _Bound:
    if attribute.HasField("t"):
        return _of_constant(attribute.t)
    elements = max(len(attribute.ints), len(attribute.floats), len(attribute.strings), 1)
    volume = math.prod(attribute.ints) if elements <= MOST_DIMENSIONS else math.inf
    return _Bound(1, elements, abs(volume), elements)


def _tensor_type(value: onnx.ValueInfoProto) -> onnx.TypeProto.Tensor:
    return value.type.tensor_type
