"""Numbers of tables that no index reaches: what a Slice cuts off, rows that a Gather never takes.

The place of each number is sent through the operators that only choose and move numbers; what never
arrives at an operator that computes is read by nothing. An index that depends on the image is
followed to what bounds it: the position of a largest value, a truth, a byte, a limit.
"""

import dataclasses
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import numpy_helper
from onnx.external_data_helper import uses_external_data

from scanner.graph.audit import views
from scanner.graph.core.facts import FLOATING
from scanner.graph.core.structure import Uses, attribute, integers
from scanner.modelfile.domains import STANDARD_DOMAINS
from scanner.results import Observation, Severity

Array = npt.NDArray[Any]
Places = npt.NDArray[np.int64]
"""Which number of the table stands where; -1 for one that is not of the table."""

_LEAST = 64
"""Numbers below which nothing worth a name can be hidden."""
_DIFFERENT = 16
"""So many of them differ: fillers are alike."""
_MOST = 1 << 22
"""Numbers of a table that is followed."""
_WIDEST = 1 << 24
"""Numbers that a step may make of them."""
_ALL = 1 << 27
"""Numbers that are followed by a step in all of a graph."""
_DEEPEST = 32
_SHOWN = 20


class Followed(Uses):
    """A graph in which numbers are followed, as far as a budget goes.

    Attributes:
        values: What the file says of its values, by name.
        given: The same of its inputs.
        bounds: Between which numbers values lie, once that is known.
        left: How many numbers may still be followed by a step.
    """

    def __init__(self, graph: onnx.GraphProto) -> None:
        super().__init__(graph)
        self.given = {value.name: value for value in graph.input}
        self.values = {v.name: v for v in (*graph.output, *graph.input, *graph.value_info)}
        self.bounds: dict[str, Interval | None] = {}
        self.left = _ALL


@dataclasses.dataclass(frozen=True, slots=True)
class Spare:
    """The numbers of a table that no index reaches.

    Attributes:
        name: The table.
        numbers: They, in the order of the table.
    """

    name: str
    numbers: Array


def find(graphs: Iterable[Followed]) -> list[Spare]:
    """Return the tables of some graphs with many numbers that no index reaches."""
    return [spare for uses in graphs for spare in _of_graph(uses)]


def told(found: Sequence[Spare]) -> Iterator[Observation]:
    """Yield one observation for all tables: as room, whatever lies there."""
    if found:
        count = sum(spare.numbers.size for spare in found)
        yield Observation(
            code="spare-rows",
            severity=Severity.NOTE,
            sentence=f"No index reaches {count} numbers of {len(found)} tables, whatever the image "
            "is (with pixels from 0 to 255): no output depends on them",
            nodes=tuple(spare.name for spare in found[:_SHOWN]),
            details={"count": count, "bytes": sum(spare.numbers.nbytes for spare in found)},
        )


def _of_graph(uses: Followed) -> Iterator[Spare]:
    for name, tensor in uses.constants.items():
        readers = uses.consumers.get(name, [])
        count = math.prod(tensor.dims)
        if not _LEAST < count <= _MOST or uses_external_data(tensor) or name in uses.given:
            continue
        if not readers or any(reader.op_type not in _RULES for reader in readers):
            continue
        numbers = views.numbers(tensor)
        if numbers is None or numbers.size != count:
            continue
        reached = np.zeros(count, np.bool_)
        places = np.arange(count).reshape(tuple(tensor.dims))
        if not _follow(name, places, uses, reached, _DEEPEST):
            continue
        spare = numbers[~reached]
        if spare.size >= _LEAST and len(np.unique(spare)) > _DIFFERENT:
            yield Spare(name, spare)


def follow(value: str, places: Places, uses: Followed, reached: Array) -> None:
    """Mark in `reached` what of a value something reads.

    Args:
        value: What a node makes.
        places: Which entry of `reached` each number of it belongs to, in the shape of the value.
        uses: The graph.
        reached: One truth for each entry.
    """
    _follow(value, places, uses, reached, _DEEPEST)


