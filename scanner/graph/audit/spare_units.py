"""Weights of units that are multiplied by zero or cut off: no output depends on them.

Pruning leaves such units, with weights that were trained; whoever widens a layer for room leaves
others. What they hold is looked at as what nothing reads.
"""

import copy
import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import numpy_helper

from scanner.graph.audit import views
from scanner.graph.core.structure import LAYERS, Uses, attribute
from scanner.modelfile.domains import STANDARD_DOMAINS
from scanner.results import Observation, Severity

Array = npt.NDArray[Any]
Places = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]

# What changes each unit by itself, wherever that stands between two layers.
_BETWEEN = frozenset({
    "Add", "AveragePool", "BatchNormalization", "Clip", "Dropout", "Elu", "Flatten",
    "GlobalAveragePool", "HardSigmoid", "HardSwish", "Identity", "LeakyRelu", "MaxPool", "Mul",
    "Relu", "Selu", "Sigmoid", "Softplus", "Tanh",
})  # fmt: skip
_SCALING = frozenset({"BatchNormalization", "Mul"})
_MATRIX = 2
_SHOWN = 20
_LEAST = 256
"""Numbers below which a row holds nothing worth a name."""


Row = tuple[str, int, onnx.TensorProto]
"""The name of a layer's weights, how many units, and their weights as a tensor of their own."""


def rows(graph: onnx.GraphProto) -> Iterator[Row]:
    """Yield for each layer the weights of units that the layer behind it does not read."""
    uses = Uses(graph)
    for node in graph.node:
        own = weights_of(node, uses)
        if own is None:
            continue
        idle = ~_read(node, len(own), uses)
        held = own[idle].reshape(-1)
        if held.size >= _LEAST and held.any():
            yield node.input[1], int(idle.sum()), numpy_helper.from_array(np.array(held))


def told(found: Sequence[Row]) -> Iterator[Observation]:
    """Yield one observation for the units of all layers: as room, whatever lies there."""
    yield from as_room(
        "spare-units",
        "{units} units are multiplied by zero or cut off before anything reads them: no output "
        "depends on the {size} bytes of their weights",
        found,
    )


def as_room(code: str, said: str, found: Sequence[Row]) -> Iterator[Observation]:
    """Yield one observation for all rows that were found, if there are any.

    Args:
        code: Its code.
        said: Its sentence, with places for `units`, `size` in bytes and the number of `tensors`.
        found: The rows.
    """
    if found:
        units = sum(count for _, count, _ in found)
        size = sum(views.size(held) for *_, held in found)
        yield Observation(
            code=code,
            severity=Severity.NOTE,
            sentence=said.format(units=units, size=size, tensors=len(found)),
            nodes=tuple(name for name, *_ in found[:_SHOWN]),
            details={"count": units, "bytes": size},
        )


def weights_of(node: onnx.NodeProto, uses: Uses) -> Array | None:
    """Return a layer's weights, (units, what each reads, ...)."""
    if node.op_type not in LAYERS or node.domain not in STANDARD_DOMAINS or len(node.input) <= 1:
        return None
    tensor = uses.constants.get(node.input[1])
    numbers = None if tensor is None else views.numbers(tensor)
    # A file may say more of a tensor's size than it holds.
    if tensor is None or numbers is None or math.prod(tensor.dims) != numbers.size:
        return None
    if len(tensor.dims) < _MATRIX or not numbers.size or min(tensor.dims) <= 0:
        return None
    array = numbers.reshape(tuple(tensor.dims))
    turned = node.op_type == "Gemm" and attribute(node, "transB", 0)
    if node.op_type != "Conv" and not turned:
        return array.T if array.ndim == _MATRIX else None
    return array


def _read(node: onnx.NodeProto, units: int, uses: Uses) -> Flags:
    """Return which of a layer's units something reads, (units,)."""
    read = np.zeros(units, np.bool_)
    waiting = [(next(iter(node.output), ""), np.arange(units), _Layout(node, uses))]
    while waiting and not read.all():
        waiting += _behind(*waiting.pop(), read)
    return read


class _Layout:
    """How a layer's units lie in what it makes.

    Attributes:
        uses: The graph.
        axes: The axis of the units, as a node may name it; empty behind a Flatten.
        trailing: How many axes stand behind that of the units.
    """

    def __init__(self, node: onnx.NodeProto, uses: Uses) -> None:
        self.uses = uses
        conv = node.op_type == "Conv"
        kernel = uses.constants[node.input[1]].dims
        self.trailing = len(kernel) - _MATRIX if conv else 0
        self.axes = {1, -1 - self.trailing} if node.op_type != "MatMul" else {-1}

    def flat(self) -> "_Layout":
        """Return the layout behind a Flatten."""
        layout = copy.copy(self)
        layout.axes = set()
        return layout


