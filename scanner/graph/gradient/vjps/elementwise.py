"""Gradients of operators that act on each number separately, broadcasting their operands."""

import math
from collections.abc import Callable

from scanner.graph.gradient.tape import Value
from scanner.graph.gradient.vjps.base import Gradients, Op, Vjp

_SELU_ALPHA, _SELU_GAMMA = 1.67326319217681884765625, 1.05070102214813232421875  # the ONNX defaults
_TWO_OVER_SQRT_PI = 2 / math.sqrt(math.pi)
_SQRT_TWO_OVER_PI = math.sqrt(2 / math.pi)


def unary(derivative: Callable[[Op], Value]) -> Vjp:
    """Return the VJP of y = f(x) from f'(x) as a value."""

    def vjp(op: Op) -> Gradients:
        yield 0, op.dy * derivative(op)

    return vjp


def masked(condition: Callable[[Op], Value]) -> Vjp:
    """Return the VJP of a function whose slope is 1 where the condition holds, and 0 elsewhere."""

    def vjp(op: Op) -> Gradients:
        yield 0, op.dy.masked(condition(op))

    return vjp


def identity(op: Op) -> Gradients:
    """Pass the gradient."""
    yield 0, op.dy


def negate(op: Op) -> Gradients:
    """Negate the gradient."""
    yield 0, -op.dy


def dropout(op: Op) -> Gradients:
    """Pass the gradient: at inference, dropout does nothing."""
    if op.has(2) and (op.input(2).constant is None or op.input(2).constant.any()):  # type: ignore[union-attr]
        raise op.unsupported("it is in training mode")
    yield 0, op.dy


def cast(op: Op) -> Gradients:
    """Pass the gradient in the type of the input."""
    yield 0, op.dy.cast(op.x.dtype)


def leaky_relu(op: Op) -> Gradients:
    """Scale the gradient below zero."""
    alpha: float = op.attribute("alpha", 0.01)
    yield 0, op.dy * ((op.x > 0).cast(op.x.dtype) * (1 - alpha) + alpha)


def prelu(op: Op) -> Gradients:
    """Scale the gradient below zero by the slope, an input."""
    slope, negative = op.input(1), op.x < 0
    if 0 in op.wanted:
        yield 0, (op.dy * slope).where(negative, op.dy)
    if 1 in op.wanted:
        yield 1, (op.dy * op.x).masked(negative).unbroadcast(op.y.sizes, slope)


def clip(op: Op) -> Gradients:
    """Pass the gradient between the bounds and at them; outside, it goes to the bound."""
    inside = None
    for position, beyond in ((1, Value.__lt__), (2, Value.__gt__)):
        if not op.has(position):
            continue
        outside = beyond(op.x, op.input(position))
        kept = outside.op("Not")
        inside = kept if inside is None else inside & kept
        if position in op.wanted:
            yield position, op.dy.masked(outside).unbroadcast(op.y.sizes, op.input(position))
    yield 0, op.dy if inside is None else op.dy.masked(inside)


def _elu(op: Op) -> Value:
    alpha = op.attribute("alpha", 1.0)
    return op.x.wrap(1).where(op.x > 0, op.y + alpha)


def _selu(op: Op) -> Value:
    alpha, gamma = op.attribute("alpha", _SELU_ALPHA), op.attribute("gamma", _SELU_GAMMA)
    return op.x.wrap(gamma).where(op.x > 0, op.y + alpha * gamma)


def _celu(op: Op) -> Value:
    alpha = op.attribute("alpha", 1.0)
    return op.x.wrap(1).where(op.x > 0, op.y / alpha + 1)


def _hard_sigmoid(op: Op) -> Gradients:
    inside = (op.y > 0) & (op.y < 1)
    yield 0, (op.dy * op.attribute("alpha", 0.2)).masked(inside)


def _hard_swish(op: Op) -> Value:
    inside = op.x.op("Abs") < 3  # noqa: PLR2004 - x max(0, min(1, x / 6 + 1 / 2))
    outside = op.x.wrap(1).where(op.x > 0, 0)
    return (op.x / 3 + 0.5).where(inside, outside)


def _gelu(op: Op) -> Value:
    x = op.x
    if op.attribute("approximate", "none") == "tanh":
        return _gelu_tanh(x)
    density = (x * x * -0.5).op("Exp") * (1 / math.sqrt(2 * math.pi))
    return ((x * math.sqrt(0.5)).op("Erf") + 1) * 0.5 + x * density


def _gelu_tanh(x: Value) -> Value:
    square = x * x
    t = (x * (square * 0.044715 + 1) * _SQRT_TWO_OVER_PI).op("Tanh")
    inner = (square * (3 * 0.044715) + 1) * _SQRT_TWO_OVER_PI
    return (t + 1) * 0.5 + x * (1 - t * t) * inner * 0.5


def _swish(op: Op) -> Value:
    alpha: float = op.attribute("alpha", 1.0)
    gate = (op.x * alpha).op("Sigmoid")
    return gate + op.y * (1 - gate) * alpha


def _mish(op: Op) -> Value:
    t = op.x.op("Softplus").op("Tanh")
    return t + op.x * (1 - t * t) * op.x.op("Sigmoid")


def _shrink(op: Op) -> Value:
    threshold: float = op.attribute("lambd", 0.5)
    return (op.x.op("Abs") > threshold).cast(op.x.dtype)


def add(op: Op) -> Gradients:
    """Pass the gradient to every operand."""
    for position in op.wanted:
        yield position, op.dy.unbroadcast(op.y.sizes, op.input(position))


def mean(op: Op) -> Gradients:
    """Share the gradient among the operands."""
    for position in op.wanted:
        yield position, (op.dy / len(op.node.input)).unbroadcast(op.y.sizes, op.input(position))