def _follow(value: str, places: Places, uses: Followed, reached: Array, left: int) -> bool:
    """Mark the places that something reads; False where all are, as far as can be told."""
    readers = uses.consumers.get(value, [])
    uses.left -= (places.size + 1) * len(readers)
    if value in uses.outputs or left == 0 or uses.left < 0:
        _mark(places, reached)
        return not bool(reached.all())
    for reader in readers:
        rule = _RULES.get(reader.op_type) if reader.domain in STANDARD_DOMAINS else None
        results = None
        if rule is not None:
            try:
                results = rule(reader, value, places, uses)
            except (ValueError, IndexError, TypeError, KeyError):
                results = None  # the runtime will refuse it, or it is beyond these rules
        if results is None:
            _mark(places, reached)
        elif isinstance(results, np.ndarray):
            _mark(results, reached)
        else:
            for name, result in zip(reader.output, results, strict=False):
                if name and not _follow(name, result, uses, reached, left - 1):
                    return False
        if reached.all():
            return False
    return True


def _mark(places: Places, reached: Array) -> None:
    reached[places[places >= 0]] = True


Results = Sequence[Places] | Places | None
"""What each output holds; an array: what is read, in some order; None: all is read."""
Rule = Callable[[onnx.NodeProto, str, Places, Followed], Results]


def _array(uses: Followed, node: onnx.NodeProto, place: int) -> Array | None:
    """Return a constant input of a node; None where it has none there, or it is no constant."""
    name = node.input[place] if len(node.input) > place else ""
    tensor = uses.constants.get(name)
    if tensor is None or uses_external_data(tensor):
        return None
    return numpy_helper.to_array(tensor)


def whole_numbers(uses: Followed, node: onnx.NodeProto, place: int, name: str) -> list[int] | None:
    """Return whole numbers that older operators have as an attribute, newer ones as an input."""
    held = integers(node, name)
    if held is not None:
        return held
    array = _array(uses, node, place)
    if array is None or array.dtype.kind not in "iu":
        return None
    return [int(each) for each in array.reshape(-1)]


def _check_size(numbers: int) -> None:
    """Refuse to make more numbers than there is memory for, as of a row and a column a table.

    Raises:
        ValueError: They are more.
    """
    if numbers > _WIDEST:
        raise ValueError


def _same(_node: onnx.NodeProto, _value: str, places: Places, _uses: Followed) -> Results:
    return [places]


def _slice(node: onnx.NodeProto, value: str, places: Places, uses: Followed) -> Results:
    if node.input[0] != value:
        return None
    starts, ends = whole_numbers(uses, node, 1, "starts"), whole_numbers(uses, node, 2, "ends")
    if starts is None or ends is None:
        return None
    axes = whole_numbers(uses, node, 3, "axes")
    if axes is None:
        if len(node.input) > 3 and node.input[3]:  # noqa: PLR2004
            return None
        axes = list(range(len(starts)))
    steps = whole_numbers(uses, node, 4, "steps")
    if steps is None:
        if len(node.input) > 4 and node.input[4]:  # noqa: PLR2004
            return None
        steps = [1] * len(starts)
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        size = places.shape[axis]
        stop: int | None = end
        if step < 0 and end < -size:
            stop = None
        keys = [slice(None)] * places.ndim
        keys[axis] = slice(start, stop, step)
        places = places[tuple(keys)]
    return [places]


