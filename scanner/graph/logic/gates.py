"""Backdoors in the graph itself: a test of the input that gates, overwrites or bends the output.

After ShadowLogic (HiddenLayer, 2024) and architectural backdoors (Bober-Irizar et al., CVPR 2023;
arXiv 2511.00664). A gate is a step where a *decision* about the input (see
`scanner.graph.logic.dataflow`) meets values that derive from the input in another way. Honest
exports are full of decisions; what sets a backdoor apart is that one decision about the whole
input, taken from the raw input past nearly all trained weights, changes what a trained network
says.
"""

import dataclasses
import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import onnx

from scanner.graph.logic.dataflow import COMPARISONS, TESTS, WEIGHTED, Analysis, Fact, ancestors
from scanner.graph.logic.unfold import Flow, Step
from scanner.results import Observation, Severity

_SELECTIONS = frozenset(
    {
        "Gather",
        "GatherND",
        "GatherElements",
        "ai.onnx.ml.ArrayFeatureExtractor",
        "Slice",
        "Resize",
        "Pad",
    }
)
_SHAPED = frozenset(
    {"Expand", "Reshape", "Tile", "Range", "ConstantOfShape", "Unsqueeze", "Squeeze", "Split"}
)
_RECURRENT = frozenset({"LSTM", "GRU", "RNN"})
_PLUMBING = frozenset(
    {"Identity", "Cast", "Reshape", "Unsqueeze", "Squeeze", "Flatten", "Expand", "Transpose"}
)
_COUNTING = _PLUMBING | {
    "Not",
    "And",
    "ReduceSum",
    "Clip",
    "Max",
    "Equal",
    "Greater",
    "Less",
    "GreaterOrEqual",
}
_CONTROL = {"Where": 1, "If": 1, "Loop": 3}
"""How many of the first inputs of a selecting step are its control."""

_NARROW = 16
"""A decision with fewer numbers than the input by this factor is about the input, not about each of its positions."""
_MOST_SHARED = 0.5
"""A test behind this part of the gated value's weights reads what the network has computed, not the input."""
_SMALL_PART = 0.1
"""A matched filter is smaller than this part of a network; a network that looks before it crops is not."""
_LARGE_PART = 0.25
_TINY = 1e-3
_SHOWN = 16
_BITS = 1024
_BYTES = 16
"""Powers of two between fractions and 16-bit levels."""
_MOST_SHOWN = 50


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """A step where a decision about the input meets what it gates.

    Attributes:
        step: The gating step.
        decision: Name of the value that decides.
        carrier: Name of the value that is gated.
        made: What is known of the decision.
        tests: The steps that make the decision, nearest to the input first.
        share: Part of the carrier's weights that the decision derives from too.
        private: Part of the model's weights that only the decision derives from.
        stem: No weight lies before the gate.
        shortcut: The decision reads the input past half of the weights on the carrier's own
            lightest way.
    """

    step: Step
    decision: str
    carrier: str
    made: Fact
    tests: tuple[Step, ...]
    share: float
    private: float
    stem: bool
    shortcut: bool

    @property
    def control(self) -> bool:
        """Whether the decision chooses between values, rather than being one of them."""
        return self.decision in self.step.inputs[: _CONTROL.get(self.step.op, 0)]


def observe(flow: Flow) -> tuple[Observation, ...]:
    """Return what the graph's gates amount to, one observation for each set of tests, the heaviest first."""
    analysis = Analysis(flow)
    weighed = [
        (gate, *weight) for gate in find(flow, analysis) if (weight := _weigh(gate, analysis))
    ]
    groups: dict[tuple[str, ...], list[tuple[Gate, Severity, str]]] = {}
    for gate, severity, reason in weighed:
        groups.setdefault(tuple(t.label for t in gate.tests), []).append((gate, severity, reason))
    heaviest = sorted(groups.values(), key=lambda group: -max(severity for _, severity, _ in group))
    return tuple(_observation(flow, analysis, group) for group in heaviest[:_MOST_SHOWN])


def find(flow: Flow, analysis: Analysis) -> Iterator[Gate]:
    """Yield the steps on the way to an output where one decision about the input meets what it gates."""
    live = ancestors(flow, flow.outputs)
    tail = _tail(flow)
    meetings = [
        found
        for step in flow.steps
        if not live.keys().isdisjoint(step.outputs)
        and (found := _meeting(step, analysis, wide=not tail.isdisjoint(step.outputs)))
    ]
    if not meetings:
        return
    behind, sizes = _weights_behind(flow, analysis)
    total = sum(sizes)
    for step, decision, carrier in meetings:
        own, other = behind.get(decision, 0), behind.get(carrier, 0)
        carried = _mass(other, sizes)
        yield Gate(
            step=step,
            decision=decision,
            carrier=carrier,
            made=analysis.fact(decision),
            tests=_tests(flow, analysis, decision),
            share=_mass(own & other, sizes) / carried if carried else 0.0,
            private=_mass(own & ~other, sizes) / total if total else 0.0,
            stem=not carried,
            shortcut=analysis.fact(decision).least < _MOST_SHARED * analysis.fact(carrier).least,
        )


