"""Numbers by which an operator does nothing: it adds next to nothing, or multiplies by next to one.

Such a node answers as if it were not there, whatever the numbers are in their last digits. So do
bounds that no value comes near, ends of a Slice that lie behind the end, and two nodes of which the
second takes back what the first did. Exporters write the same few numbers there: a one, a zero, the
largest of a type.
"""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import onnx

from scanner.graph.audit import views
from scanner.graph.audit.idle_attributes import not_negative
from scanner.graph.core.structure import Uses, label
from scanner.modelfile.domains import STANDARD_DOMAINS
from scanner.modelfile.nested import Contents
from scanner.results import Observation, Severity

Array = npt.NDArray[Any]

_DIFFERENT = 16
"""So many numbers differ; fillers are alike."""
_NOTHING = 1e-7
"""Nothing to what is of the order of one."""
_ONE = 1e-4
"""Nothing to a one: further from it no weights stay that were ever trained."""
_FAR = 1e3
"""No bound of an activation."""
_MOST = 1 << 20
"""Numbers of a constant that are looked at."""
_SHOWN = 20


@dataclasses.dataclass(frozen=True, slots=True)
class Neutral:
    """The numbers of one kind by which nodes do nothing.

    Attributes:
        said: What they do, as in "are added, and are next to nothing".
        nodes: The labels of the nodes.
        numbers: They, in the order of the nodes.
    """

    said: str
    nodes: Sequence[str]
    numbers: Array


def find(contents: Contents) -> list[Neutral]:
    """Return the numbers of a model by which nodes do nothing, where there are many of a kind."""
    met: dict[str, list[tuple[str, Array]]] = {said: [] for said in _SAID.values()}
    for graph in contents.of(onnx.GraphProto):
        uses = Uses(graph)
        sizes = _sizes(graph)
        for node in graph.node:
            if node.input and node.domain in STANDARD_DOMAINS and node.op_type in _RULES:
                for kind, numbers in _RULES[node.op_type](node, uses, sizes):
                    met[_SAID[kind]].append((label(node), numbers.reshape(-1)))
    return [each for said, found in met.items() if (each := _many(said, found)) is not None]


def told(found: Sequence[Neutral]) -> Iterator[Observation]:
    """Yield one observation for each kind."""
    for each in found:
        yield Observation(
            code="neutral-numbers",
            severity=Severity.NOTE,
            sentence=f"{each.numbers.size} numbers of {len(each.nodes)} nodes {each.said}: no "
            "output depends on them",
            nodes=tuple(each.nodes[:_SHOWN]),
            details={"count": int(each.numbers.size), "bytes": int(each.numbers.nbytes)},
        )


def _many(said: str, found: Sequence[tuple[str, Array]]) -> Neutral | None:
    kinds = {numbers.dtype for _, numbers in found}
    if not found:
        return None
    kind = kinds.pop() if len(kinds) == 1 else np.dtype(np.float64)
    numbers = np.concatenate([each.astype(kind) for _, each in found])
    if len(np.unique(numbers)) < _DIFFERENT:
        return None
    return Neutral(said, tuple(dict.fromkeys(name for name, _ in found)), numbers)


_SAID = {
    "added": "are added, and are next to nothing",
    "factors": "are factors next to one",
    "bounds": "are bounds that no value comes near",
    "slopes": "are slopes for negative numbers, where there are none",
    "ends": "are ends of slices that lie beyond every end",
    "pairs": "are taken back by the next node",
}
Found = Iterator[tuple[str, Array]]


class Sizes(NamedTuple):
    """The sizes of axes that a file tells: the largest of all, and of each input."""

    largest: int
    inputs: Mapping[str, int]


Rule = Callable[[onnx.NodeProto, Uses, Sizes], Found]


def _constant(node: onnx.NodeProto, place: int, uses: Uses) -> Array | None:
    """Return the numbers of a constant input, or None."""
    name = node.input[place] if len(node.input) > place else ""
    tensor = uses.constants.get(name) if name else None
    numbers = None if tensor is None else views.numbers(tensor)
    if numbers is None or not 0 < numbers.size <= _MOST or numbers.dtype.kind not in "fi":
        return None
    return numbers


def _fractions(node: onnx.NodeProto, place: int, uses: Uses) -> Array | None:
    numbers = _constant(node, place, uses)
    return numbers if numbers is not None and numbers.dtype.kind == "f" else None


def _of_sum(node: onnx.NodeProto, uses: Uses, _sizes: Sizes) -> Found:
    for place in range(len(node.input)):
        numbers = _fractions(node, place, uses)
        if numbers is not None and 0 < np.abs(numbers).max() <= _NOTHING:
            yield "added", numbers
    yield from _taken_back(node, uses)


def _of_product(node: onnx.NodeProto, uses: Uses, _sizes: Sizes) -> Found:
    for place in range(1 if node.op_type in ("Div", "Pow") else 0, len(node.input)):
        if (numbers := _fractions(node, place, uses)) is not None and _next_to_one(numbers):
            yield "factors", numbers
    yield from _taken_back(node, uses)


def _next_to_one(numbers: Array) -> bool:
    apart = np.abs(numbers.astype(np.float64) - 1).max()
    return bool(0 < apart <= _ONE)


