"""The gradient rule of every operator, one family a module; to add one, look at its neighbour."""

from scanner.graph.gradient.vjps import (
    convolution,
    elementwise,
    indexing,
    linear,
    normalisation,
    pooling,
    quantisation,
    reduction,
    resize,
    shape,
)
from scanner.graph.gradient.vjps.base import Rule

FAMILIES = (
    convolution,
    elementwise,
    indexing,
    linear,
    normalisation,
    pooling,
    quantisation,
    reduction,
    resize,
    shape,
)

RULES: dict[str, Rule] = {
    operator: rule for family in FAMILIES for operator, rule in family.RULES.items()
}
"""Rules by operator of the standard domain."""

ZERO = frozenset({
    "And", "ArgMax", "ArgMin", "Bernoulli", "BitShift", "BitwiseAnd", "BitwiseNot", "BitwiseOr", "BitwiseXor", "Ceil",
    "ConstantOfShape", "Equal", "EyeLike", "Floor", "Greater", "GreaterOrEqual", "Hardmax", "IsInf", "IsNaN", "Less",
    "LessOrEqual", "NonMaxSuppression", "NonZero", "Not", "OneHot", "Or", "RandomNormalLike", "RandomUniformLike",
    "Range", "Round", "Shape", "Sign", "Size", "Unique", "Xor",
})  # fmt: skip
"""Operators whose result is constant almost everywhere, an integer, or random: they contribute no gradient."""