def _tail(flow: Flow) -> set[str]:
    """Return the values from which an output is reached past no further weighted layer."""
    waiting, found = list(flow.outputs), set(flow.outputs)
    for name in waiting:
        step = flow.producer(name)
        if step is not None and step.op not in WEIGHTED:
            fresh = [source for source in step.inputs if source and source not in found]
            found.update(fresh)
            waiting.extend(fresh)
    return found


def _meeting(step: Step, analysis: Analysis, *, wide: bool) -> tuple[Step, str, str] | None:
    """Return a step with its deciding and its gated value, or None where no decision meets anything.

    The decision is a narrow one; with `wide`, it may also decide for each position.
    """
    if step.op in TESTS or step.op in ("Carry", "Shape", "Size") or step.op in _SHAPED:
        return None
    facts = {name: fact for name in step.inputs if name and (fact := analysis.fact(name)).data}
    room = max(analysis.extent(name) for name in step.outputs if name)
    decisions = [
        n
        for n, f in facts.items()
        if f.decision and ((wide and f.hard) or _about_input(min(f.width, room), analysis))
    ]
    if step.op in _RECURRENT:
        decisions = [n for n in decisions if n == step.inputs[0]]
    if step.op in ("If", "Loop"):
        decisions = [n for n in decisions if n in step.inputs[: _CONTROL[step.op]]]
    if not decisions:
        return None
    decision = min(decisions, key=lambda n: (facts[n].width, facts[n].weights, not facts[n].hard))
    weights = facts[decision].weights
    carriers = [
        n for n, f in facts.items() if n != decision and (not f.decision or f.weights > 2 * weights)
    ]
    return (step, decision, max(carriers, key=lambda n: facts[n].weights)) if carriers else None


def _about_input(width: float, analysis: Analysis) -> bool:
    """Whether a decision is about the input rather than about each of its positions."""
    widest = max((analysis.fact(name).width for name in analysis.flow.inputs), default=0.0)
    return width <= 1 or (math.isfinite(width) and width * _NARROW <= widest)


