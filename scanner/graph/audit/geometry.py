"""Weights that the shapes of a network keep from the answer, whatever their numbers are.

The outer taps of a kernel over a map of one place meet nothing but padding; columns of a matrix
meet the zeros that a Pad or a Concat brought; a direction of a recurrent layer is cut off behind
it. Networks for large images that are fed small ones have such taps too.
"""

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import numpy_helper

from scanner.graph.audit import spare_rows, views
from scanner.graph.audit.spare_units import Row, as_room, weights_of
from scanner.graph.core.structure import Uses, attribute, integers
from scanner.modelfile.domains import STANDARD_DOMAINS
from scanner.results import Observation

Array = npt.NDArray[Any]
Flags = npt.NDArray[np.bool_]

_LEAST = 64
"""Numbers below which nothing worth a name can be hidden."""
_DIFFERENT = 16
"""So many of them differ: fillers are alike."""
_DEEPEST = 32
_MATRIX = 2


def rows(uses: spare_rows.Followed) -> Iterator[Row]:
    """Yield for each layer of a graph the weights that its place keeps from the answer."""
    maps = _maps(uses.graph, uses)
    for node in uses.graph.node:
        if node.domain not in STANDARD_DOMAINS:
            continue
        if node.op_type in ("LSTM", "GRU", "RNN"):
            yield from _of_directions(node, uses)
            continue
        own = weights_of(node, uses)
        if own is None:
            continue
        idle = np.zeros(own.shape[1:], np.bool_)
        columns = _zeros(node.input[0], 1 if own.ndim > _MATRIX else -1, own.shape[1], uses)
        if columns is not None and attribute(node, "group", 1) == 1:
            idle[columns] = True
        if node.op_type == "Conv":
            idle |= _taps(node, own.shape[2:], maps.get(node.input[0]))
        if idle.any():
            yield from _row(node.input[1], int(idle.sum()), own[:, idle])


def told(found: Sequence[Row]) -> Iterator[Observation]:
    """Yield one observation for the weights of all layers: as room, whatever lies there."""
    yield from as_room(
        "spare-weights",
        "{size} bytes of weights of {tensors} tensors meet only padding or zeros, or are cut off "
        "behind their layer: no output depends on them",
        found,
    )


def _row(name: str, units: int, held: Array) -> Iterator[Row]:
    flat = np.array(held).reshape(-1)
    if flat.size >= _LEAST and len(np.unique(flat)) > _DIFFERENT:
        yield name, units, numpy_helper.from_array(flat)


def _maps(graph: onnx.GraphProto, uses: Uses) -> dict[str, list[int]]:
    """Return the sizes of maps, batch and channels left out, as far as the input's is known."""
    maps: dict[str, list[int]] = {}
    for value in graph.input:
        sizes = [size.dim_value for size in value.type.tensor_type.shape.dim][_MATRIX:]
        if sizes and min(sizes) > 0:
            maps[value.name] = sizes
    for node in graph.node:
        if node.output and node.input and node.domain in STANDARD_DOMAINS:
            sizes = _behind(node, uses, maps) or []
            if sizes and min(sizes) > 0:
                maps[node.output[0]] = sizes
    return maps


def _behind(node: onnx.NodeProto, uses: Uses, maps: dict[str, list[int]]) -> list[int] | None:
    """Return the size of the map that a node makes; None if it is not known."""
    if node.op_type in ("GlobalAveragePool", "GlobalMaxPool"):
        return [1] * len(maps.get(node.input[0], [1, 1]))
    if node.op_type in _WINDOWED:
        sizes, kernel = maps.get(node.input[0], []), _kernel(node, uses)
        ways = None if kernel is None or len(kernel) != len(sizes) else _ways(node, kernel)
        return None if ways is None else [_out(n, way) for n, way in zip(sizes, ways, strict=True)]
    if node.op_type not in _SAME_MAP:
        return None
    given = [maps.get(name) for name in node.input if name and name not in uses.constants]
    known = [sizes for sizes in given if sizes is not None]
    constants = [uses.constants[name].dims for name in node.input if name in uses.constants]
    if len(known) != len(given) or len({len(sizes) for sizes in known}) != 1:
        return None
    axes = len(known[0])
    broadcast = constants if node.op_type in ("Add", "Mul") else []
    wide = [([1] * axes + list(dims))[-axes:] for dims in broadcast]
    return [max(sizes) for sizes in zip(*known, *wide, strict=True)]


