"""Gradients of reductions along axes."""

from collections.abc import Callable

from scanner.graph.gradient.tape import Value
from scanner.graph.gradient.vjps.base import Gradients, Op, Vjp


def reduction(slope: Callable[[Op, Value, Value, list[int]], Value]) -> Vjp:
    """Return the VJP of a reduction.

    Args:
        slope: Given the node, the result and its cotangent (both with the reduced axes at size 1)
            and these axes, the gradient, which is then repeated along the axes where it has size 1.
    """

    def vjp(op: Op) -> Gradients:
        axes = _axes(op)
        if not axes:
            yield 0, slope(op, op.y, op.dy, [])
            return
        kept = op.attribute("keepdims", 1)
        y, dy = (op.y, op.dy) if kept else (op.y.op("Unsqueeze", axes), op.dy.op("Unsqueeze", axes))
        yield 0, slope(op, y, dy, axes)

    return vjp


def _axes(op: Op) -> list[int]:
    rank = op.x.rank
    axes = op.constant_ints(1) if op.has(1) else []
    if not axes and not op.attribute("noop_with_empty_axes", 0):
        axes = list(range(rank))
    return sorted(axis % rank for axis in axes)


def _sum(op: Op, _y: Value, dy: Value, _axes: list[int]) -> Value:
    return dy.op("Expand", op.x.shape)


def _mean(op: Op, _y: Value, dy: Value, axes: list[int]) -> Value:
    sizes = op.x.sizes or ()
    count: Value | int = 1
    for axis in axes:
        size = sizes[axis]
        count = count * size if isinstance(size, int) else _size(op, axis, dy) * count
    return (dy / count).op("Expand", op.x.shape)


def _size(op: Op, axis: int, like: Value) -> Value:
    return op.x.shape.op("Slice", [axis], [axis + 1]).cast(like.dtype)


def _extremum(op: Op, y: Value, dy: Value, axes: list[int]) -> Value:
    attained = op.x.equals(y).cast(dy.dtype)
    return attained * (dy / attained.sum(axes))


def _product(op: Op, _y: Value, dy: Value, axes: list[int]) -> Value:
    """Return the product of the other factors, which is not 0 where the only 0 is left out."""
    factors, zero = op.x.unless_zero(), op.x.equals(0).cast(dy.dtype)
    product = factors.op("ReduceProd", axes, keepdims=1) if axes else factors
    return dy * (product / factors).masked(zero.sum(axes).equals(zero))


def _l1(op: Op, _y: Value, dy: Value, _axes: list[int]) -> Value:
    return dy * op.x.op("Sign")


def _l2(op: Op, y: Value, dy: Value, _axes: list[int]) -> Value:
    return dy * (op.x / y.unless_zero())  # 0 of zeros, as the smallest of all slopes there


def _log_sum(op: Op, y: Value, dy: Value, _axes: list[int]) -> Value:
    return (dy / y.op("Exp")).op("Expand", op.x.shape)


def _log_sum_exp(op: Op, y: Value, dy: Value, _axes: list[int]) -> Value:
    return dy * (op.x - y).op("Exp")


def _sum_square(op: Op, _y: Value, dy: Value, _axes: list[int]) -> Value:
    return dy * op.x * 2


def cumulative_sum(op: Op) -> Gradients:
    """Sum in the other direction."""
    reverse, exclusive = 1 - op.attribute("reverse", 0), op.attribute("exclusive", 0)
    yield 0, op.dy.op("CumSum", op.input(1), reverse=reverse, exclusive=exclusive)


VJPS: dict[str, Vjp] = {
    "CumSum": cumulative_sum,
    "ReduceL1": reduction(_l1),
    "ReduceL2": reduction(_l2),
    "ReduceLogSum": reduction(_log_sum),
    "ReduceLogSumExp": reduction(_log_sum_exp),
    "ReduceMax": reduction(_extremum),
    "ReduceMean": reduction(_mean),
    "ReduceMin": reduction(_extremum),
    "ReduceProd": reduction(_product),
    "ReduceSum": reduction(_sum),
    "ReduceSumSquare": reduction(_sum_square),
}
