"""The gradient rules: for each operator its vector-Jacobian product, one family per module.

To add one, write a function and a row in its family's table `VJPS`, and a row in the table of
tests/scanner/graph/gradient/vjps/test_rules.py; then write docs/operators.md anew with
`python -m scanner.graph.gradient.vjps > docs/operators.md`.
"""

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
from scanner.graph.gradient.vjps.base import Vjp

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

VJPS: dict[str, Vjp] = {
    operator: vjp for family in FAMILIES for operator, vjp in family.VJPS.items()
}
"""By operator of the standard domain."""

ZERO = frozenset({
    "And", "ArgMax", "ArgMin", "Bernoulli", "BitShift", "BitwiseAnd", "BitwiseNot", "BitwiseOr",
    "BitwiseXor", "Ceil", "ConstantOfShape", "DynamicQuantizeLinear", "Equal", "EyeLike",
    "Floor", "Greater", "GreaterOrEqual", "Hardmax", "IsInf", "IsNaN", "Less", "LessOrEqual",
    "NonMaxSuppression", "NonZero", "Not", "OneHot", "Or", "RandomNormalLike",
    "RandomUniformLike", "Range", "Round", "Shape", "Size", "Unique", "Xor",
})  # fmt: skip
"""Operators that pass no gradient: constant almost everywhere, integer, random, or a scale."""
