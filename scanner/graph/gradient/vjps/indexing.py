"""Gradients of operators that pick numbers by index; what was picked twice receives twice."""

import onnx

from scanner.graph.gradient.tape import Value
from scanner.graph.gradient.vjps.base import Gradients, Op, Vjp


def scattered(cotangent: Value, places: Value, axis: int, target: Value, rank: int) -> Value:
    """Add slices of a cotangent into zeros, `places[i]` along `axis` for slice i.

    Args:
        cotangent: Same shape as the result except along `axis`, where it has as many slices as
            there are places.
        places: Vector of positions along the axis of the result, from 0.
        axis: The axis.
        target: The result takes its extent along `axis`.
        rank: Number of dimensions of both.
    """
    front = [axis, *(i for i in range(rank) if i != axis)]
    back = [front.index(i) for i in range(rank)]
    moved = cotangent.transpose(front)
    extent = target.shape.op("Slice", [axis], [axis + 1])
    rest = moved.op("Shape", dtype=onnx.TensorProto.INT64, start=1)
    zero = onnx.helper.make_tensor("zero", cotangent.dtype, [1], [0])
    zeros = extent.op("Concat", rest, axis=0).op(
        "ConstantOfShape", value=zero, dtype=cotangent.dtype
    )
    return zeros.op("ScatterND", places.op("Unsqueeze", [-1]), moved, reduction="add").transpose(
        back
    )


def gather(op: Op) -> Gradients:
    """Add every gathered slice in the place it came from."""
    axis, rank = op.axis(0), op.x.rank
    indices = op.input(1)
    size = (op.x.sizes or ())[axis]
    if (
        indices.constant is not None
        and indices.constant.shape in ((), (1,))
        and isinstance(size, int)
    ):
        yield 0, _surrounded(op, axis, int(indices.constant.reshape(-1)[0]) % size, size)
        return
    length = op.x.shape.op("Slice", [axis], [axis + 1])
    places = _from_zero(indices.reshape([-1]).cast(onnx.TensorProto.INT64), length)
    flat = op.dy
    if indices.rank != 1:
        lead = op.x.shape.op("Slice", [0], [axis])
        tail = op.x.shape.op("Slice", [axis + 1], [rank])
        flat = op.dy.reshape(
            lead.op("Concat", places.op("Shape", dtype=onnx.TensorProto.INT64), tail, axis=0)
        )
    yield 0, scattered(flat, places, axis, op.x, rank)


def _surrounded(op: Op, axis: int, place: int, size: int) -> Value:
    """Surround the only gathered slice with zeros."""
    slab = op.dy if op.input(1).rank else op.dy.op("Unsqueeze", [axis])
    before, after = [0] * op.x.rank, [0] * op.x.rank
    before[axis], after[axis] = place, size - 1 - place
    return slab.op("Pad", [*before, *after])


def _from_zero(indices: Value, length: Value) -> Value:
    return (indices + length).where(indices < 0, indices)


def gather_elements(op: Op) -> Gradients:
    """Add every gathered number in the place it came from."""
    yield (
        0,
        op.x.zeros_like().op(
            "ScatterElements", op.input(1), op.dy, axis=op.axis(0), reduction="add"
        ),
    )


def gather_nd(op: Op) -> Gradients:
    """Add every gathered slice in the place it came from."""
    if op.attribute("batch_dims", 0):
        raise op.unsupported("it has batch dimensions")
    yield 0, op.x.zeros_like().op("ScatterND", op.input(1), op.dy, reduction="add")


def scatter_elements(op: Op) -> Gradients:
    """Give the updates the gradient of their places, and what they overwrote nothing."""
    reduction = _plain_reduction(op)
    axis = op.axis(0)
    if 0 in op.wanted:
        overwritten = op.dy.op("ScatterElements", op.input(1), op.input(2).zeros_like(), axis=axis)
        yield 0, op.dy if reduction == "add" else overwritten
    if 2 in op.wanted:  # noqa: PLR2004 - ScatterElements(data, indices, updates)
        yield 2, op.dy.op("GatherElements", op.input(1), axis=axis)


def scatter_nd(op: Op) -> Gradients:
    """Do as for ScatterElements, by slices."""
    reduction = _plain_reduction(op)
    if 0 in op.wanted:
        overwritten = op.dy.op("ScatterND", op.input(1), op.input(2).zeros_like())
        yield 0, op.dy if reduction == "add" else overwritten
    if 2 in op.wanted:  # noqa: PLR2004 - ScatterND(data, indices, updates)
        yield 2, op.dy.op("GatherND", op.input(1))


def _plain_reduction(op: Op) -> str:
    reduction: str = op.attribute("reduction", "none")
    if reduction not in ("none", "add"):
        raise op.unsupported(f"its reduction is {reduction!r}")
    return reduction


def top_k(op: Op) -> Gradients:
    """Put each gradient in the place its number came from."""
    places = Value(op.tape, op.node.output[1], onnx.TensorProto.INT64)
    yield (
        0,
        op.x.zeros_like().op("ScatterElements", places, op.dy, axis=op.axis(-1), reduction="add"),
    )


def compress(op: Op) -> Gradients:
    """Put each kept slice back in its place."""
    if op.attribute("axis") is None:
        raise op.unsupported("it flattens its input")
    places = op.input(1).op("NonZero", dtype=onnx.TensorProto.INT64).reshape([-1])
    yield 0, scattered(op.dy, places, op.axis(0), op.x, op.x.rank)


VJPS: dict[str, Vjp] = {
    "Compress": compress,
    "Gather": gather,
    "GatherElements": gather_elements,
    "GatherND": gather_nd,
    "ScatterElements": scatter_elements,
    "ScatterND": scatter_nd,
    "TopK": top_k,
}
