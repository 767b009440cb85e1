"""Floor division as exporters write it: arithmetic, though it is made of tests.

The standard's `Div` cuts integers off towards zero, so exporters subtract one where the quotient is
negative and something remains: `Where(rounded, q - 1, q)` or `q - Cast(rounded)`. Only what is
exactly that counts: the same operands in quotient and remainder, a condition that is true in just
those cases, and a correction of one.
"""

import itertools
from typing import NamedTuple

import onnx

from scanner.graph.logic.unfold import INTEGERS, Flow, Step

_BOOL = onnx.TensorProto.BOOL
_DEEPEST = 6
"""Levels of a condition that are read; exporters need four."""


class _Case(NamedTuple):
    """Whether dividend and divisor are negative, and something remains."""

    dividend: bool
    divisor: bool
    rest: bool

    @property
    def rounded(self) -> bool:
        """Whether cutting off rounds up."""
        return self.dividend != self.divisor and self.rest


def quotient(step: Step, flow: Flow) -> str | None:
    """Return the cut-off quotient that a step turns into a floor; None for any other step."""
    parts = _parts(step, flow)
    if parts is None:
        return None
    value, condition = parts
    division = flow.producer(value)
    if division is None or division.op != "Div" or flow.elem_types.get(value) not in INTEGERS:
        return None
    signs = _signs(division.inputs[1], flow)
    cases = itertools.starmap(_Case, itertools.product((False, True), signs, (False, True)))
    exact = all(_holds(condition, division, case, flow) == case.rounded for case in cases)
    return value if exact else None


def _parts(step: Step, flow: Flow) -> tuple[str, str] | None:
    """Return the quotient and the condition under which a step makes it less by one."""
    if step.op == "Where":
        condition, lowered, value = step.inputs
        less = flow.producer(lowered)
        if less is None or less.op != "Sub" or less.inputs[0] != value:
            return None
        return (value, condition) if _is(less.inputs[1], 1, flow) else None
    if step.op == "Sub":
        # A yes or no that is cast to a number is one or zero.
        cast = flow.producer(step.inputs[1])
        return None if cast is None or cast.op != "Cast" else (step.inputs[0], cast.inputs[0])
    return None


def _signs(divisor: str, flow: Flow) -> tuple[bool, ...]:
    """Return whether a divisor can be negative: one answer for a constant, both for a value."""
    array = flow.array(divisor)
    negative = (
        (False, True) if array is None else tuple({bool(n < 0) for n in array.reshape(-1).tolist()})
    )
    return negative or (False, True)


def _holds(value: str, division: Step, case: _Case, flow: Flow, depth: int = 0) -> bool | None:
    """Return whether a condition is true in a case; None where it is about anything else."""
    array = flow.array(value)
    if array is not None:
        return bool(array.reshape(-1)[0]) if array.dtype == bool and array.size == 1 else None
    step = flow.producer(value)
    if step is None or not step.inputs or depth > _DEEPEST:
        return None
    leaf = _leaf(step, division, case, flow)
    if leaf is not None or step.op not in ("And", "Not", "Xor", "Equal"):
        return leaf
    read = [_holds(name, division, case, flow, depth + 1) for name in step.inputs]
    if None in read:
        return None
    if step.op == "And":
        return all(read)
    return not read[0] if step.op == "Not" else (read[0] == read[1]) == (step.op == "Equal")


def _leaf(step: Step, division: Step, case: _Case, flow: Flow) -> bool | None:
    """Return what a test of an operand or of the remainder says in a case; None for other steps."""
    first, *others = step.inputs
    if step.op in ("Less", "Sign"):
        if step.op == "Less" and not _is(others[0], 0, flow):
            return None
        # A dividend of zero has a sign of its own, but leaves no remainder.
        pairs = zip(division.inputs, (case.dividend, case.divisor), strict=True)
        return next((sign for name, sign in pairs if _same(first, name, flow)), None)
    is_test = step.op == "Equal" and _is(others[0], 0, flow)
    if not is_test and not (step.op == "Cast" and flow.elem_types.get(step.outputs[0]) == _BOOL):
        return None
    rest = flow.producer(first)
    if rest is None or rest.op != "Mod":
        return None
    pairs_match = all(_same(a, b, flow) for a, b in zip(rest.inputs, division.inputs, strict=True))
    return (case.rest != is_test) if pairs_match else None


def _is(value: str, number: int, flow: Flow) -> bool:
    array = flow.array(value)
    return array is not None and bool(array.size) and bool((array == number).all())


def _same(one: str, other: str, flow: Flow) -> bool:
    """Whether two names stand for one value: the same, or constants of the same numbers."""
    if one == other:
        return True
    first, second = flow.array(one), flow.array(other)
    return (
        first is not None
        and second is not None
        and first.shape == second.shape
        and bool((first == second).all())
    )