_SAME_MAP = frozenset({
    "Add", "BatchNormalization", "Cast", "Clip", "Dropout", "Elu", "HardSigmoid", "HardSwish",
    "Identity", "LeakyRelu", "Mul", "PRelu", "Relu", "Selu", "Sigmoid", "Softplus", "Tanh",
})  # fmt: skip
_WINDOWED = frozenset({"AveragePool", "Conv", "MaxPool"})
Way = tuple[int, int, int, int, int]
"""Of one axis: kernel, stride, dilation, padding before and behind."""


def _kernel(node: onnx.NodeProto, uses: Uses) -> list[int] | None:
    held = integers(node, "kernel_shape", [])
    if held != []:
        return held
    tensor = uses.constants.get(node.input[1]) if len(node.input) > 1 else None
    return None if tensor is None else list(tensor.dims)[_MATRIX:]


def _ways(node: onnx.NodeProto, kernel: Sequence[int]) -> list[Way] | None:
    """Return how a window moves along each axis; None where that is not plain."""
    axes = len(kernel)
    automatic = attribute(node, "auto_pad", b"NOTSET") not in (b"NOTSET", b"VALID", b"")
    strides = integers(node, "strides", [1] * axes)
    dilations = integers(node, "dilations", [1] * axes)
    pads = integers(node, "pads", [0] * (2 * axes))
    if strides is None or dilations is None or pads is None or not axes:
        return None
    fits = len(strides) == len(dilations) == axes and len(pads) == 2 * axes
    if automatic or attribute(node, "ceil_mode", 0) or not fits:
        return None
    if min(*strides, *dilations, *kernel) <= 0 or min(pads) < 0:
        return None
    return list(zip(kernel, strides, dilations, pads[:axes], pads[axes:], strict=True))


def _out(size: int, way: Way) -> int:
    kernel, stride, dilation, before, behind = way
    return (size + before + behind - dilation * (kernel - 1) - 1) // stride + 1


