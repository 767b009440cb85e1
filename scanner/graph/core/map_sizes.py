"""Whether every window fits into its map, where images have another size than a file says.

ONNX Runtime and onnx do not ask: a pool over a map of no pixels divides by zero, a Slice of one of
fewer than none aborts, and the process dies. So it is asked here, before they see such a graph. The
sizes are lower bounds; where one is not known, the graph is refused if it matters.
"""

from collections.abc import Mapping, Sequence

import onnx

from scanner.errors import UnsupportedModelError
from scanner.graph.core.shapes import ValueType
from scanner.graph.core.structure import attribute, held_tensor, integers, numbers_of

Sizes = tuple[int | None, ...]
"""Of each axis of a value: None of the batch and of channels, a number of each axis of places."""

_WINDOWS = {
    "AveragePool": 0,
    "Conv": 1,
    "ConvInteger": 1,
    "LpPool": 0,
    "MaxPool": 0,
    "QLinearConv": 3,
}
"""Operators whose windows move over a map, and which input holds the weights."""
_GLOBAL = frozenset({"GlobalAveragePool", "GlobalLpPool", "GlobalMaxPool"})
_REDUCING = frozenset({"ReduceMax", "ReduceMean", "ReduceMin", "ReduceSum"})
# What these make has other sizes than what they read, also where it happens to be as large.
_REARRANGING = frozenset({
    "CenterCropPad", "Compress", "ConvTranspose", "DepthToSpace", "Einsum", "Expand", "Flatten",
    "Gather", "GatherElements", "GatherND", "MatMul", "Reshape", "Resize", "SpaceToDepth",
    "Squeeze", "Tile", "Unsqueeze", "Upsample",
})  # fmt: skip
_LEAST_MAP = 3  # axes of a value that may be a map; a list of sizes has one


def check(
    graph: onnx.GraphProto, types: Mapping[str, ValueType], image: str, shape: Sequence[int]
) -> None:
    """Refuse a graph in which images of another size may leave a map of no pixels.

    Args:
        graph: It is flat.
        types: Of its values, for images of the size that the file says.
        image: The input whose size is another.
        shape: Of one image, without the batch axis.

    Raises:
        UnsupportedModelError: A map has no pixels, or may have none.
    """
    constants = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        held = held_tensor(node, "value") if node.op_type == "Constant" else None
        if held is not None:
            constants[node.output[0]] = held
    known: dict[str, Sizes] = {image: (None, *shape)}
    for node in graph.node:
        sizes = _result(node, known, types, constants)
        if sizes is not None:
            if any(size is not None and size < 1 for size in sizes):
                raise _refused(node)
            known[node.output[0]] = sizes


def _result(  # noqa: PLR0911 - one kind of operator after another
    node: onnx.NodeProto,
    known: Mapping[str, Sizes],
    types: Mapping[str, ValueType],
    constants: Mapping[str, onnx.TensorProto],
) -> Sizes | None:
    """Return the sizes of a node's first result, or None where they are not known."""
    sizes = known.get(node.input[0]) if node.input else None
    if node.op_type in _WINDOWS:
        return _windowed(node, sizes, constants)
    if node.op_type == "Pad":
        return _padded(node, sizes, constants)
    if node.op_type in {"Slice", "Split"}:
        return _cut(node, sizes, types, constants)
    if node.op_type in _REARRANGING:
        return None
    if sizes is None:
        return _alike(node, known, types)
    if node.op_type in _GLOBAL:
        return (*sizes[:2], *(1 for _ in sizes[2:]))
    if node.op_type == "Transpose":
        order = integers(node, "perm", list(range(len(sizes)))[::-1]) or []
        return tuple(sizes[axis] for axis in order) if len(order) == len(sizes) else None
    if node.op_type in _REDUCING:
        axes = _numbers(node, "axes", 1, constants)
        if axes is None or not attribute(node, "keepdims", 1):
            return None
        reduced = {axis % len(sizes) for axis in axes}
        return tuple(1 if i in reduced else size for i, size in enumerate(sizes))
    # What is joined is no smaller than its first part.
    return sizes if node.op_type == "Concat" else _alike(node, known, types)


