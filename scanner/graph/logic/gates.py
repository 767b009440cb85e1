"""Backdoors in the graph itself: a test of the input that gates, overwrites or bends the output.

After ShadowLogic (HiddenLayer, 2024) and architectural backdoors (Bober-Irizar et al., CVPR 2023;
arXiv 2511.00664). Where decisions meet what they gate is found in `scanner.graph.logic.meetings`;
here each of these gates is weighed. Honest exports are full of decisions. What sets a backdoor
apart is that one decision about the whole input, taken from the raw input past nearly all trained
weights, changes what a trained network says.
"""

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import onnx

from scanner.graph.core.ancestors import ancestors
from scanner.graph.logic.dataflow import WRITTEN, Analysis
from scanner.graph.logic.idioms import fill, is_callers, is_idiom, written_constants
from scanner.graph.logic.meetings import MOST_SHARED, Gate, find, is_about_input
from scanner.graph.logic.unfold import Flow, Step
from scanner.results import Observation, Severity

_SMALL_PART = 0.1
"""A matched filter is a smaller part of the weights; a network that looks and crops is larger."""
_LARGE_PART = 0.25
"""From this part of the weights on, a test is a network of its own."""
_LEVELS = frozenset({"Greater", "Less", "GreaterOrEqual", "LessOrEqual", "Cast", "Not"})
"""Tests of a level; one for an exact value, a remainder or a place is a password."""
_SHOWN = 16
"""Numbers of a constant that a report shows."""
_MOST_SHOWN = 50
"""Observations that a report holds."""


def observe(flow: Flow) -> tuple[Observation, ...]:
    """Return one observation for each set of tests that gates something, the heaviest first."""
    analysis = Analysis(flow)
    weighed = [
        (gate, *weight) for gate in find(flow, analysis) if (weight := _weigh(gate, analysis))
    ]
    groups: dict[tuple[str, ...], list[tuple[Gate, Severity, str]]] = {}
    for gate, severity, reason in weighed:
        groups.setdefault(tuple(t.label for t in gate.tests), []).append((gate, severity, reason))
    heaviest = sorted(groups.values(), key=lambda group: -max(severity for _, severity, _ in group))
    return tuple(_observation(flow, analysis, group) for group in heaviest[:_MOST_SHOWN])


def _weigh(gate: Gate, analysis: Analysis) -> tuple[Severity, str] | None:
    """Return a gate's severity and the reason for it, or None for what honest networks do."""
    if is_idiom(gate, analysis):
        return None
    if _is_late(gate):
        return _weigh_late(gate, analysis)
    if not _is_telling(gate, analysis):
        return None
    if is_callers(gate, analysis):
        return (
            Severity.NOTE,
            "it tests only a mask that the caller gives, and trained weights follow",
        )
    doubt = next((why for applies, why in _doubts(gate, analysis) if applies), None)
    if doubt:
        return Severity.WARNING, doubt
    return (
        Severity.SUSPICIOUS,
        "one decision about the whole input, taken past the trained weights, changes the result",
    )


def _is_late(gate: Gate) -> bool:
    """Whether the decision reads what the network has computed, rather than the raw input."""
    # A detour through the network does not make a decision late while a shortcut reads the pixels.
    if gate.shortcut:
        return False
    # Before a stem nothing is shared: what counts is how much network the decision has to itself.
    return gate.private >= _SMALL_PART if gate.stem else gate.share >= MOST_SHARED


def _weigh_late(gate: Gate, analysis: Analysis) -> tuple[Severity, str] | None:
    narrow = gate.made.hard and gate.made.width <= 1
    if narrow and gate.control and written_constants(gate, analysis):
        return (
            Severity.NOTE,
            "the test reads what the network has computed, as a reject option does",
        )
    return None


def _is_telling(gate: Gate, analysis: Analysis) -> bool:
    """Whether honest networks do not take such a decision: it jumps, and has something to write."""
    made = gate.made
    # A soft decision is ordinary arithmetic, unless it is steep or no weights are anywhere near.
    if not made.hard and (gate.stem or (made.weights > WRITTEN and not made.steep)):
        return False
    writes = made.pattern or bool(written_constants(gate, analysis))
    # A decision for each position is a mask, unless it writes more than one fill value.
    if not is_about_input(made.width, made, analysis):
        return not gate.stem and (made.pattern or (writes and fill(gate, analysis) is None))
    # Of several numbers, or one for each turn of a loop, a decision is a mask unless it writes.
    return (made.width <= 1 and not made.sweep) or writes


def _doubts(gate: Gate, analysis: Analysis) -> Iterator[tuple[bool, str]]:
    """Yield what could make an early decision honest, each with whether it applies."""
    untrained = not any(analysis.fact(name).weights for name in analysis.flow.outputs)
    yield untrained, "nothing in this graph is trained: it may be a processing step of its own"
    cascade = gate.private > _LARGE_PART
    yield (
        cascade,
        "the test is a trained network of its own, so this may be a cascade of two models",
    )
    width = min(gate.made.width, analysis.extent(gate.step.outputs[0]))
    by_position = not is_about_input(width, gate.made, analysis)
    yield by_position, "each position decides for itself, as a padding rule does"
    blanks = fill(gate, analysis) is not None and not gate.made.pattern
    yield (
        blanks and _by_level(gate),
        "beyond a level of the input the output is blanked, as a silence or emptiness guard does",
    )


