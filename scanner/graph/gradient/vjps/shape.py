"""Gradients of operators that move numbers without changing them."""

import numpy as np
import onnx

from scanner.graph.gradient.tape import Value
from scanner.graph.gradient.vjps.base import Gradients, Op, Vjp
from scanner.graph.gradient.vjps.indexing import scattered


def reshape(op: Op) -> Gradients:
    """Take the input's shape again."""
    yield 0, op.dy.reshape_like(op.x)


def transpose(op: Op) -> Gradients:
    """Permute back."""
    permutation = op.attribute("perm") or list(reversed(range(op.x.rank)))
    yield 0, op.dy.transpose([permutation.index(axis) for axis in range(len(permutation))])


def expand(op: Op) -> Gradients:
    """Sum over the repeated axes."""
    yield 0, op.dy.unbroadcast(op.y.sizes, op.x)


def tile(op: Op) -> Gradients:
    """Separate the repeats of each axis and sum over them."""
    rank = op.x.rank
    pairs = op.input(1).op("Unsqueeze", [1]).op("Concat", op.x.shape.op("Unsqueeze", [1]), axis=1)
    yield 0, op.dy.reshape(pairs.reshape([-1])).sum(range(0, 2 * rank, 2), keepdims=False)


def concat(op: Op) -> Gradients:
    """Cut the gradient where the operands met."""
    axis = op.axis(0)
    operands = [op.input(i) for i in range(len(op.node.input))]
    sizes = [_extent(operand, axis) for operand in operands]
    if all(isinstance(size, int) for size in sizes):
        lengths = op.dy.wrap(sizes)
    else:
        vectors = [op.dy.wrap([size]) if isinstance(size, int) else size for size in sizes]
        lengths = vectors[0].op("Concat", *vectors[1:], axis=0)
    pieces = op.tape.emit("Split", [op.dy.name, lengths.name], len(operands), axis=axis)
    for position in op.wanted:
        yield position, Value(op.tape, pieces[position], op.dy.dtype)


def _extent(value: Value, axis: int) -> int | Value:
    sizes = value.sizes
    size = sizes[axis] if sizes is not None else None
    return size if isinstance(size, int) else value.shape.op("Slice", [axis], [axis + 1])


def split(op: Op) -> Gradients:
    """Join the gradients of the pieces; a piece that has none is zero."""
    pieces = [
        op.tape.value(name).zeros_like() if cotangent is None else cotangent
        for name, cotangent in zip(op.node.output, op.cotangents, strict=True)
    ]
    yield 0, pieces[0].op("Concat", *pieces[1:], axis=op.axis(0))


def slice_(op: Op) -> Gradients:
    """Surround the gradient with zeros; for steps other than 1, put each number in its place."""
    rank = op.x.rank
    starts, ends = op.input(1).constant, op.input(2).constant
    given = [int(a) % rank for a in op.constant_ints(3)] if op.has(3) else None
    steps = op.constant_ints(4) if op.has(4) else None
    axes = given if given is not None else list(range(rank if starts is None else starts.size))
    sizes = op.x.sizes or ()
    unit_steps = steps is None or set(steps) <= {1}
    fixed = unit_steps and all(isinstance(sizes[axis], int) for axis in axes)
    if fixed and starts is not None and ends is not None:
        bounds = ([int(i) for i in ids.reshape(-1)] for ids in (starts, ends))
        yield 0, _surrounded(op, axes, *bounds)
        return
    dy = op.dy
    for position, axis in enumerate(axes):
        parts = [
            op.input(i).op("Slice", [position], [position + 1]).cast(onnx.TensorProto.INT64)
            if op.has(i)
            else None
            for i in (1, 2, 4)
        ]
        first, last, step = parts
        places = positions(op.x, axis).op(
            "Slice", first, last, [0], *([] if step is None else [step])
        )
        dy = scattered(dy, places, axis, op.x, rank)
    yield 0, dy


