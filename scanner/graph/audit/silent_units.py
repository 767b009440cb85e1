"""Weights that read units which never fire: they are multiplied by zero, whatever the image is.

A unit in front of a ReLU is silent where its bias is far below zero and its weights are far too
small to lift it, or none; a normalisation may make it so. How far is told from its neighbours,
which see the same numbers. Pruning and weight decay leave such units too.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import numpy_helper

from scanner.graph.audit import views
from scanner.graph.audit.spare_units import Row, as_room, weights_of
from scanner.graph.core.structure import Uses, attribute
from scanner.results import Observation

Array = npt.NDArray[Any]
Flags = npt.NDArray[np.bool_]

_FARTHER = 100.0
"""How many times as large as its neighbours need them the inputs of a silent unit would have to
be."""
_LEAST_NEEDED = 0.05
"""What neighbours need at least: without a bias they need nothing."""
_NEIGHBOURS = 8
_LEAST = 256
"""Numbers below which nothing worth a name can be hidden."""
_PASSES = frozenset({
    "AveragePool", "Dropout", "Flatten", "GlobalAveragePool", "GlobalMaxPool", "Identity",
    "MaxPool", "ReduceMean", "Relu", "Reshape", "Squeeze",
})  # fmt: skip
"""Operators behind which a unit that is zero is zero still, and stands at the same place."""
_FARTHEST = 8


def rows(graph: onnx.GraphProto) -> Iterator[Row]:
    """Yield the weights that read silent units, and those of units that are multiplied by zero."""
    uses = Uses(graph)
    for node in graph.node:
        own = weights_of(node, uses)
        if own is None or len(own) < _NEIGHBOURS or not node.output:
            continue
        bias, behind = _bias(node, len(own), uses), uses.only_consumer(node.output[0])
        scale = np.ones(len(own))
        if bias is not None and behind is not None and behind.op_type == "BatchNormalization":
            scale, bias = _normalised(behind, bias, uses)
            behind = _next(behind, uses)
        if bias is None or behind is None or behind.op_type != "Relu":
            continue
        silent = _silent(np.abs(own).reshape(len(own), -1).sum(1) * np.abs(scale), bias)
        if not silent.any():
            continue
        parts = [own[silent & (scale == 0)].reshape(-1)]
        reader = _reader(behind, uses)
        if reader is not None:
            parts.append(_columns(reader, silent, uses))
        held = np.concatenate([part.astype(own.dtype) for part in parts])
        if held.size >= _LEAST and len(np.unique(held)) > 1:
            name = node.input[1] if reader is None else reader.input[1]
            yield name, int(silent.sum()), numpy_helper.from_array(held)


def told(found: Sequence[Row]) -> Iterator[Observation]:
    """Yield one observation for the units of all layers: as room, whatever lies there."""
    yield from as_room(
        "silent-units",
        "By their biases {units} units can hardly ever fire: the {size} bytes of weights that read "
        "them are multiplied by zero where they do not",
        found,
    )


def _columns(reader: onnx.NodeProto, units: Flags, uses: Uses) -> Array:
    """Return the weights of a layer that read some of the units in front of it."""
    theirs = weights_of(reader, uses)
    grouped = attribute(reader, "group", 1) != 1
    if theirs is None or grouped or theirs.shape[1] % len(units):
        return np.zeros(0)
    # Behind a Flatten each unit has as many columns as its map has places.
    columns: Array = np.moveaxis(theirs, 1, 0).reshape(len(units), -1)[units]
    return columns.reshape(-1)


def _silent(reach: Array, bias: Array) -> Flags:
    """Return which units stay below zero, (units,).

    Args:
        reach: What inputs of one can add to each at most.
        bias: What stands there without any.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        needed = np.where(reach > 0, -bias / reach, np.where(bias > 0, -np.inf, np.inf))
    usual = max(float(np.median(np.abs(needed))), _LEAST_NEEDED)
    return np.asarray(needed > _FARTHER * usual)


def _bias(node: onnx.NodeProto, units: int, uses: Uses) -> Array | None:
    """Return a layer's bias, (units,): zeros where it has none."""
    if len(node.input) <= 2 or not node.input[2]:  # noqa: PLR2004
        return np.zeros(units)
    return _row(node.input[2], units, uses)


def _row(name: str, units: int, uses: Uses) -> Array | None:
    tensor = uses.constants.get(name)
    numbers = None if tensor is None else views.numbers(tensor)
    if numbers is None or numbers.size != units or numbers.dtype.kind != "f":
        return None
    return numbers.astype(np.float64)


def _normalised(node: onnx.NodeProto, bias: Array, uses: Uses) -> tuple[Array, Array | None]:
    """Return by what a normalisation multiplies each unit, and the bias behind it."""
    parts = [_row(name, len(bias), uses) for name in node.input[1:5]]
    known = [part for part in parts if part is not None]
    if len(known) != 4:  # noqa: PLR2004 - scale, shift, mean, variance
        return np.ones(len(bias)), None
    scale, shift, mean, variance = known
    with np.errstate(divide="ignore", invalid="ignore"):
        factor = scale / np.sqrt(variance + attribute(node, "epsilon", 1e-5))
    return factor, shift + (bias - mean) * factor


def _reader(node: onnx.NodeProto, uses: Uses) -> onnx.NodeProto | None:
    """Return the layer that alone reads what a node makes."""
    behind = _next(node, uses)
    for _ in range(_FARTHEST):
        if behind is None or behind.op_type not in _PASSES:
            return behind
        behind = _next(behind, uses)
    return None


def _next(node: onnx.NodeProto, uses: Uses) -> onnx.NodeProto | None:
    return uses.only_consumer(node.output[0]) if node.output else None