def _behind(
    value: str, units: Places, layout: _Layout, read: Flags
) -> Iterator[tuple[str, Places, _Layout]]:
    """Mark the units that are read, and yield the values that hold others, with these.

    `units` says which of them lie in a value, in order; one that was multiplied by zero on the way
    is -1 there.
    """
    uses = layout.uses
    readers = uses.consumers.get(value, [])
    if value in uses.outputs or not readers:
        _mark(units, read)  # what nothing reads at all is told as such
    for reader in readers:
        if reader.domain in STANDARD_DOMAINS and reader.op_type in LAYERS:
            _mark(_of_layer(reader, value, units, uses), read)
            continue
        known = reader.domain in STANDARD_DOMAINS
        results = _of_step(reader, value, units, layout) if known else None
        if results is None:
            _mark(units, read)
            continue
        behind = layout.flat() if reader.op_type == "Flatten" else layout
        yield from (
            (name, left, behind) for name, left in zip(reader.output, results, strict=False)
        )


def _mark(units: Places, read: Flags) -> None:
    read[units[units >= 0]] = True


def _of_layer(reader: onnx.NodeProto, value: str, units: Places, uses: Uses) -> Places:
    """Return those units that a layer multiplies by anything but zero."""
    theirs = weights_of(reader, uses) if reader.input[0] == value else None
    grouped = attribute(reader, "group", 1) != 1
    if theirs is None or grouped or not len(units) or theirs.shape[1] % len(units):
        return units
    # Behind a Flatten each unit has as many columns as its map has places.
    weights = np.moveaxis(theirs, 1, 0).reshape(len(units), -1)
    kept: Places = units[(weights != 0).any(axis=1)]
    return kept


def _of_step(
    node: onnx.NodeProto, value: str, units: Places, layout: _Layout
) -> list[Places] | None:
    """Return which units are left in each output of a node between layers; None: all are read."""
    constants = [layout.uses.constants.get(name) for name in node.input if name != value]
    if len(constants) != max(len(node.input) - 1, 0) or not node.output:
        return None
    if node.op_type in _SCALING and not constants:
        return None
    if node.op_type in ("Slice", "Gather") and layout.axes:
        return _cut(node, units, layout)
    if node.op_type not in _BETWEEN or any(
        held is None for held, name in zip(constants, _others(node, value), strict=True) if name
    ):
        return None
    if node.op_type in _SCALING and layout.axes:
        trailing = layout.trailing if node.op_type == "Mul" else 0
        return [np.where(_zeros(constants[0], len(units), trailing), -1, units)]
    return [units]


def _others(node: onnx.NodeProto, value: str) -> list[str]:
    return [name for name in node.input if name != value]


def _zeros(factor: onnx.TensorProto | None, units: int, trailing: int) -> Flags:
    """Return which units a factor makes zero, (units,)."""
    numbers = None if factor is None else views.numbers(factor)
    shape = [] if factor is None else [*factor.dims]
    if trailing and shape[-trailing:] != [1] * trailing:
        return np.zeros(units, np.bool_)
    if numbers is None or numbers.size != units or math.prod(shape) != units:
        return np.zeros(units, np.bool_)
    return np.asarray(numbers == 0)


def _cut(node: onnx.NodeProto, units: Places, layout: _Layout) -> list[Places] | None:
    """Return which units a Slice or a Gather with constant places leaves."""
    inputs = [layout.uses.constants.get(name) for name in node.input[1:]]
    lists = [None if each is None else views.numbers(each) for each in inputs]
    if any(each is None for each in lists):
        return None
    known = [each for each in lists if each is not None]
    if node.op_type == "Gather":
        whole = int(attribute(node, "axis", 0)) in layout.axes and len(known) == 1
        return [units[known[0].astype(np.int64)]] if whole and _fits(known[0], units) else None
    old = [attribute(node, name) for name in ("starts", "ends", "axes")]
    starts, ends, axes = (
        known[:3] if len(known) >= _BOUNDS else [np.asarray(e or [], np.int64) for e in old]
    )
    if not len(starts) == len(ends) == len(axes) == 1 or len(known) > _BOUNDS:
        return None
    if int(axes[0]) not in layout.axes:
        return [units]
    return [units[int(starts[0]) : int(ends[0])]]


_BOUNDS = 3  # starts, ends and axes; a Slice with steps is passed over


def _fits(index: Array, units: Places) -> bool:
    return bool(index.size and index.min() >= -len(units) and index.max() < len(units))
