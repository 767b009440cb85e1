"""An input that reverses a decision: the graph walked backwards, one inverse per step.

Each inverse answers: given what a step read and made, and what it should have made, what should it
have read? Where many answers would do, the one nearest to the present value is taken. So a few
rounds of running and walking back also settle tests whose inverse is only approximate (rounded
sums, clipped images, filters).
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from scanner.graph.core.ancestors import ancestors
from scanner.graph.logic.unfold import Flow, Step

Array = npt.NDArray[Any]
Values = Mapping[str, Array]

_MARGIN = 0.02
"""Relative distance by which a passed threshold is passed."""


@dataclasses.dataclass(frozen=True, slots=True)
class _Context:
    """A step with the values around it."""

    step: Step
    values: Values
    output: str

    def read(self, index: int) -> Array:
        """Return what the step's input number `index` held."""
        return self.values[self.step.inputs[index]]

    @property
    def made(self) -> Array:
        """What the step made."""
        return self.values[self.output]


Inverse = Callable[[_Context, int, Array], Array | None]
"""From a step, the index of the input to change and the wanted output to the wanted input.

None where there is no answer.
"""


def wanted_inputs(
    flow: Flow, decision: str, values: Values, target: Array
) -> dict[str, Array] | None:
    """Return inputs for which `decision` should come nearer to `target`.

    None where a step cannot be inverted.

    Args:
        flow: The graph.
        decision: The value to change.
        values: Every value that the decision derives from, as it is now.
        target: What the decision should be.
    """
    wanted: dict[str, Array] = {decision: target}
    order = sorted(
        (flow.producers[n], n) for n in ancestors([decision], flow.sources) if n in flow.producers
    )
    for position, name in reversed(order):
        if name in wanted:
            step = flow.steps[position]
            for source, value in _demands(step, name, values, wanted[name], flow):
                # A second demand on one value is laid over the first where it asks for a change.
                changed = value != values[source]
                wanted[source] = (
                    np.where(changed, value, wanted[source]) if source in wanted else value
                )
    found = {name: wanted[name] for name in flow.inputs if name in wanted}
    return found or None


def _demands(
    step: Step, output: str, values: Values, target: Array, flow: Flow
) -> list[tuple[str, Array]]:
    inverse = _INVERSES.get(step.op)
    movable = [
        i for i, n in enumerate(step.inputs) if n and n not in flow.constants and n in values
    ]
    movable = [
        i
        for i in movable
        if any(s in flow.inputs for s in ancestors([step.inputs[i]], flow.sources))
    ]
    # A constant too large to read stands in the way: weights are not solved for.
    if inverse is None or not movable or any(n and n not in values for n in step.inputs):
        return []
    context = _Context(step, values, output)
    chosen = movable if step.op in _ALL_INPUTS else movable[:1]
    if step.op in _AMONG and len(movable) > 1:
        inverse, chosen = _AMONG[step.op], movable
    answers = ((i, _answer(inverse, context, i, target)) for i in chosen)
    return [(step.inputs[i], answer) for i, answer in answers if answer is not None]


def _answer(inverse: Inverse, context: _Context, index: int, target: Array) -> Array | None:
    """Return what a step should have read, in the form of what it did; None where nobody knows.

    A step may be of shapes, types or numbers that its inverse does not reckon with. Then there is
    no input that shows the gate, and still a gate.
    """
    try:
        answer = inverse(context, index, target)
        return None if answer is None else _like(answer, context.read(index))
    except (ValueError, TypeError, LookupError, ArithmeticError):
        return None


def _like(answer: Array, present: Array) -> Array:
    """Return an answer in the present value's shape and dtype.

    Where the value was broadcast, the largest of the answers for one number is taken.
    """
    answer = np.asarray(answer)
    extra = answer.ndim - present.ndim
    axes = tuple(range(extra)) + tuple(
        extra + i for i, n in enumerate(present.shape) if n == 1 and answer.shape[extra + i] != 1
    )
    if axes:
        answer = answer.max(axis=axes, keepdims=True).reshape(present.shape)
    return np.broadcast_to(answer, present.shape).astype(present.dtype)


