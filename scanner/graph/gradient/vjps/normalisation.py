"""Gradients of normalisation and of the soft maximum."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from scanner.graph.gradient.tape import Value
from scanner.graph.gradient.vjps.base import Gradients, Op, Vjp

_SCALE_PER_CHANNEL = 21
"""From this operator set on, GroupNormalization has one scale and bias per channel."""


def batch_normalization(op: Op) -> Gradients:
    """Multiply by a fixed scale per channel, which is all it does at inference."""
    if op.attribute("training_mode", 0):
        raise op.unsupported("it is in training mode")
    if op.wanted != {0}:
        raise op.unsupported("its parameters depend on the differentiated value")
    scale, variance, epsilon = op.input(1), op.input(4), op.attribute("epsilon", 1e-5)
    shape = [-1, *[1] * (op.x.rank - 2)]
    if scale.constant is not None and variance.constant is not None:
        slope: Any = (
            (scale.constant / np.sqrt(variance.constant + epsilon))
            .astype(op.dy.numpy_dtype)
            .reshape(shape)
        )
    else:
        slope = (scale / (variance + epsilon).op("Sqrt")).reshape(shape)
    yield 0, op.dy * slope


def normalised_gradient(
    cotangent: Value, x: Value, axes: Sequence[int], epsilon: float
) -> tuple[Value, Value]:
    """Return the gradient through (x - mean) / sqrt(variance + epsilon), and that quotient.

    With g the cotangent and n the quotient: (g - mean(g) - n mean(g n)) / sqrt(variance + epsilon).
    """
    centred = x - x.mean(axes)
    inverse = 1 / ((centred * centred).mean(axes) + epsilon).op("Sqrt")
    normal = centred * inverse
    inner = cotangent - cotangent.mean(axes) - normal * (cotangent * normal).mean(axes)
    return inner * inverse, normal


def _scaled(op: Op, axes: Sequence[int], parameters: Sequence[int]) -> Gradients:
    """Differentiate y = n scale + bias, where scale and bias are reshaped to `parameters`."""
    scale = op.input(1).reshape(list(parameters)) if op.has(1) else None
    cotangent = op.dy if scale is None else op.dy * scale
    dx, normal = normalised_gradient(cotangent, op.x, axes, op.attribute("epsilon", 1e-5))
    yield 0, dx
    others = [i for i in range(op.x.rank) if list(parameters)[i] == 1] if op.wanted - {0} else []
    if 1 in op.wanted:
        yield 1, (op.dy * normal).sum(others).reshape_like(op.input(1))
    if 2 in op.wanted:  # noqa: PLR2004 - (X, scale, B)
        yield 2, op.dy.sum(others).reshape_like(op.input(2))


def instance_normalization(op: Op) -> Gradients:
    """Differentiate the normalisation of each channel of each image."""
    return _scaled(op, range(2, op.x.rank), [1, -1, *[1] * (op.x.rank - 2)])


def layer_normalization(op: Op) -> Gradients:
    """Differentiate normalisation over the axes from `axis` on; scale and bias broadcast."""
    axes = range(op.axis(-1), op.x.rank)
    scale = op.input(1)
    dx, normal = normalised_gradient(op.dy * scale, op.x, axes, op.attribute("epsilon", 1e-5))
    yield 0, dx
    if 1 in op.wanted:
        yield 1, (op.dy * normal).unbroadcast(op.x.sizes, scale)
    if 2 in op.wanted:  # noqa: PLR2004 - LayerNormalization(X, scale, B)
        yield 2, op.dy.unbroadcast(op.x.sizes, op.input(2))


def rms_normalization(op: Op) -> Gradients:
    """Differentiate y = x scale / sqrt(mean(x^2) + epsilon)."""
    axes = range(op.axis(-1), op.x.rank)
    scale, cotangent = op.input(1), op.dy * op.input(1)
    inverse = 1 / ((op.x * op.x).mean(axes) + op.attribute("epsilon", 1e-5)).op("Sqrt")
    normal = op.x * inverse
    yield 0, (cotangent - normal * (cotangent * normal).mean(axes)) * inverse
    if 1 in op.wanted:
        yield 1, (op.dy * normal).unbroadcast(op.x.sizes, scale)


def group_normalization(op: Op) -> Gradients:
    """Differentiate the normalisation of channels in groups.

    Before operator set 21 there is one scale and bias per group, from 21 on one per channel.
    """
    if op.wanted != {0}:
        raise op.unsupported("its parameters depend on the differentiated value")
    groups = op.attribute("num_groups")
    scale, spatial = op.input(1), [1] * (op.x.rank - 2)
    split = [0, groups, -1]
    if op.opset < _SCALE_PER_CHANNEL:
        cotangent = op.dy.reshape(split) * scale.reshape([1, groups, 1])
    else:
        cotangent = (op.dy * scale.reshape([1, -1, *spatial])).reshape(split)
    dx, _ = normalised_gradient(cotangent, op.x.reshape(split), [2], op.attribute("epsilon", 1e-5))
    yield 0, dx.reshape_like(op.x)


def mean_variance_normalization(op: Op) -> Gradients:
    """Differentiate (x - mean) / (sqrt(variance) + 1e-9); the epsilon is too small to matter."""
    yield 0, normalised_gradient(op.dy, op.x, op.attribute("axes", [0, 2, 3]), 1e-18)[0]


def lp_normalization(op: Op) -> Gradients:
    """Differentiate y = x / |x|_p.

    dx = (dy - y' sum(dy y)) / |x|_p, where y' = sign(y) |y|^(p-1); nothing but zeros, which stays
    as it is, passes nothing.
    """
    axes, p = [op.axis(-1)], op.attribute("p", 2)
    norm = op.x.op("ReduceL1" if p == 1 else "ReduceL2", axes, keepdims=1)
    direction = op.x.op("Sign") if p == 1 else op.y
    slope = (op.dy - direction * (op.dy * op.y).sum(axes)) / norm.unless_zero()
    yield 0, slope.masked(norm > 0)


def lrn(op: Op) -> Gradients:
    """Differentiate y = x D^-beta, where D is bias plus a sum of squares of neighbouring channels.

    D = bias + alpha / size sum(x^2).
    """
    alpha, beta, bias = (
        op.attribute(n, v) for n, v in (("alpha", 1e-4), ("beta", 0.75), ("bias", 1.0))
    )
    size, channels = op.attribute("size"), (op.x.sizes or (0, "?"))[1]
    if isinstance(channels, str):
        raise op.unsupported("its number of channels is not known")
    band = _band(channels, size).astype(op.dy.numpy_dtype) * (alpha / size)
    x = op.x.reshape([0, channels, -1])
    dy = op.dy.reshape([0, channels, -1])
    base = x.wrap(band.astype(op.dy.numpy_dtype)).op("MatMul", x * x) + bias
    spread = x.wrap(np.ascontiguousarray(band.T).astype(op.dy.numpy_dtype))
    inner = dy * x * base ** (-beta - 1)
    yield 0, (dy * base**-beta - x * spread.op("MatMul", inner) * (2 * beta)).reshape_like(op.x)


def _band(channels: int, size: int) -> Any:
    """Return which channel (row) sums over which (column).

    (size - 1) / 2 of them, rounded down, lie before it, the others after it.
    """
    distance = np.arange(channels)[None, :] - np.arange(channels)[:, None]
    return (distance >= -((size - 1) // 2)) & (distance <= size - 1 - (size - 1) // 2)


def softmax(op: Op) -> Gradients:
    """Carry dx = y (dy - sum(dy y))."""
    yield 0, op.y * (op.dy - (op.dy * op.y).sum([op.axis(-1)]))


def log_softmax(op: Op) -> Gradients:
    """Carry dx = dy - exp(y) sum(dy)."""
    yield 0, op.dy - op.y.op("Exp") * op.dy.sum([op.axis(-1)])


VJPS: dict[str, Vjp] = {
    "BatchNormalization": batch_normalization,
    "GroupNormalization": group_normalization,
    "InstanceNormalization": instance_normalization,
    "LRN": lrn,
    "LayerNormalization": layer_normalization,
    "LogSoftmax": log_softmax,
    "LpNormalization": lp_normalization,
    "MeanVarianceNormalization": mean_variance_normalization,
    "RMSNormalization": rms_normalization,
    "Softmax": softmax,
}