def sub(op: Op) -> Gradients:
    """Pass the gradient, negated to the subtrahend."""
    for position in op.wanted:
        yield (
            position,
            (op.dy if position == 0 else -op.dy).unbroadcast(op.y.sizes, op.input(position)),
        )


def mul(op: Op) -> Gradients:
    """Multiply by the other factor."""
    for position in op.wanted:
        yield position, (op.dy * op.input(1 - position)).unbroadcast(op.y.sizes, op.input(position))


def div(op: Op) -> Gradients:
    """Carry d(a/b) = da/b - (a/b) db/b."""
    a, b = op.x, op.input(1)
    quotient = op.dy / b
    if 0 in op.wanted:
        yield 0, quotient.unbroadcast(op.y.sizes, a)
    if 1 in op.wanted:
        yield 1, -(quotient * op.y).unbroadcast(op.y.sizes, b)


def power(op: Op) -> Gradients:
    """Carry d(a^b) = b a^(b-1) da + a^b ln(a) db.

    A power of 0 has no slope by an exponent of 0 or more, nor has the 0th power of anything.
    """
    a, b = op.x, op.input(1).cast(op.x.dtype)
    if 0 in op.wanted:
        exponent = op.input(1).constant
        square = exponent is not None and exponent.size == 1 and exponent.reshape(-1)[0] == 2  # noqa: PLR2004 - x^2
        slope = a * 2 if square else b * a ** (b.unless_zero() - 1)
        yield 0, (op.dy * slope).unbroadcast(op.y.sizes, a)
    if 1 in op.wanted:
        yield 1, (op.dy * op.y * a.unless_zero().op("Log")).unbroadcast(op.y.sizes, b)


def modulo(op: Op) -> Gradients:
    """Pass the gradient to the dividend."""
    if 1 in op.wanted:
        raise op.unsupported("its divisor depends on the differentiated value")
    yield 0, op.dy.unbroadcast(op.y.sizes, op.x)


def extremum(op: Op) -> Gradients:
    """Share the gradient evenly among the operands that attain the extremum."""
    attained = [op.input(i).equals(op.y).cast(op.y.dtype) for i in range(len(op.node.input))]
    share = op.dy
    if len(attained) > 1:
        share = op.dy / attained[0].op("Sum", *attained[1:])
    for position in op.wanted:
        yield position, (share * attained[position]).unbroadcast(op.y.sizes, op.input(position))


def where(op: Op) -> Gradients:
    """Pass the gradient to the operand that was chosen."""
    condition = op.x
    if 1 in op.wanted:
        yield 1, op.dy.masked(condition).unbroadcast(op.y.sizes, op.input(1))
    if 2 in op.wanted:  # noqa: PLR2004 - Where(condition, X, Y)
        yield 2, op.dy.masked(condition.op("Not")).unbroadcast(op.y.sizes, op.input(2))


VJPS: dict[str, Vjp] = {
    "Abs": unary(lambda op: op.x.op("Sign")),
    "Acos": unary(lambda op: -1 / (1 - op.x * op.x).op("Sqrt")),
    "Acosh": unary(lambda op: 1 / (op.x * op.x - 1).op("Sqrt")),
    "Add": add,
    "Asin": unary(lambda op: 1 / (1 - op.x * op.x).op("Sqrt")),
    "Asinh": unary(lambda op: 1 / (op.x * op.x + 1).op("Sqrt")),
    "Atan": unary(lambda op: 1 / (op.x * op.x + 1)),
    "Atanh": unary(lambda op: 1 / (1 - op.x * op.x)),
    "Cast": cast,
    "CastLike": cast,
    "Celu": unary(_celu),
    "Clip": clip,
    "Cos": unary(lambda op: -op.x.op("Sin")),
    "Cosh": unary(lambda op: op.x.op("Sinh")),
    "Div": div,
    "Dropout": dropout,
    "Elu": unary(_elu),
    "Erf": unary(lambda op: (-(op.x * op.x)).op("Exp") * _TWO_OVER_SQRT_PI),
    "Exp": unary(lambda op: op.y),
    "Gelu": unary(_gelu),
    "HardSigmoid": _hard_sigmoid,
    "HardSwish": unary(_hard_swish),
    "Identity": identity,
    "LeakyRelu": leaky_relu,
    "Log": unary(lambda op: 1 / op.x),
    "Max": extremum,
    "Mean": mean,
    "Min": extremum,
    "Mish": unary(_mish),
    "Mod": modulo,
    "Mul": mul,
    "Neg": negate,
    "PRelu": prelu,
    "Pow": power,
    "Reciprocal": unary(lambda op: -(op.y * op.y)),
    "Relu": masked(lambda op: op.y > 0),
    "Selu": unary(_selu),
    "Shrink": unary(_shrink),
    "Sigmoid": unary(lambda op: op.y * (1 - op.y)),
    "Sin": unary(lambda op: op.x.op("Cos")),
    "Sinh": unary(lambda op: op.x.op("Cosh")),
    "Softplus": unary(lambda op: op.x.op("Sigmoid")),
    "Softsign": unary(lambda op: 1 / (op.x.op("Abs") + 1) ** 2),
    "Sqrt": unary(lambda op: 0.5 / op.y),
    "Sub": sub,
    "Sum": add,
    "Swish": unary(_swish),
    "Tan": unary(lambda op: op.y * op.y + 1),
    "Tanh": unary(lambda op: 1 - op.y * op.y),
    "ThresholdedRelu": masked(lambda op: op.x > op.attribute("alpha", 1.0)),
    "Where": where,
}