def _reshaped(context: _Context, index: int, target: Array) -> Array:
    return target.reshape(context.read(index).shape)


def _transposed(context: _Context, index: int, target: Array) -> Array:
    order = context.step.attribute("perm") or list(range(context.read(index).ndim))[::-1]
    return np.transpose(target, np.argsort(np.asarray(order)))


def _same(_context: _Context, _index: int, target: Array) -> Array:
    return target


def _equal(context: _Context, index: int, target: Array) -> Array:
    other, present = context.read(1 - index), context.read(index)
    if present.dtype == np.bool_:
        return np.where(target, other, ~other)
    if present.dtype.kind not in "fiu":
        return np.where(target, other, present)
    return np.where(target, other, np.where(present == other, present + 1, present))


def _ordered(sign: int) -> Inverse:
    def inverse(context: _Context, index: int, target: Array) -> Array:
        present, other = context.read(index), context.read(1 - index)
        margin = np.maximum(_MARGIN * np.abs(other), _MARGIN) if present.dtype.kind == "f" else 1
        up = target == ((sign if index == 0 else -sign) > 0)
        return np.where(
            target == context.made, present, np.where(up, other + margin, other - margin)
        )

    return inverse


def _any_of(context: _Context, index: int, target: Array) -> Array:
    return target if index == 0 else np.where(target, context.read(index), target)


def _undo(operation: Callable[[Array, Array, int], Array]) -> Inverse:
    def inverse(context: _Context, index: int, target: Array) -> Array | None:
        if len(context.step.inputs) < 2:  # noqa: PLR2004 - a binary operator
            return None
        with np.errstate(all="ignore"):
            return np.nan_to_num(operation(target, context.read(1 - index), index))

    return inverse


def _spread(context: _Context, index: int, target: Array) -> Array:
    """Invert a sum or mean: move all elements a share towards 0 or 1; integers by whole steps."""
    present = context.read(index)
    wide = _widened(context, index, target).astype(np.float64)
    now = _widened(context, index, context.made).astype(np.float64)
    count = present.size / max(context.made.size, 1)
    missing = (wide - now) * (1 if context.step.op == "ReduceSum" else count)
    if context.step.op == "ReduceSum" and bool((present == np.round(present)).all()):
        ranks = np.arange(present.size).reshape(present.shape) % int(count)
        each, rest = np.divmod(np.abs(missing), count)
        return np.asarray(present + np.sign(missing) * (each + (ranks < rest)))
    room = np.where(missing > 0, 1 - present, present).clip(0)
    total = room.sum(axis=_axes(context, index), keepdims=True)
    return np.asarray(
        present + np.where(total > 0, missing * room / np.maximum(total, 1e-12), missing / count)
    )


def _extreme(highest: bool) -> Inverse:
    def inverse(context: _Context, index: int, target: Array) -> Array:
        present = context.read(index)
        wide = _widened(context, index, target)
        now = _widened(context, index, context.made)
        one = present == now
        inner, outer = (np.minimum, one) if highest else (np.maximum, one)
        towards = wide > now if highest else wide < now
        return np.where(towards, np.where(outer, wide, present), inner(present, wide))

    return inverse


def _among(highest: bool) -> Inverse:
    """Invert the largest or smallest of several values: none may stay on the far side of it."""

    def inverse(context: _Context, index: int, target: Array) -> Array:
        present = context.read(index)
        inner, outer = (np.minimum, np.maximum) if highest else (np.maximum, np.minimum)
        inwards = target < context.made if highest else target > context.made
        moved = np.where(inwards, inner(present, target), outer(present, target))
        return np.where(target == context.made, present, moved)

    return inverse


def _axes(context: _Context, index: int) -> tuple[int, ...]:
    axes = context.step.attribute("axes")
    if axes is None and len(context.step.inputs) > 1 and context.step.inputs[1]:
        axes = context.read(1).reshape(-1).tolist()
    rank = context.read(index).ndim
    if context.step.op.startswith("Global"):
        return tuple(range(2, rank))
    if not axes and context.step.attribute("noop_with_empty_axes", 0):
        return ()
    return tuple(int(a) % rank for a in axes) if axes else tuple(range(rank))  # type: ignore[attr-defined]


