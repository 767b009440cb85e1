"""Where a decision about the input meets what it gates.

A *decision* (see `scanner.graph.logic.dataflow`) is harmless until it meets values that derive from
the input in another way: there it can choose, overwrite or bend them. These steps are found here,
each with what is needed to judge it. Honest exports have many of them:
`scanner.graph.logic.gates` tells them apart.
"""

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from scanner.graph.core.ancestors import ancestors
from scanner.graph.logic.dataflow import NARROW, TESTS, WEIGHTED, WRITTEN, Analysis, Fact
from scanner.graph.logic.unfold import Flow, Step

CONTROL = {"Where": 1, "If": 1, "Loop": 3}
"""How many of the first inputs of a selecting step are its control."""
MOST_SHARED = 0.5
"""A test behind this part of the gated value's weights reads what the network has computed."""

_BOOKKEEPING = frozenset({"Carry", "Shape", "Size"})
_SHAPED = frozenset(
    {"Expand", "Reshape", "Tile", "Range", "ConstantOfShape", "Unsqueeze", "Squeeze"}
)
_RECURRENT = frozenset({"LSTM", "GRU", "RNN"})
_BITS = 1024
"""Layers that are counted separately; with more of them, neighbours share a bit."""


class Meeting(NamedTuple):
    """A step with the names of its deciding and of its gated input."""

    step: Step
    decision: str
    carrier: str


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """A step where a decision about the input meets what it gates.

    Attributes:
        step: The gating step.
        decision: Name of the value that decides.
        carrier: Name of the value that is gated.
        made: What is known about the decision.
        tests: The steps that make the decision, nearest to the input first.
        share: Part of the carrier's weights from which the decision derives too.
        private: Part of the model's weights from which the decision derives and the carrier does
            not.
        stem: No weights lie before the gate.
        answers: No trained weights lie between the gate and an output.
        shortcut: On its lightest way from the input, the decision passes less than half of the
            weights that the carrier passes on its own lightest way.
    """

    step: Step
    decision: str
    carrier: str
    made: Fact
    tests: tuple[Step, ...]
    share: float
    private: float
    stem: bool
    answers: bool
    shortcut: bool

    @property
    def control(self) -> bool:
        """Whether the decision chooses between values, rather than being one of them."""
        return self.decision in self.step.inputs[: CONTROL.get(self.step.op, 0)]


def find(flow: Flow, analysis: Analysis) -> Iterator[Gate]:
    """Yield the steps on the way to an output where a decision about the input gates something."""
    meetings = _meetings(flow, analysis)
    if not meetings:
        return
    behind, sizes = _weights_behind(flow, analysis)
    total = sum(sizes)
    last = _tail(flow, WRITTEN)
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
            answers=not last.isdisjoint(step.outputs),
            shortcut=analysis.fact(decision).least < MOST_SHARED * analysis.fact(carrier).least,
        )


def is_about_input(width: float, fact: Fact, analysis: Analysis) -> bool:
    """Whether a decision is about an input as a whole, rather than about each of its positions.

    Args:
        width: Upper bound of the numbers that the decision holds where it is used.
        fact: What is known about it: it is measured by the inputs that it derives from.
        analysis: Of the flow.
    """
    flow = analysis.flow
    own = [analysis.fact(n).width for i, n in enumerate(flow.inputs) if fact.inputs >> i & 1]
    widest = max(own, default=0.0)
    return width <= 1 or (math.isfinite(width) and width * NARROW <= widest)


def _meetings(flow: Flow, analysis: Analysis) -> list[Meeting]:
    tail = _tail(flow)
    found = (
        _meeting(step, analysis, in_tail=not tail.isdisjoint(step.outputs))
        for step in flow.steps
        if not flow.live.isdisjoint(step.outputs)
    )
    return [meeting for meeting in found if meeting]


def _tail(flow: Flow, written: int = -1) -> set[str]:
    """Return the values from which an output is reached without a further weighted layer.

    Layers of constants of up to `written` numbers count for none.
    """

    def is_layer(step: Step) -> bool:
        sizes = [flow.effect(name) for name in step.inputs if name in flow.constants]
        return step.op in WEIGHTED and max(sizes, default=written + 1) > written

    def unweighted(value: str) -> Sequence[str]:
        step = flow.producer(value)
        return () if step is None or is_layer(step) else step.inputs

    return set(ancestors(flow.outputs, unweighted))


