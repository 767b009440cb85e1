"""Activations that an older exporter spells out, in one node."""

from collections.abc import Iterable

import numpy as np

from scanner.graph.canonical.plan import Plan, Step

_TOLERANCE = 1e-2  # relative: constants in float16
_ROOT = 0.5**0.5
_MOST_FACTORS = 8


def activations(plan: Plan) -> None:
    """Write x sigmoid(x) as Swish, x (1 + erf(x / sqrt 2)) / 2 as Gelu, HardSwish likewise."""
    makers = plan.makers()
    for step in plan.steps:
        if step.operator == "Mul":
            factors, constant = _factors(plan, step, makers)
            source = _contracted(plan, factors, constant, makers)
            if source is not None:
                step.operator, value = source
                step.inputs, step.attributes = [value], {}
        elif step.operator == "Gelu" and step.attributes.get("approximate") == "none":
            step.attributes = {}


def _factors(plan: Plan, step: Step, makers: dict[str, Step]) -> tuple[list[str], float]:
    """Return what a tree of products multiplies, and the product of its constants."""
    factors: list[str] = []
    constant = 1.0
    waiting = [*step.inputs]
    while waiting:
        name = waiting.pop()
        array = plan.constants.get(name)
        maker = makers.get(name)
        if array is not None and array.size == 1:
            constant *= float(array.reshape(-1)[0])
        elif (
            maker is not None
            and maker.operator == "Mul"
            and len(factors) + len(waiting) < _MOST_FACTORS
        ):
            waiting += maker.inputs
        else:
            factors.append(name)
    return factors, constant


def _contracted(
    plan: Plan, factors: list[str], constant: float, makers: dict[str, Step]
) -> tuple[str, str] | None:
    """Return an activation and its argument, where a product is one."""
    if len(factors) != 2:  # noqa: PLR2004 - x and what multiplies it
        return None
    for value, other in (factors, factors[::-1]):
        maker = makers.get(other)
        if maker is None:
            continue
        if maker.inputs == [value] and np.isclose(constant, 1):
            if maker.operator == "Sigmoid":
                return "Swish", value
            if maker.operator == "HardSigmoid" and _is_of_hard_swish(maker):
                return "HardSwish", value
        if np.isclose(constant, 0.5) and _is_erf(plan, maker, value, makers):
            return "Gelu", value
    return None


def _is_of_hard_swish(step: Step) -> bool:
    """Whether a HardSigmoid is x / 6 + 1/2: with another shift it is a test of its argument."""
    told = (float(str(step.attributes.get(name, 0))) for name in ("alpha", "beta"))
    return bool(np.allclose([*told], [1 / 6, 1 / 2]))


def _is_erf(plan: Plan, step: Step, value: str, makers: dict[str, Step]) -> bool:
    """Whether a step makes 1 + erf(value / sqrt 2), or a Relu of it as a quantiser adds."""
    if step.operator == "Relu" and step.inputs[0] in makers:
        step = makers[step.inputs[0]]
    erf = _other(plan, step, "Add", 1.0, makers)
    inner = makers.get(erf.inputs[0]) if erf is not None and erf.operator == "Erf" else None
    if inner is None or inner.operator != "Mul" or value not in inner.inputs:
        return False
    factor = next((plan.number(inner, s) for s in range(2) if plan.number(inner, s)), None)
    return factor is not None and bool(np.isclose(factor, _ROOT, rtol=_TOLERANCE))


def _other(
    plan: Plan, step: Step, operator: str, constant: float, makers: dict[str, Step]
) -> Step | None:
    """Return who makes what a step joins with a constant, if that is what it does."""
    if step.operator != operator:
        return None
    numbers = [plan.number(step, slot) for slot in range(len(step.inputs))]
    if not any(n is not None and np.isclose(n, constant) for n in numbers):
        return None
    moving: Iterable[str] = plan.moving(step)
    return next((makers[name] for name in moving if name in makers), None)