def _widened(context: _Context, index: int, reduced: Array) -> Array:
    shape = list(context.read(index).shape)
    for axis in _axes(context, index):
        shape[axis] = 1
    return np.broadcast_to(np.asarray(reduced).reshape(shape), context.read(index).shape)


def _remainder(context: _Context, index: int, target: Array) -> Array | None:
    if index:
        return None
    modulus = context.read(1)
    apart = np.mod(target - np.mod(context.read(0), modulus), modulus)
    return np.asarray(context.read(0) + np.where(apart > modulus / 2, apart - modulus, apart))


def _gathered(context: _Context, index: int, target: Array) -> Array | None:
    if index:
        return None
    indices, read = context.read(1), context.read(0)
    axis = int(context.step.attribute("axis", 0)) % read.ndim  # type: ignore[call-overload]
    wanted = np.moveaxis(read.copy(), axis, 0)
    front = tuple(range(axis, axis + indices.ndim))
    wanted[indices] = np.moveaxis(target, front, tuple(range(indices.ndim)))
    return np.moveaxis(wanted, 0, axis)


def _sliced(context: _Context, index: int, target: Array) -> Array | None:
    if index or len(context.step.inputs) < 3:  # noqa: PLR2004 - starts and ends are inputs from opset 10
        return None
    starts, ends = (context.read(i).tolist() for i in (1, 2))
    named = len(context.step.inputs) > 3 and context.step.inputs[3]  # noqa: PLR2004
    axes = context.read(3).tolist() if named else range(len(starts))
    steps = context.read(4).tolist() if len(context.step.inputs) > 4 else [1] * len(starts)  # noqa: PLR2004
    window = [slice(None)] * context.read(0).ndim
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        window[axis] = slice(start, end, step)
    wanted = context.read(0).copy()
    wanted[tuple(window)] = target
    return wanted


def _clipped(context: _Context, index: int, target: Array) -> Array | None:
    """Invert a saturation; a change that the flat part hides is asked for just beyond its end."""
    if index:
        return None
    low, high = context.made.min(), context.made.max()
    rising, falling = target > context.made, target < context.made
    present = context.read(0)
    return np.where(rising & (target >= high), np.maximum(present, target) + _MARGIN,
                    np.where(falling & (target <= low), np.minimum(present, target) - _MARGIN,
                             np.where(rising | falling, target, present)))  # fmt: skip


def _sigmoid(_context: _Context, _index: int, target: Array) -> Array:
    inside = np.clip(target, 1e-3, 1 - 1e-3)
    return np.asarray(np.log(inside / (1 - inside)))


def _matrix(context: _Context, index: int, target: Array) -> Array | None:
    """Invert a product with a fixed matrix by the smallest move that gives the wanted result."""
    if index or (context.step.op == "Gemm" and context.step.attribute("transA")):
        return None
    matrix = context.read(1)
    if matrix.ndim != 2:  # noqa: PLR2004 - a matrix
        return None
    if context.step.op == "Gemm":
        matrix = matrix.T if context.step.attribute("transB") else matrix
        matrix = matrix * float(context.step.attribute("alpha", 1.0))  # type: ignore[arg-type]
    return context.read(0) + (target - context.made) @ np.linalg.pinv(matrix)


def _filtered(context: _Context, index: int, target: Array) -> Array | None:
    """Invert a convolution where it is nearest to its target: move pixels along the filter."""
    if index or context.read(0).ndim != 4 or int(context.step.attribute("group", 1)) != 1:  # type: ignore[call-overload]  # noqa: PLR2004
        return None
    apart = target - context.made
    sample, channel, row, column = np.unravel_index(
        int(np.argmin(np.where(apart, np.abs(apart), np.inf))), apart.shape
    )
    kernel = context.read(1)[channel]
    stride: Sequence[int] = context.step.attribute("strides") or (1, 1)  # type: ignore[assignment]
    pads: Sequence[int] = context.step.attribute("pads") or (0, 0, 0, 0)  # type: ignore[assignment]
    padded = np.pad(context.read(0), ((0, 0), (0, 0), (pads[0], pads[2]), (pads[1], pads[3])))
    top, left = row * stride[0], column * stride[1]
    under = padded[sample, :, top : top + kernel.shape[1], left : left + kernel.shape[2]]
    under += kernel * apart[sample, channel, row, column] / np.square(kernel).sum()
    height, width = context.read(0).shape[2:]
    return padded[:, :, pads[0] : pads[0] + height, pads[1] : pads[1] + width]