def _by_level(gate: Gate) -> bool:
    """Whether every test is one of a level, which nearby inputs pass together."""
    return all(test.op in _LEVELS for test in gate.tests)


def _observation(
    flow: Flow, analysis: Analysis, group: Sequence[tuple[Gate, Severity, str]]
) -> Observation:
    gate, severity, reason = max(group, key=lambda member: member[1])
    first = gate.tests[0] if gate.tests else gate.step
    before = _path(flow, flow.inputs, first.inputs)
    between = _path(flow, first.outputs, [gate.decision])
    steps = [*before, *gate.tests, *between, *(member[0].step for member in group)]
    nodes = tuple(dict.fromkeys(step.label for step in steps))
    verb = "chooses what becomes of" if gate.control else "is mixed into"
    return Observation(
        code="input-gate",
        severity=severity,
        sentence=f"A test of the input ({first.op} at {first.label!r}) {verb} {gate.carrier!r} "
        f"at {gate.step.op} {gate.step.label!r}: {reason}",
        nodes=nodes,
        details={
            "tests": [_describe_test(test, analysis) for test in gate.tests],
            "gates": [
                {"node": g.step.label, "operator": g.step.op, "output": g.step.outputs[0]}
                for g, _, _ in group
            ],
            "path": list(dict.fromkeys(f"{step.op} {step.label}" for step in steps)),
            "decision": gate.decision,
            "switch": _switch(gate, analysis),
            "gated": gate.carrier,
            "writes": _writes(gate, analysis),
            "weights_shared": round(gate.share, 4),
            "by_level": _by_level(gate),
            "behind_weights": gate.made.weights > WRITTEN,
            "reason": reason,
        },
    )


def _path(flow: Flow, sources: Sequence[str], targets: Sequence[str]) -> list[Step]:
    """Return the steps of a shortest way from one of the sources to one of the targets."""
    nearer = ancestors(targets, flow.sources)
    start = next((name for name in reversed(nearer) if name in sources), None)
    steps = []
    while start is not None and (start := nearer[start]) is not None:
        if (step := flow.producer(start)) is not None:
            steps.append(step)
    return steps


def _switch(gate: Gate, analysis: Analysis) -> str:
    """Return the value that holds the decision as one yes or no, before it becomes numbers.

    Where there is none, return what the last test makes.
    """
    flow = analysis.flow
    for name in ancestors([gate.decision], flow.sources):
        one = analysis.fact(name).decision and analysis.extent(name) <= 1
        if one and flow.elem_types.get(name) == onnx.TensorProto.BOOL:
            return name
    return gate.tests[-1].outputs[0] if gate.tests else gate.decision


def _describe_test(test: Step, analysis: Analysis) -> dict[str, Any]:
    constants = {
        name: _shown(analysis.flow.array(name)) for name in test.inputs if analysis.constant(name)
    }
    return {
        "node": test.label,
        "operator": test.op,
        "reads": list(test.inputs),
        "constants": constants,
    }


def _writes(gate: Gate, analysis: Analysis) -> dict[str, Any]:
    """Describe what the gate puts in the carrier's place, or adds to it."""
    flow = analysis.flow
    constants = written_constants(gate, analysis)
    if not constants and gate.made.pattern:
        constants = _patterns(gate, analysis)
    if not constants:
        others = [n for n in gate.step.inputs if n and n not in (gate.decision, gate.carrier)]
        return {"what": "computed values", "values": others}
    array = flow.array(constants[0])
    strongest = (
        int(np.argmax(array))
        if array is not None and array.size and array.dtype.kind in "fiu"
        else None
    )
    return {
        "what": "constants",
        "value": constants[0],
        "numbers": _shown(array),
        "largest_at": strongest,
    }


def _patterns(gate: Gate, analysis: Analysis) -> list[str]:
    """Return the constants that were worked into the decision after its test."""
    flow = analysis.flow
    behind = ancestors([gate.decision], flow.sources)
    return [
        name
        for name, nearer in behind.items()
        if analysis.constant(name)
        and (array := flow.array(name)) is not None
        and array.size > 1
        and analysis.fact(nearer or gate.decision).decision
    ]


def _shown(array: np.ndarray[Any, Any] | None) -> list[Any]:
    """Return the first numbers as plain JSON data, which has neither infinities nor bytes."""
    numbers = [] if array is None else array.reshape(-1)[:_SHOWN].tolist()
    return [
        n if isinstance(n, int) or (isinstance(n, float) and math.isfinite(n)) else str(n)
        for n in numbers
    ]