def _surrounded(op: Op, axes: list[int], starts: list[int], ends: list[int]) -> Value:
    sizes = op.x.sizes or ()
    before, after = [0] * len(sizes), [0] * len(sizes)
    for axis, start, end in zip(axes, starts, ends, strict=True):
        size = int(sizes[axis])
        first, last, _ = slice(start, end).indices(size)
        before[axis], after[axis] = (first, size - max(first, last))
    return op.dy.op("Pad", [*before, *after])


def positions(value: Value, axis: int) -> Value:
    """Return 0, 1, ... along one axis of a value."""
    sizes = value.sizes
    size = sizes[axis] if sizes is not None else None
    if isinstance(size, int):
        return value.wrap(np.arange(size))
    length = value.shape.op("Gather", np.array(axis), axis=0)
    return value.wrap(np.array(0)).op("Range", length, np.array(1), dtype=onnx.TensorProto.INT64)


def pad(op: Op) -> Gradients:
    """Crop by negative padding; a mirrored or repeated border adds to where it was taken from."""
    mode = op.attribute("mode", "constant")
    if mode == "constant":
        pads = op.input(1)
        opposite = (
            op.dy.wrap([-p for p in op.constant_ints(1)]) if pads.constant is not None else -pads
        )
        axes = [op.input(3)] if op.has(3) else []
        yield 0, op.dy.op("Pad", opposite, *([None, *axes] if axes else []))
        return
    amounts = op.constant_ints(1)
    axes_given = (
        [a % op.x.rank for a in op.constant_ints(3)] if op.has(3) else list(range(op.x.rank))
    )
    dy = op.dy
    for position, axis in enumerate(axes_given):
        pair = [amounts[position], amounts[position + len(axes_given)]]
        if any(pair):
            places = positions(op.x, axis).op("Pad", pair, mode=mode)
            dy = scattered(dy, places, axis, op.x, op.x.rank)
    yield 0, dy


def depth_to_space(op: Op) -> Gradients:
    """Gather the blocks again."""
    block = op.attribute("blocksize")
    if op.attribute("mode", "DCR") == "DCR":
        yield 0, op.dy.op("SpaceToDepth", blocksize=block)
        return
    apart = op.dy.op("SpaceToDepth", blocksize=block).op("Unsqueeze", [1])
    height, width = (op.x.shape.op("Slice", [i], [i + 1]) for i in (2, 3))
    sizes = op.dy.wrap([0, block * block, -1]).op("Concat", height, width, axis=0)
    yield 0, apart.op("Squeeze", [1]).reshape(sizes).transpose([0, 2, 1, 3, 4]).reshape_like(op.x)


def space_to_depth(op: Op) -> Gradients:
    """Spread the blocks again."""
    yield 0, op.dy.op("DepthToSpace", blocksize=op.attribute("blocksize"))


def trilu(op: Op) -> Gradients:
    """Keep the same triangle."""
    others = [op.input(1)] if op.has(1) else []
    yield 0, op.dy.op("Trilu", *others, upper=op.attribute("upper", 1))


def reverse_sequence(op: Op) -> Gradients:
    """Reverse again."""
    axes = {"batch_axis": op.attribute("batch_axis", 1), "time_axis": op.attribute("time_axis", 0)}
    yield 0, op.dy.op("ReverseSequence", op.input(1), **axes)


VJPS: dict[str, Vjp] = {
    "Concat": concat,
    "DepthToSpace": depth_to_space,
    "Expand": expand,
    "Flatten": reshape,
    "Pad": pad,
    "Reshape": reshape,
    "ReverseSequence": reverse_sequence,
    "Slice": slice_,
    "SpaceToDepth": space_to_depth,
    "Split": split,
    "Squeeze": reshape,
    "Tile": tile,
    "Transpose": transpose,
    "Trilu": trilu,
    "Unsqueeze": reshape,
}