def _meeting(step: Step, analysis: Analysis, *, in_tail: bool) -> Meeting | None:
    """Return what meets at a step, or None where no decision meets anything."""
    if not _can_gate(step) or not analysis.floors.isdisjoint(step.outputs):
        return None
    facts = {name: fact for name in step.inputs if name and (fact := analysis.fact(name)).data}
    decisions = [
        name
        for name, fact in facts.items()
        if fact.decision
        and _is_heard(step, name)
        and _is_narrow(step, fact, analysis, in_tail=in_tail)
    ]
    if not decisions:
        return None
    decision = _earliest(decisions, facts)
    carrier = _heaviest_gated(decision, facts)
    return None if carrier is None else Meeting(step, decision, carrier)


def _can_gate(step: Step) -> bool:
    """Whether a step can put a decision to work.

    Tests make further decisions, they do not change what they read. Nor do steps that take a
    shape: a size that a decision computes does not bend the values.
    """
    return step.op not in TESTS | _BOOKKEEPING | _SHAPED


def _is_heard(step: Step, name: str) -> bool:
    """Whether a decision at this input of a step can change what the step does with the others."""
    # Of a recurrent layer only the sequence counts: lengths and initial states come from padding
    # masks in honest exports.
    if step.op in _RECURRENT:
        return name == step.inputs[0]
    # A branch or a loop is steered by its control; a decision that a branch returns is a value.
    if step.op in ("If", "Loop"):
        return name in step.inputs[: CONTROL[step.op]]
    return True


def _is_narrow(step: Step, fact: Fact, analysis: Analysis, *, in_tail: bool) -> bool:
    """Whether a decision is narrow enough to be about the input, and not a mask of its positions.

    In the tail, behind the last weights, a jump for each position counts too: no trained layer will
    ever see it.
    """
    if in_tail and fact.hard:
        return True
    # What a decision says cannot be wider than what the step makes of it.
    room = max(analysis.extent(name) for name in step.outputs if name)
    return is_about_input(min(fact.width, room), fact, analysis)


def _earliest(decisions: Sequence[str], facts: Mapping[str, Fact]) -> str:
    """Return the decision nearest to the raw input: the narrowest, past fewest weights, a jump."""
    return min(decisions, key=lambda n: (facts[n].width, facts[n].weights, not facts[n].hard))


def _heaviest_gated(decision: str, facts: Mapping[str, Fact]) -> str | None:
    """Return what the decision meets: of the other values, the one behind most weights."""
    weights = facts[decision].weights
    # Another decision is gated only if a network took it, such as the arg-max of the logits: then
    # far more weights lie behind it.
    carriers = [
        name
        for name, fact in facts.items()
        if name != decision and (not fact.decision or fact.weights > 2 * weights)
    ]
    return max(carriers, key=lambda n: facts[n].weights, default=None)


def _weights_behind(flow: Flow, analysis: Analysis) -> tuple[dict[str, int], list[int]]:
    """Return the weights that each value derives from, as bits, and the size behind each bit.

    Neighbouring layers share a bit where there are more than 1,024, so that the cost stays linear.
    """
    layers = (step for step in flow.steps if step.op in WEIGHTED)
    weights = {
        name: flow.effect(name)
        for step in layers
        for name in step.inputs
        if analysis.constant(name)
    }
    per_bit = len(weights) // _BITS + 1
    behind = {name: 1 << (place // per_bit) for place, name in enumerate(weights)}
    sizes = [0] * (len(weights) // per_bit + 1)
    for place, size in enumerate(weights.values()):
        sizes[place // per_bit] += size
    # A value that a loop carries may reach the loop's start only in the next sweep.
    grown = True
    while grown:
        for step in flow.steps:
            if flow.zeroes(step):
                continue
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

    def decided_by(value: str) -> Iterator[str]:
        return (source for source in flow.sources(value) if analysis.fact(source).decision)

    positions = {
        position
        for name in ancestors([decision], decided_by)
        if (position := flow.producers.get(name)) is not None
        and analysis.fact(name).test == position
    }
    return tuple(flow.steps[position] for position in sorted(positions))