def _gather(node: onnx.NodeProto, value: str, places: Places, uses: Followed) -> Results:
    if node.input[0] != value or node.input[1] == value:
        return None
    axis = int(attribute(node, "axis", 0))
    index = _array(uses, node, 1)
    if index is not None:
        _check_size(places.size // max(places.shape[axis], 1) * index.size)
        return [np.take(places, index.astype(np.int64), axis=axis)]
    bounds = _bounds(node.input[1], uses, _DEEPEST)
    size = places.shape[axis]
    if bounds is None or not 0 <= bounds[0] <= bounds[1] < size:
        return None
    return np.take(places, np.arange(math.floor(bounds[0]), math.floor(bounds[1]) + 1), axis=axis)


def _gather_elements(node: onnx.NodeProto, value: str, places: Places, uses: Followed) -> Results:
    index = _array(uses, node, 1)
    if node.input[0] != value or index is None:
        return None
    axis = int(attribute(node, "axis", 0))
    cut = [
        slice(None) if at == axis % places.ndim else slice(n) for at, n in enumerate(index.shape)
    ]
    return [
        np.take_along_axis(places[tuple(cut)], index.astype(np.int64) % places.shape[axis], axis)
    ]


def _gather_nd(node: onnx.NodeProto, value: str, places: Places, uses: Followed) -> Results:
    index = _array(uses, node, 1)
    if node.input[0] != value or index is None or attribute(node, "batch_dims", 0):
        return None
    depth = index.shape[-1]
    _check_size(index.size // max(depth, 1) * math.prod(places.shape[depth:]))
    return [places[tuple(np.moveaxis(index.astype(np.int64), -1, 0))]]


def _compress(node: onnx.NodeProto, value: str, places: Places, uses: Followed) -> Results:
    chosen = _array(uses, node, 1)
    if node.input[0] != value or chosen is None:
        return None
    axis = attribute(node, "axis")
    return [np.compress(chosen.astype(bool), places, None if axis is None else int(axis))]


def _split(node: onnx.NodeProto, value: str, places: Places, uses: Followed) -> Results:
    axis = int(attribute(node, "axis", 0))
    sizes = whole_numbers(uses, node, 1, "split")
    if node.input[0] != value:
        return None
    if sizes is None:
        if len(node.input) > 1 and node.input[1]:
            return None
        count = int(attribute(node, "num_outputs", len(node.output)))
        each = -(-places.shape[axis] // count)
        sizes = [each] * (count - 1)
    return np.split(places, np.cumsum(sizes)[: len(node.output) - 1], axis=axis)


def _reshape(node: onnx.NodeProto, value: str, places: Places, uses: Followed) -> Results:
    shape = whole_numbers(uses, node, 1, "shape")
    if node.input[0] != value or shape is None:
        return None
    if not attribute(node, "allowzero", 0):
        shape = [places.shape[at] if size == 0 else size for at, size in enumerate(shape)]
    return [places.reshape(shape)]


def _flatten(node: onnx.NodeProto, _value: str, places: Places, _uses: Followed) -> Results:
    axis = int(attribute(node, "axis", 1))
    axis += places.ndim if axis < 0 else 0
    return [places.reshape(math.prod(places.shape[:axis]), -1)]


def _squeeze(node: onnx.NodeProto, value: str, places: Places, uses: Followed) -> Results:
    axes = whole_numbers(uses, node, 1, "axes")
    if (axes is None and len(node.input) > 1) or node.input[0] != value:
        return None
    return [np.squeeze(places, None if axes is None else tuple(axes))]


def _unsqueeze(node: onnx.NodeProto, value: str, places: Places, uses: Followed) -> Results:
    axes = whole_numbers(uses, node, 1, "axes")
    return None if axes is None or node.input[0] != value else [np.expand_dims(places, tuple(axes))]


def _transpose(node: onnx.NodeProto, _value: str, places: Places, _uses: Followed) -> Results:
    order = attribute(node, "perm")
    return [np.transpose(places, None if order is None else [int(at) for at in order])]


def _masked(node: onnx.NodeProto, value: str, places: Places, uses: Followed) -> Results:
    """Take out what a product with a constant makes zero; the rest is read."""
    if node.input[0] == node.input[1]:
        return None
    mask = _array(uses, node, 1 if node.input[0] == value else 0)
    if mask is None:
        return None
    _check_size(math.prod(np.broadcast_shapes(mask.shape, places.shape)))
    with np.errstate(invalid="ignore"):
        return np.where(mask == 0, -1, places)


def _chosen(node: onnx.NodeProto, value: str, places: Places, uses: Followed) -> Results:
    """Take out what a constant condition does not choose."""
    condition = _array(uses, node, 0)
    if condition is None or node.input[1] == node.input[2] or node.input[0] == value:
        return None
    _check_size(math.prod(np.broadcast_shapes(condition.shape, places.shape)))
    chosen = condition.astype(bool)
    return np.where(chosen if node.input[1] == value else ~chosen, places, -1)


_RULES: Mapping[str, Rule] = {
    "Cast": _same, "Compress": _compress, "Flatten": _flatten, "Gather": _gather,
    "GatherElements": _gather_elements, "GatherND": _gather_nd, "Identity": _same, "Mul": _masked,
    "Neg": _same, "Reshape": _reshape, "Slice": _slice, "Split": _split, "Squeeze": _squeeze,
    "Transpose": _transpose, "Unsqueeze": _unsqueeze, "Where": _chosen,
}  # fmt: skip

Interval = tuple[float, float]

_TRUTHS = frozenset({
    "And", "Equal", "Greater", "GreaterOrEqual", "IsInf", "IsNaN", "Less", "LessOrEqual", "Not",
    "Or", "Xor",
})  # fmt: skip
_PASS_ON = frozenset({
    "Identity", "Reshape", "Squeeze", "Unsqueeze", "Flatten", "Transpose", "Slice", "Gather",
    "Expand", "Tile", "ReduceMax", "ReduceMin", "ReduceMean", "Round", "Floor", "Ceil",
})  # fmt: skip
_BETWEEN: Mapping[str, Interval] = {
    "Sigmoid": (0, 1), "Softmax": (0, 1), "HardSigmoid": (0, 1), "Tanh": (-1, 1), "Sign": (-1, 1),
    "Sin": (-1, 1), "Cos": (-1, 1),
}  # fmt: skip
_WHOLE: Mapping[int, Interval] = {
    onnx.TensorProto.BOOL: (0, 1), onnx.TensorProto.UINT8: (0, 255),
    onnx.TensorProto.INT8: (-128, 127),
}  # fmt: skip


def _bounds(value: str, uses: Followed, left: int) -> Interval | None:
    """Return between which numbers a value lies whatever the image is; None if unknown."""
    if value not in uses.bounds:
        uses.bounds[value] = None  # of a value that leads to itself nothing is known
        uses.bounds[value] = _of_value(value, uses, left)
    return uses.bounds[value]


def _of_value(value: str, uses: Followed, left: int) -> Interval | None:
    if value in uses.constants and not uses_external_data(uses.constants[value]):
        numbers = views.numbers(uses.constants[value])
        if numbers is None or not numbers.size or numbers.dtype.kind not in "fiu":
            return None
        return float(numbers.min()), float(numbers.max())
    node = uses.producer(value)
    if node is None:
        return _of_input(uses.given[value]) if value in uses.given else None
    if left == 0 or node.domain not in STANDARD_DOMAINS:
        return None
    return _of_node(node, uses, left - 1)


def _of_input(value: onnx.ValueInfoProto) -> Interval | None:
    """Return the numbers of an input: of an image, in whatever units, none but 0 to 255."""
    kind = value.type.tensor_type
    pixels = kind.elem_type in FLOATING and len(kind.shape.dim) == _IMAGE
    return _PIXELS if pixels else _WHOLE.get(kind.elem_type)


_IMAGE = 4
_PIXELS = (0.0, 255.0)


def _of_node(node: onnx.NodeProto, uses: Followed, left: int) -> Interval | None:  # noqa: PLR0911 - one rule after another
    kind = node.op_type
    if kind in _TRUTHS:
        return (0, 1)
    if kind in _BETWEEN:
        return _BETWEEN[kind]
    inner = _bounds(node.input[0], uses, left) if node.input else None
    if kind in _PASS_ON:
        return inner if inner is None else (math.floor(inner[0]), math.ceil(inner[1]))
    if kind == "Cast":
        to = int(attribute(node, "to", 0))
        limits = _WHOLE.get(to)
        return (
            inner
            if limits is None or (inner and limits[0] <= inner[0] <= inner[1] <= limits[1])
            else limits
        )
    if kind in ("ArgMax", "ArgMin"):
        return _positions(node, uses)
    if kind in ("Clip", "Min", "Max", "Mod", "Add", "Sub", "Mul"):
        return _of_two(node, inner, uses, left)
    return None


def _positions(node: onnx.NodeProto, uses: Followed) -> Interval | None:
    """Return the positions of a largest number, where the file says of how many."""
    value = uses.values.get(node.input[0])
    sizes = () if value is None else value.type.tensor_type.shape.dim
    axis = int(attribute(node, "axis", 0))
    size = sizes[axis].dim_value if -len(sizes) <= axis < len(sizes) else 0
    return (0, size - 1) if size > 0 else None


def _of_two(
    node: onnx.NodeProto, inner: Interval | None, uses: Followed, left: int
) -> Interval | None:
    kind = node.op_type
    rest = [_bounds(name, uses, left) if name else None for name in node.input[1:]]
    if kind == "Clip":
        low = attribute(node, "min", rest[0][0] if rest and rest[0] else -math.inf)
        high = attribute(node, "max", rest[1][1] if len(rest) > 1 and rest[1] else math.inf)
        below, above = inner or (-math.inf, math.inf)
        ends = (min(max(below, low), high), max(min(above, high), low))
        return ends if math.isfinite(sum(ends)) else None
    if len(rest) != 1 or rest[0] is None:
        return None
    a, b = rest[0]
    if kind == "Mod":
        return (0, b - 1) if a > 0 and not attribute(node, "fmod", 0) else None
    if inner is None:
        return None
    low, high = inner
    products = (low * a, low * b, high * a, high * b)
    corners = {
        "Add": (low + a, high + b), "Sub": (low - b, high - a),
        "Min": (min(low, a), min(high, b)), "Max": (max(low, a), max(high, b)),
        "Mul": (min(products), max(products)),
    }  # fmt: skip
    return corners[kind]
