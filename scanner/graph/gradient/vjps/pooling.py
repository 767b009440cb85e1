"""Gradients of pooling."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx

from scanner.graph.gradient.tape import WIDE, Value
from scanner.graph.gradient.vjps.base import Gradients, Op, Vjp
from scanner.graph.gradient.vjps.separable import pull_back


def max_pool(op: Op) -> Gradients:
    """Add each gradient at the place of its window's maximum, which the operator itself reports.

    Where windows tile the image, comparing the image with its maxima costs a third as much; there,
    ties share the gradient.
    """
    if op.attribute("storage_order", 0):
        raise op.unsupported("it counts places by columns (storage_order=1)")
    if op.x.dtype in WIDE and _tiles(op):
        yield 0, _at_maxima(op)
        return
    places = op.request_output(1, onnx.TensorProto.INT64).reshape([-1])
    zero = onnx.helper.make_tensor("zero", op.dy.dtype, [1], [0])
    zeros = op.x.shape.op("ReduceProd", keepdims=1).op(
        "ConstantOfShape", value=zero, dtype=op.dy.dtype
    )
    yield (
        0,
        zeros.op(
            "ScatterElements", places, op.dy.reshape([-1]), axis=0, reduction="add"
        ).reshape_like(op.x),
    )


def _at_maxima(op: Op) -> Value:
    kernel = op.attribute("kernel_shape")
    scales = np.array([1, 1, *kernel], np.float32)

    def enlarged(value: Value) -> Value:
        modes: dict[str, Any] = {
            "mode": "nearest",
            "coordinate_transformation_mode": "asymmetric",
            "nearest_mode": "floor",
        }
        return value.op("Resize", None, scales, **modes)

    attained = op.x.equals(enlarged(op.y)).cast(op.dy.dtype)
    share = attained.op("AveragePool", kernel_shape=kernel, strides=kernel) * math.prod(kernel)
    return attained * enlarged(op.dy / share)


def _tiles(op: Op) -> bool:
    """Return whether the windows are known to cover every pixel once."""
    kernel = op.attribute("kernel_shape")
    strides = op.attribute("strides", [1] * len(kernel))
    inside, outside = op.x.fixed_sizes(2), op.y.fixed_sizes(2)
    if (
        any(op.attribute("pads", []))
        or set(op.attribute("dilations", [1])) != {1}
        or not inside
        or not outside
    ):
        return False
    axes = zip(inside, outside, kernel, strides, strict=True)
    return all(i == o * k and (o == 1 or s == k) for i, o, k, s in axes)


def average_pool(op: Op) -> Gradients:
    """Share each gradient among its window, axis by axis, since the axes' counts multiply."""
    if _tiles(op):
        kernel = op.attribute("kernel_shape")
        share = op.dy * (1 / math.prod(kernel))
        yield 0, _repeated(share, op.y.fixed_sizes(2) or (), kernel).reshape_like(op.x)
    else:
        yield 0, _pulled_back(op, op.dy, "AveragePool")


def _repeated(value: Value, sizes: Sequence[int], times: Sequence[int]) -> Value:
    """Repeat every pixel of (N, C, *sizes) in a block, as (N, C, size, times, size, times, ...)."""
    split = [number for size in sizes for number in (size, 1)]
    spread = [number for time in times for number in (1, time)]
    return value.reshape([0, 0, *split]).op("Expand", [1, 1, *spread])


def _pulled_back(op: Op, cotangent: Value, kind: str, **fixed: Any) -> Value:
    def along(rows: Value, axis: int) -> Value:
        return (
            rows.op("Unsqueeze", [1]).op(kind, **fixed, **_along(op, axis - 2)).op("Squeeze", [1])
        )

    return pull_back(cotangent, op.x, range(2, op.x.rank), along)


def _along(op: Op, axis: int) -> dict[str, Any]:
    """Return a pool's attributes along one spatial axis."""
    spatial = op.x.rank - 2
    attributes: dict[str, Any] = {
        name: [op.attribute(name)[axis]]
        for name in ("kernel_shape", "strides", "dilations")
        if op.attribute(name)
    }
    if pads := op.attribute("pads"):
        attributes["pads"] = [pads[axis], pads[axis + spatial]]
    for name in ("auto_pad", "ceil_mode", "count_include_pad"):
        if op.attribute(name) is not None:
            attributes[name] = op.attribute(name)
    return attributes


def lp_pool(op: Op) -> Gradients:
    """Differentiate y = (sum |x|^p)^(1/p).

    dx = sign(x) |x|^(p-1) times the sums, over all windows that contain x, of dy y^(1-p). A window
    of zeros passes nothing.
    """
    p = op.attribute("p", 2)
    spread = _pulled_back(op, op.dy * op.y.unless_zero() ** (1 - p), "LpPool", p=1)
    yield 0, spread * op.x.op("Abs") ** (p - 1) * op.x.op("Sign")


def global_average_pool(op: Op) -> Gradients:
    """Share the gradient among all pixels."""
    spatial = op.x.fixed_sizes(2)
    count: Value | int = math.prod(spatial or ())
    if spatial is None:
        sizes = op.x.shape.op("Slice", [2], [op.x.rank])
        count = sizes.op("ReduceProd", keepdims=1).cast(op.dy.dtype)
    yield 0, (op.dy / count).op("Expand", op.x.shape)


def global_max_pool(op: Op) -> Gradients:
    """Share the gradient evenly among the pixels that attain the maximum."""
    attained = op.x.equals(op.y).cast(op.x.dtype)
    yield 0, attained * (op.dy / attained.sum(range(2, op.x.rank)))


def global_lp_pool(op: Op) -> Gradients:
    """Differentiate y = (sum |x|^p)^(1/p) over all pixels; nothing but zeros passes nothing."""
    p = op.attribute("p", 2)
    yield 0, op.dy * op.y.unless_zero() ** (1 - p) * op.x.op("Abs") ** (p - 1) * op.x.op("Sign")


VJPS: dict[str, Vjp] = {
    "AveragePool": average_pool,
    "GlobalAveragePool": global_average_pool,
    "GlobalLpPool": global_lp_pool,
    "GlobalMaxPool": global_max_pool,
    "LpPool": lp_pool,
    "MaxPool": max_pool,
}