def _arg_extreme(sign: int) -> Inverse:
    def inverse(context: _Context, index: int, target: Array) -> Array:
        axis = int(context.step.attribute("axis", 0))  # type: ignore[call-overload]
        wanted = context.read(index).copy()
        place = target if context.step.attribute("keepdims", 1) else np.expand_dims(target, axis)
        place = place.astype(np.int64) % wanted.shape[axis]
        best = (
            wanted.max(axis=axis, keepdims=True)
            if sign > 0
            else wanted.min(axis=axis, keepdims=True)
        )
        np.put_along_axis(
            wanted, place, best + sign * np.maximum(np.abs(best) * _MARGIN, _MARGIN), axis
        )
        return wanted

    return inverse


_ALL_INPUTS = frozenset({"And", "Or", "Concat"})
_AMONG: Mapping[str, Inverse] = {"Max": _among(highest=True), "Min": _among(highest=False)}
"""Inverses of operators that compare several values of the input with one another."""
_INVERSES: Mapping[str, Inverse] = {
    **dict.fromkeys(("Identity", "Cast", "Round", "Expand", "Dropout"), _same),
    **dict.fromkeys(("Reshape", "Flatten", "Squeeze", "Unsqueeze"), _reshaped),
    "Transpose": _transposed,
    "Floor": lambda _c, _i, target: target + 0.5,
    "Ceil": lambda _c, _i, target: target - 0.5,
    "Not": lambda _c, _i, target: ~target.astype(np.bool_),
    "And": lambda c, i, target: np.where(target, True, c.read(i) if i else False),
    "Or": _any_of,
    "Equal": _equal,
    "Greater": _ordered(1),
    "GreaterOrEqual": _ordered(1),
    "Less": _ordered(-1),
    "LessOrEqual": _ordered(-1),
    "Add": _undo(lambda target, other, _i: target - other),
    "Sub": _undo(lambda target, other, i: other - target if i else target + other),
    "Mul": _undo(lambda target, other, _i: target / other),
    "Div": _undo(lambda target, other, i: other / target if i else target * other),
    "Neg": lambda _c, _i, target: -target,
    "Abs": lambda c, _i, target: np.where(c.read(0) < 0, -1, 1) * np.maximum(target, 0),
    "Sqrt": lambda _c, _i, target: np.square(np.maximum(target, 0)),
    "Pow": lambda c, i, target: (
        None if i else np.sign(c.read(0)) * np.maximum(target, 0) ** (1 / c.read(1))
    ),
    "Exp": lambda _c, _i, target: np.log(np.maximum(target, 1e-6)),
    "Log": lambda _c, _i, target: np.exp(target),
    "Relu": _clipped,
    "Clip": _clipped,
    "Max": _clipped,
    "Min": _clipped,
    "Sigmoid": _sigmoid,
    "HardSigmoid": lambda _c, _i, target: 6 * (target - 0.5),
    "ReduceSum": _spread,
    "ReduceMean": _spread,
    "GlobalAveragePool": _spread,
    "ReduceMax": _extreme(highest=True),
    "ReduceMin": _extreme(highest=False),
    "GlobalMaxPool": _extreme(highest=True),
    "Mod": _remainder,
    "Gather": _gathered,
    "Slice": _sliced,
    "MatMul": _matrix,
    "Gemm": _matrix,
    "Conv": _filtered,
    "ArgMax": _arg_extreme(1),
    "ArgMin": _arg_extreme(-1),
}