def _taken_back(node: onnx.NodeProto, uses: Uses) -> Found:
    """Yield a constant that the next node takes back."""
    behind = uses.only_consumer(node.output[0]) if node.output else None
    if behind is None or (node.op_type in _SUMS) != (behind.op_type in _SUMS):
        return
    first, second = _effect(node, "", uses), _effect(behind, node.output[0], uses)
    if first is None or second is None or first.shape != second.shape:
        return
    still = 0.0 if node.op_type in _SUMS else 1.0
    with np.errstate(all="ignore"):
        both = first + second if node.op_type in _SUMS else first * second
        near = bool((np.abs(both - still) <= _AGAIN * np.maximum(np.abs(first), 1)).all())
    if near and not np.all(first == still):
        yield "pairs", first


_SUMS = frozenset({"Add", "Sub"})
_AGAIN = 1e-5


def _effect(node: onnx.NodeProto, value: str, uses: Uses) -> Array | None:
    """Return what a node with one constant adds to a value, or multiplies it by."""
    if len(node.input) != 2 or node.op_type not in (*_SUMS, "Mul", "Div"):  # noqa: PLR2004
        return None
    turned = node.op_type in ("Sub", "Div")
    place = 1 if turned or node.input[0] == value or node.input[1] in uses.constants else 0
    numbers = _fractions(node, place, uses)
    if numbers is None or (value and node.input[1 - place] != value):
        return None
    if not turned:
        return numbers.astype(np.float64)
    with np.errstate(divide="ignore"):
        wide = numbers.astype(np.float64)
        return -wide if node.op_type == "Sub" else 1 / wide


def _of_normalisation(node: onnx.NodeProto, uses: Uses, _sizes: Sizes) -> Found:
    parts = [_fractions(node, place, uses) for place in range(1, 5)]
    if any(part is None for part in parts):
        return
    scale, shift, mean, variance = (np.asarray(part) for part in parts)
    still = max(np.abs(shift).max(), np.abs(mean).max()) <= _ONE
    if still and max(np.abs(scale - 1).max(), np.abs(variance - 1).max()) <= _ONE:
        yield "factors", np.concatenate([scale, variance])
        yield "added", np.concatenate([shift, mean])


def _of_bounds(node: onnx.NodeProto, uses: Uses, _sizes: Sizes) -> Found:
    low = node.op_type in ("Max", "Clip")
    for place in range(len(node.input)):
        numbers = _fractions(node, place, uses)
        if numbers is None:
            continue
        below = -numbers if (low and place == 1) or node.op_type == "Max" else numbers
        far = below.min() >= _FAR and bool(np.isfinite(below).all())
        if far or (node.op_type == "Max" and _never_reached(node, below, uses)):
            yield "bounds", numbers


def _never_reached(node: onnx.NodeProto, below: Array, uses: Uses) -> bool:
    """Whether bounds, turned round, differ and are of numbers none of which is negative."""
    differ = 0 <= below.min() < below.max()
    return bool(differ) and any(not_negative(name, uses.producer) for name in node.input)


def _of_slope(node: onnx.NodeProto, uses: Uses, _sizes: Sizes) -> Found:
    numbers = _fractions(node, 1, uses)
    if numbers is not None and not_negative(node.input[0], uses.producer):
        yield "slopes", numbers


def _of_slice(node: onnx.NodeProto, uses: Uses, sizes: Sizes) -> Found:
    largest = min(sizes.largest, _size(node.input[0], uses, sizes) or sizes.largest)
    for place in (1, 2):
        numbers = _constant(node, place, uses)
        if numbers is None or numbers.dtype.kind != "i":
            continue
        wide = numbers.astype(np.int64)
        beyond = wide[(wide > largest) | (wide < -largest - 1)]
        beyond = beyond[~np.isin(beyond, _LIMITS)]
        if beyond.size:
            yield "ends", beyond


def _size(value: str, uses: Uses, sizes: Sizes) -> int | None:
    """Return the largest axis of what a value is cut out of, where the file says it."""
    for _ in range(_FARTHEST):
        if value in sizes.inputs:
            return sizes.inputs[value] or None
        maker = uses.producer(value)
        if maker is None or maker.op_type not in _NO_LARGER:
            return None
        value = maker.input[0]
    return None


_FARTHEST = 64
_NO_LARGER = frozenset({
    "Cast", "Clip", "Dropout", "Identity", "LeakyRelu", "Neg", "Relu", "Slice", "Transpose",
})  # fmt: skip
_LIMITS = np.asarray([
    sign * limit + more
    for limit in ((1 << 63) - 3, (1 << 31) - 1, (1 << 62))
    for sign in (1, -1)
    for more in (-1, 0, 1, 2)
], np.int64)  # fmt: skip


def _sizes(graph: onnx.GraphProto) -> Sizes:
    """Return the sizes of axes that the file knows of."""
    of_inputs = {}
    for value in graph.input:
        sizes = value.type.tensor_type.shape.dim
        if sizes:
            # An axis that is named is the batch, whose end nobody counts.
            of_inputs[value.name] = max(size.dim_value for size in sizes)
    known = [size for tensor in graph.initializer for size in tensor.dims]
    for value in (*graph.value_info, *graph.output):
        known += [size.dim_value for size in value.type.tensor_type.shape.dim]
    return Sizes(max((*known, *of_inputs.values()), default=0), of_inputs)


_RULES: Mapping[str, Rule] = {
    "Add": _of_sum, "BatchNormalization": _of_normalisation, "Clip": _of_bounds,
    "Div": _of_product, "Max": _of_bounds, "Min": _of_bounds, "Mul": _of_product,
    "PRelu": _of_slope, "Pow": _of_product, "Slice": _of_slice, "Sub": _of_sum, "Sum": _of_sum,
}  # fmt: skip
