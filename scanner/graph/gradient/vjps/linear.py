"""Gradients of matrix products."""

import string

from scanner.graph.core.open_sizes import Shape
from scanner.graph.gradient.tape import Value
from scanner.graph.gradient.vjps.base import Gradients, Op, Vjp


def matmul(op: Op) -> Gradients:
    """Carry dA = dY B^T and dB = A^T dY, summed over broadcast batches.

    A vector is a matrix of one row or column.
    """
    a, b, dy = op.x, op.input(1), op.dy
    row, column = a.rank == 1, b.rank == 1
    batch = (op.y.sizes or ())[: max(a.rank, b.rank) - 2] if max(a.rank, b.rank) > 2 else ()  # noqa: PLR2004 - matrices
    left = a.op("Unsqueeze", [0]) if row else a
    right = b.op("Unsqueeze", [1]) if column else b
    if row:
        dy = dy.op("Unsqueeze", [-1 if column else -2])
    if column:
        dy = dy.op("Unsqueeze", [-1])
    if 0 in op.wanted:
        da = dy.op("MatMul", _transposed(right, b.rank))
        yield 0, _summed(da.op("Squeeze", [-2]) if row else da, batch, a, 1 if row else 2)
    if 1 in op.wanted:
        db = _transposed(left, a.rank).op("MatMul", dy)
        yield 1, _summed(db.op("Squeeze", [-1]) if column else db, batch, b, 1 if column else 2)


def _transposed(matrix: Value, rank: int) -> Value:
    rank = max(rank, 2)
    return matrix.transpose([*range(rank - 2), rank - 1, rank - 2])


def _summed(gradient: Value, batch: Shape, target: Value, own: int) -> Value:
    sizes = target.sizes or ()
    return gradient.unbroadcast((*batch, *sizes[-own:]), target)


def gemm(op: Op) -> Gradients:
    """Differentiate Y = alpha A' B' + beta C, where ' may transpose."""
    alpha, beta = op.attribute("alpha", 1.0), op.attribute("beta", 1.0)
    trans_a, trans_b = op.attribute("transA", 0), op.attribute("transB", 0)
    a, b, dy = op.x, op.input(1), op.dy
    if 0 in op.wanted and trans_a:
        yield 0, b.op("Gemm", dy, alpha=alpha, transA=trans_b, transB=1)
    elif 0 in op.wanted:
        yield 0, dy.op("Gemm", b, alpha=alpha, transB=1 - trans_b)
    if 1 in op.wanted and trans_b:
        yield 1, dy.op("Gemm", a, alpha=alpha, transA=1, transB=trans_a)
    elif 1 in op.wanted:
        yield 1, a.op("Gemm", dy, alpha=alpha, transA=1 - trans_a)
    if 2 in op.wanted:  # noqa: PLR2004 - Gemm(A, B, C)
        yield 2, (dy * beta).unbroadcast(op.y.sizes, op.input(2))


def einsum(op: Op) -> Gradients:
    """Exchange the operand's subscripts with the result's.

    Axes that only the operand has were summed over: the gradient is repeated along them.
    """
    equation: str = op.attribute("equation").replace(" ", "")
    left, arrow, right = equation.partition("->")
    operands = left.split(",")
    if len(operands) == 1 and equation.count("...") == 2:  # noqa: PLR2004 - both sides
        # Of one operand an ellipsis is a run of axes, all of which the result has.
        count = op.x.rank - len(left.replace("...", ""))
        axes = "".join(c for c in string.ascii_letters if c not in equation)[:count]
        left, right = left.replace("...", axes), right.replace("...", axes)
        equation, operands = f"{left}->{right}", [left]
    if "." in equation or not arrow or any(len(set(term)) < len(term) for term in operands):
        raise op.unsupported(
            f"the equation {equation!r} has an ellipsis, a diagonal or no explicit result"
        )
    for position in op.wanted:
        others = [i for i in range(len(operands)) if i != position]
        known = set(right).union(*(operands[i] for i in others))
        kept = "".join(label for label in operands[position] if label in known)
        terms = ",".join([right, *(operands[i] for i in others)])
        reduced = op.dy.op("Einsum", *(op.input(i) for i in others), equation=f"{terms}->{kept}")
        summed = [axis for axis, label in enumerate(operands[position]) if label not in known]
        if summed:
            reduced = reduced.op("Unsqueeze", summed).op("Expand", op.input(position).shape)
        yield position, reduced


VJPS: dict[str, Vjp] = {"Einsum": einsum, "Gemm": gemm, "MatMul": matmul}