def _taps(node: onnx.NodeProto, kernel: Sequence[int], sizes: Sequence[int] | None) -> Flags:
    """Return the taps of a kernel that meet padding only, in the shape of the kernel."""
    idle = np.zeros(tuple(kernel), np.bool_)
    ways = _ways(node, kernel)
    if sizes is None or ways is None or len(sizes) != len(kernel):
        return idle
    for axis, (size, way) in enumerate(zip(sizes, ways, strict=True)):
        width, stride, dilation, before, _ = way
        if size >= dilation * width:  # no tap lies outside everywhere
            continue
        first = np.arange(width) * dilation - before  # where each tap lies at the first step
        steps = np.maximum(-(first // stride), 0)  # after how many it is inside, if ever
        outside = (steps >= _out(size, way)) | (first + steps * stride >= size)
        idle |= outside.reshape([-1 if at == axis else 1 for at in range(len(kernel))])
    return idle


def _zeros(value: str, axis: int, count: int, uses: spare_rows.Followed) -> Flags | None:
    """Return which of `count` places of an axis hold zeros, whatever the image is.

    Args:
        value: What a layer reads.
        axis: Which axis the layer multiplies: 1 of maps, the last of rows.
        count: How many places that has.
        uses: The graph.
    """
    for _ in range(_DEEPEST):
        maker = uses.producer(value)
        if maker is None or maker.domain not in STANDARD_DOMAINS or not maker.input:
            return None
        if maker.op_type == "Pad":
            return _of_pad(maker, axis, count, uses)
        if maker.op_type == "Concat":
            return _of_concat(maker, axis, count, uses)
        if maker.op_type not in _KEEP_ZEROS:
            return None
        value = maker.input[0]
    return None


_KEEP_ZEROS = frozenset({"Cast", "Dropout", "Elu", "Identity", "LeakyRelu", "Relu", "Tanh"})


def _of_pad(node: onnx.NodeProto, axis: int, count: int, uses: spare_rows.Followed) -> Flags | None:
    pads = spare_rows.whole_numbers(uses, node, 1, "pads")
    filler = uses.scalar(node.input[2]) if len(node.input) > _MATRIX and node.input[2] else 0.0
    plain = attribute(node, "mode", b"constant") == b"constant" and len(node.input) <= 3  # noqa: PLR2004
    if not pads or not plain or filler != 0.0 or attribute(node, "value", 0.0):
        return None
    rank = len(pads) // 2
    at = axis % rank
    before, behind = pads[at], pads[rank + at]
    if before < 0 or behind < 0 or before + behind > count:
        return None
    zeros = np.zeros(count, np.bool_)
    zeros[:before] = True
    zeros[count - behind :] = True
    return zeros


def _of_concat(node: onnx.NodeProto, axis: int, count: int, uses: Uses) -> Flags | None:
    """Return the zeros before and behind the one part that is no constant."""
    along = int(attribute(node, "axis", 0))
    parts = [uses.constants.get(name) for name in node.input]
    if sum(part is None for part in parts) != 1:
        return None
    rows = all(len(part.dims) == _MATRIX for part in parts if part is not None)
    if along != axis and not (along == 1 and axis == -1 and rows):
        return None
    flags = [None if part is None else _all_zero_along(part, along) for part in parts]
    held = [each for part, each in zip(parts, flags, strict=True) if part is not None]
    known = [each for each in held if each is not None]
    left = count - sum(map(len, known))
    if len(known) < len(held) or left < 0:
        return None
    rest = np.zeros(left, np.bool_)
    return np.concatenate([rest if each is None else each for each in flags])


def _all_zero_along(tensor: onnx.TensorProto, axis: int) -> Flags | None:
    """Return which places of an axis hold nothing but zeros; None where that cannot be told."""
    numbers = views.numbers(tensor)
    sizes = tuple(tensor.dims)
    if numbers is None or numbers.size != math.prod(sizes) or not -len(sizes) <= axis < len(sizes):
        return None
    array = numbers.reshape(sizes)
    others = tuple(at for at in range(array.ndim) if at != axis % array.ndim)
    return np.asarray(~array.any(axis=others))


def _of_directions(node: onnx.NodeProto, uses: spare_rows.Followed) -> Iterator[Row]:
    """Yield the weights of a direction of a recurrent layer of which nothing is read."""
    both = attribute(node, "direction", b"forward") == b"bidirectional"
    hidden = int(attribute(node, "hidden_size", 0))
    if not both or not 0 < hidden <= _WIDEST or attribute(node, "layout", 0):
        return
    reached = np.zeros(2, np.bool_)
    for steps, batch in _LENGTHS:
        directions = np.broadcast_to(np.arange(2)[:, None, None], (2, batch, hidden))
        for at, name in enumerate(node.output):
            if name:
                whole = np.broadcast_to(directions, (steps, *directions.shape))
                spare_rows.follow(name, directions if at else whole, uses, reached)
    if reached.all():
        return
    for name in node.input[1:4]:
        tensor = uses.constants.get(name) if name else None
        numbers = None if tensor is None else views.numbers(tensor)
        if numbers is not None and numbers.size and numbers.size % 2 == 0:
            for direction in np.flatnonzero(~reached):
                yield from _row(name, hidden, numbers.reshape(2, -1)[direction])


_WIDEST = 1 << 16
"""Units of a recurrent layer; one of so many has 2^34 weights."""
_LENGTHS = ((1, 1), (2, 3))
"""Steps and batches of which all must agree, since a file seldom says of how many it is."""