def _alike(
    node: onnx.NodeProto, known: Mapping[str, Sizes], types: Mapping[str, ValueType]
) -> Sizes | None:
    """Return the sizes of what is as large as an input, as far as the file's own sizes tell."""
    made = types.get(node.output[0]) if node.output else None
    if made is None:
        return None
    for name in node.input:
        read = types.get(name)
        if name in known and read is not None and read.shape[1:] == made.shape[1:]:
            return known[name]
    return None


def _windowed(
    node: onnx.NodeProto, sizes: Sizes | None, constants: Mapping[str, onnx.TensorProto]
) -> Sizes | None:
    place = _WINDOWS[node.op_type]
    weights = constants.get(node.input[place]) if 0 < place < len(node.input) else None
    kernel = integers(node, "kernel_shape") or (list(weights.dims[2:]) if weights else None)
    if not kernel:
        raise _refused(node)
    count = len(kernel)
    strides = integers(node, "strides", [1] * count) or []
    apart = integers(node, "dilations", [1] * count) or []
    pads = integers(node, "pads", [0] * (2 * count)) or []
    rule = attribute(node, "auto_pad", b"NOTSET")
    if (len(strides), len(apart), len(pads)) != (count, count, 2 * count) or min(strides) < 1:
        raise _refused(node)
    if rule == b"VALID":
        pads = [0] * (2 * count)
    made = list[int]()
    for axis in range(count):
        reach = apart[axis] * (kernel[axis] - 1) + 1
        padding = pads[axis] + pads[axis + count]
        same = rule in {b"SAME_UPPER", b"SAME_LOWER"}
        size = sizes[axis + 2] if sizes is not None and len(sizes) == count + 2 else None
        if size is not None:
            fits = (size + padding - reach) // strides[axis] + 1
            made.append(-(-size // strides[axis]) if same else fits)
        elif not same and padding < reach - 1:  # a map of one pixel would have none
            raise _refused(node)
    return (None, None, *made) if len(made) == count else None


def _padded(
    node: onnx.NodeProto, sizes: Sizes | None, constants: Mapping[str, onnx.TensorProto]
) -> Sizes | None:
    pads = _numbers(node, "pads", 1, constants)
    if pads is None or min(pads, default=0) < 0:  # it crops
        raise _refused(node)
    chosen = len(node.input) > 3 and bool(node.input[3])  # noqa: PLR2004 - axes of its own
    if sizes is None or chosen or len(pads) != 2 * len(sizes):
        return None
    more = zip(pads[: len(sizes)], pads[len(sizes) :], strict=True)
    return tuple(
        None if size is None else size + before + after
        for size, (before, after) in zip(sizes, more, strict=True)
    )


def _cut(
    node: onnx.NodeProto,
    sizes: Sizes | None,
    types: Mapping[str, ValueType],
    constants: Mapping[str, onnx.TensorProto],
) -> Sizes | None:
    """Return the sizes of a part of a map: it may be one of the channels, not of the places."""
    if sizes is None:
        kind = types.get(node.input[0])
        if kind is None or len(kind.shape) >= _LEAST_MAP:
            raise _refused(node)
        return None
    if node.op_type == "Split":
        axes: list[int] | None = [attribute(node, "axis", 0)]
    else:
        axes = _numbers(node, "axes", 3, constants)
    if axes is None or any(sizes[axis % len(sizes)] is not None for axis in axes):
        raise _refused(node)
    return sizes


def _numbers(
    node: onnx.NodeProto, name: str, place: int, constants: Mapping[str, onnx.TensorProto]
) -> list[int] | None:
    """Return a list of integers: an attribute in older operator sets, else a constant input."""
    if place < len(node.input) and node.input[place]:
        tensor = constants.get(node.input[place])
        return None if tensor is None else [int(n) for n in numbers_of(tensor).reshape(-1)]
    return integers(node, name)


def _refused(node: onnx.NodeProto) -> UnsupportedModelError:
    return UnsupportedModelError(
        f"on images of this size {node.op_type} may leave no pixels of a map",
        remedy="give images of the size that the file says",
    )