def _weights_behind(flow: Flow, analysis: Analysis) -> tuple[dict[str, int], list[int]]:
    """Return for each value the weights that it derives from, as a set of bits, and the size of what each bit means.

    Neighbouring layers share a bit where there are more than 1,024, so that the cost stays linear.
    """
    layers = (step for step in flow.steps if step.op in WEIGHTED)
    weights = {
        name: flow.elements(name)
        for step in layers
        for name in step.inputs
        if analysis.constant(name)
    }
    per_bit = len(weights) // _BITS + 1
    behind = {name: 1 << (place // per_bit) for place, name in enumerate(weights)}
    sizes = [0] * (len(weights) // per_bit + 1)
    for place, size in enumerate(weights.values()):
        sizes[place // per_bit] += size
    grown = True
    while grown:
        for step in flow.steps:
            mask = 0
            for name in step.inputs:
                mask |= behind.get(name, 0)
            if mask:
                behind.update((name, mask) for name in step.outputs)
        grown = flow.looped and any(
            behind.get(name, 0) & ~behind.get(step.outputs[0], 0)
            for step in flow.steps
            if step.op == "Carry"
            for name in step.inputs
        )
    return behind, sizes


def _mass(bits: int, sizes: Sequence[int]) -> int:
    return sum(size for place, size in enumerate(sizes) if bits >> place & 1)


def _tests(flow: Flow, analysis: Analysis, decision: str) -> tuple[Step, ...]:
    """Return the tests behind a decision, nearest to the input first."""
    waiting, seen, tests = [decision], {decision}, []
    for name in waiting:
        position = flow.producers.get(name)
        if position is None:
            continue
        step = flow.steps[position]
        if analysis.fact(name).test == position:
            tests.append(position)
        fresh = [s for s in step.inputs if s and s not in seen and analysis.fact(s).decision]
        seen.update(fresh)
        waiting.extend(fresh)
    return tuple(flow.steps[p] for p in sorted(set(tests)))


def _weigh(gate: Gate, analysis: Analysis) -> tuple[Severity, str] | None:
    """Return a gate's severity and its reason, or None for an idiom of honest exporters."""
    if _is_idiom(gate, analysis):
        return None
    late = gate.private >= _SMALL_PART if gate.stem else gate.share >= _MOST_SHARED
    if late and not gate.shortcut:
        return _weigh_late(gate, analysis)
    if not _is_telling(gate, analysis):
        return None
    doubt = next((why for applies, why in _doubts(gate, analysis) if applies), None)
    if doubt:
        return Severity.WARNING, doubt
    return (
        Severity.SUSPICIOUS,
        "one decision about the whole input, taken past the trained weights, changes the result",
    )


def _is_telling(gate: Gate, analysis: Analysis) -> bool:
    """Whether the decision is one that honest networks do not take: a jump, or a step by itself or by its steepness.

    A decision of several numbers, or one for each turn of a loop, is a mask unless it has something
    to write.
    """
    made = gate.made
    if not made.hard and (gate.stem or ((gate.private or gate.share) and not made.steep)):
        return False
    if not _about_input(made.width, analysis):
        return not gate.stem and (
            made.pattern or (bool(_constants(gate, analysis)) and _fill(gate, analysis) is None)
        )
    return (made.width <= 1 and not made.sweep) or made.pattern or bool(_constants(gate, analysis))


def _doubts(gate: Gate, analysis: Analysis) -> Iterator[tuple[bool, str]]:
    """Yield what could make an early decision honest, each with whether it applies."""
    trained = any(analysis.fact(name).weights for name in analysis.flow.outputs)
    yield not trained, "nothing trained is in this graph: it may be a processing step of its own"
    cascade = gate.private > _LARGE_PART
    yield (
        cascade,
        "the test is a trained network of its own, so this may be a cascade of two models",
    )
    positions = not _about_input(
        min(gate.made.width, analysis.extent(gate.step.outputs[0])), analysis
    )
    yield positions, "each position decides for itself, as a padding rule does"
    blank = _fill(gate, analysis) is not None and not gate.made.pattern
    level = not any(t.op == "Equal" for t in gate.tests)
    yield (
        blank and level,
        "past a level of the input the output is blanked, as a silence or emptiness guard does",
    )


def _weigh_late(gate: Gate, analysis: Analysis) -> tuple[Severity, str] | None:
    if gate.made.hard and gate.made.width <= 1 and gate.control and _constants(gate, analysis):
        return (
            Severity.NOTE,
            "the test reads what the network has computed, as a reject option does",
        )
    return None


def _is_idiom(gate: Gate, analysis: Analysis) -> bool:
    return any(idiom(gate, analysis) for idiom in _IDIOMS)


def _is_feature(gate: Gate, _analysis: Analysis) -> bool:
    """Whether the decision joins the input as one more feature: a bucket, a flag; all of it passes the weights."""
    return gate.stem and gate.step.op == "Concat"


def _selects_position(gate: Gate, analysis: Analysis) -> bool:
    """Whether the decision picks one of many values computed alike: the token at the end, a crop, a beam."""
    if gate.step.op not in _SELECTIONS or gate.decision == gate.step.inputs[0]:
        return False
    source = _through_plumbing(analysis.flow, gate.step.inputs[0])
    return source is None or source.op != "Concat"


def _is_masked_mean(gate: Gate, analysis: Analysis) -> bool:
    """Whether the decision counts positions and divides a sum by their number."""
    if gate.step.op != "Div" or gate.decision != gate.step.inputs[1]:
        return False
    name = gate.decision
    counted = False
    while (step := analysis.flow.producer(name)) is not None and analysis.fact(name).decision:
        if step.op not in _COUNTING and not (step.op == "Add" and _small_constant(step, analysis)):
            return False
        counted = counted or step.op == "ReduceSum"
        name = next((n for n in step.inputs if n and analysis.fact(n).decision), "")
    return counted


def _guards_division(gate: Gate, analysis: Analysis) -> bool:
    """Whether the test is of a divisor being zero: a value that is divided by, beside or behind the gate."""
    test = gate.tests[-1] if gate.tests else None
    if (
        gate.step.op != "Where"
        or test is None
        or test.op not in COMPARISONS
        or not _small_constant(test, analysis)
    ):
        return False
    tested = {n for n in test.inputs if analysis.fact(n).data}
    tested |= {n for name in tested for n in _plumbed(analysis.flow, name)}
    beside = [analysis.flow.producer(n) for n in gate.step.inputs[1:]]
    behind = (s for s in analysis.flow.steps if gate.step.outputs[0] in s.inputs)
    guarded = tested | {gate.step.outputs[0]}
    return any(
        s is not None and s.op in ("Div", "Reciprocal") and s.inputs[-1] in guarded
        for s in itertools.chain(beside, behind)
    )


def _rescales(gate: Gate, analysis: Analysis) -> bool:
    """Whether an input beyond a level is brought into the range of the others, as bytes among fractions are."""
    if not (gate.stem and gate.control and gate.step.op in ("Where", "If")):
        return False
    extremes = [
        _through_plumbing(analysis.flow, name)
        for t in gate.tests
        for name in t.inputs
        if analysis.fact(name).data
    ]
    if not all(
        s is not None and (s.op in ("ReduceMax", "ReduceMin") or s in gate.tests) for s in extremes
    ):
        return False
    sources = {_unscaled(name, analysis) for name in gate.step.inputs[1:]}
    return (
        len(sources) == 1 and None not in sources and not any(t.op == "Equal" for t in gate.tests)
    )


def _unscaled(name: str, analysis: Analysis) -> str | None:
    """Follow a value back through single factors that keep a picture a picture; None where something else was done."""
    while (step := analysis.flow.producer(name)) is not None and step.op in (
        "Mul",
        "Div",
        "Identity",
        "Cast",
    ):
        if not all(_is_scale(analysis.flow.array(n)) for n in step.inputs[1:]):
            return None
        name = step.inputs[0]
    return name


def _is_scale(factor: np.ndarray[Any, Any] | None) -> bool:
    if factor is None or factor.size != 1 or not factor.any():
        return False
    return abs(float(np.log2(np.abs(factor.reshape(-1)[0])))) <= _BYTES


def _small_constant(step: Step, analysis: Analysis) -> bool:
    arrays = [analysis.flow.array(name) for name in step.inputs if analysis.constant(name)]
    return any(
        a is not None and a.size == 1 and abs(float(a.reshape(-1)[0])) <= _TINY for a in arrays
    )


def _plumbed(flow: Flow, name: str) -> Iterator[str]:
    while (step := flow.producer(name)) is not None and step.op in _PLUMBING:
        name = step.inputs[0]
        yield name


def _through_plumbing(flow: Flow, name: str) -> Step | None:
    return flow.producer([name, *_plumbed(flow, name)][-1])


def _constants(gate: Gate, analysis: Analysis) -> list[str]:
    """Return the values fixed by the file that the gate can put in the carrier's place."""
    if gate.step.op not in (*_CONTROL, "ScatterND", "ScatterElements", "Scatter"):
        return []
    return [n for n in gate.step.inputs if n and n != gate.decision and analysis.constant(n)]


def _fill(gate: Gate, analysis: Analysis) -> float | None:
    """Return the one number that the gate writes everywhere, or None where it writes anything else."""
    constants = _constants(gate, analysis) if gate.control else []
    if len(constants) != 1:
        return None
    array = analysis.flow.array(constants[0])
    if array is not None and array.size and bool((array == array.reshape(-1)[0]).all()):
        return float(array.reshape(-1)[0])
    source = _through_plumbing(analysis.flow, constants[0])
    return 0.0 if source is not None and source.op == "ConstantOfShape" else None


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
            "reason": reason,
        },
    )


def _path(flow: Flow, sources: Sequence[str], targets: Sequence[str]) -> list[Step]:
    """Return the steps of a shortest way from one of the sources to one of the targets."""
    nearer = ancestors(flow, targets)
    start = next((name for name in reversed(nearer) if name in sources), None)
    steps = []
    while start is not None and (start := nearer[start]) is not None:
        if (step := flow.producer(start)) is not None:
            steps.append(step)
    return steps


def _switch(gate: Gate, analysis: Analysis) -> str:
    """Return the decision as one yes or no, before it is written out as numbers; else what the last test makes."""
    flow = analysis.flow
    for name in ancestors(flow, [gate.decision]):
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
    constants = _constants(gate, analysis)
    if not constants and gate.made.pattern:
        behind = ancestors(flow, [gate.decision])
        constants = [
            n for n in behind if analysis.constant(n) and (a := flow.array(n)) is not None and a.size > 1
            and analysis.fact(behind[n] or gate.decision).decision
        ]  # fmt: skip
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


def _shown(array: np.ndarray[Any, Any] | None) -> list[Any]:
    """Return the first numbers as plain JSON data, which knows neither infinities nor bytes."""
    numbers = [] if array is None else array.reshape(-1)[:_SHOWN].tolist()
    return [
        n if isinstance(n, int) or (isinstance(n, float) and math.isfinite(n)) else str(n)
        for n in numbers
    ]


_IDIOMS = (_is_feature, _selects_position, _is_masked_mean, _guards_division, _rescales)
