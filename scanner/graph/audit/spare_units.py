"""Weights of units that the next layer multiplies by zero: no output depends on them.

Pruning leaves such units, with weights that were trained; whoever widens a layer for room leaves
others. What they hold is looked at as what nothing reads.
"""

import math
from collections.abc import Iterable, Iterator

import numpy as np
import numpy.typing as npt
import onnx
from onnx import numpy_helper

from scanner.graph.audit import views
from scanner.graph.core.structure import Uses, attribute
from scanner.modelfile.domains import STANDARD_DOMAINS
from scanner.results import Observation, Severity

Array = npt.NDArray[np.generic]

_LAYERS = frozenset({"Conv", "Gemm", "MatMul"})
# What changes each unit by itself, wherever that stands between two layers.
_BETWEEN = frozenset({
    "Add", "AveragePool", "BatchNormalization", "Clip", "Dropout", "Elu", "Flatten",
    "GlobalAveragePool", "HardSigmoid", "HardSwish", "Identity", "LeakyRelu", "MaxPool", "Mul",
    "Relu", "Selu", "Sigmoid", "Softplus", "Tanh",
})  # fmt: skip
_MATRIX = 2
_SHOWN = 20
_LEAST = 1024
"""Numbers below which a row holds nothing worth a name."""


def rows(graph: onnx.GraphProto) -> Iterator[tuple[str, int, onnx.TensorProto]]:
    """Yield for each layer the weights of units that the layer behind it does not read.

    As (the name of the layer's weights, how many units, the weights as a tensor of their own).
    """
    uses = Uses(graph)
    for node in graph.node:
        own = _weights(node, uses)
        if own is None:
            continue
        behind = _behind(node, uses)
        if behind is None:
            continue
        theirs = _weights(behind, uses)
        if theirs is None:
            continue
        idle = _idle(own, theirs, grouped=attribute(behind, "group", 1) != 1)
        held = own[idle].reshape(-1)
        if held.size >= _LEAST and held.any():
            yield node.input[1], int(idle.sum()), numpy_helper.from_array(np.array(held))


def told(graphs: Iterable[onnx.GraphProto]) -> Iterator[Observation]:
    """Yield one observation for the units of all layers: as room, whatever lies there."""
    found = [each for graph in graphs for each in rows(graph)]
    if found:
        units = sum(count for _, count, _ in found)
        size = sum(views.size(held) for *_, held in found)
        yield Observation(
            code="spare-units",
            severity=Severity.NOTE,
            sentence=f"The next layer multiplies {units} units by zero: no output depends on the "
            f"{size} bytes of their weights",
            nodes=tuple(name for name, *_ in found[:_SHOWN]),
            details={"count": units, "bytes": size},
        )


def _weights(node: onnx.NodeProto, uses: Uses) -> Array | None:
    """Return a layer's weights, (units, what each reads, ...)."""
    if node.op_type not in _LAYERS or node.domain not in STANDARD_DOMAINS or len(node.input) <= 1:
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


def _behind(node: onnx.NodeProto, uses: Uses) -> onnx.NodeProto | None:
    """Return the only layer that reads what a layer makes, unit by unit."""
    value = next(iter(node.output), "")
    while True:
        reader = uses.only_consumer(value)
        if reader is None:
            return None
        if reader.op_type in _LAYERS:
            return reader if reader.input[0] == value else None
        constants = [name for name in reader.input if name and name != value]
        if reader.op_type not in _BETWEEN or any(n not in uses.constants for n in constants):
            return None
        value = next(iter(reader.output), "")


def _idle(own: Array, theirs: Array, *, grouped: bool) -> npt.NDArray[np.bool_]:
    """Return which units are multiplied by nothing but zero, (units,)."""
    units = len(own)
    if grouped or theirs.shape[1] % units:
        return np.zeros(units, np.bool_)
    # Behind a Flatten each unit has as many columns as its map has places.
    read = np.moveaxis(theirs, 1, 0).reshape(units, -1)
    return np.asarray((read == 0).all(axis=1))
