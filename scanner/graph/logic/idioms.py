"""What honest exporters write that looks like a gate.

Each idiom is a question about a gate; one yes is enough to leave the gate alone. The table at the
end lists them; docs/graph-logic.md says why each is harmless.
"""

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np

from scanner.graph.logic.dataflow import COMPARISONS, MASK_TYPES, Analysis
from scanner.graph.logic.meetings import CONTROL, Gate, is_about_input
from scanner.graph.logic.unfold import Flow, Step

_SELECTIONS = frozenset({
    "Gather", "GatherND", "GatherElements", "ai.onnx.ml.ArrayFeatureExtractor", "Slice", "Resize",
    "Pad",
})  # fmt: skip
_PLUMBING = frozenset(
    {"Identity", "Cast", "Reshape", "Unsqueeze", "Squeeze", "Flatten", "Expand", "Transpose"}
)
_ELEMENTWISE = _PLUMBING | {
    "Add", "Sub", "Mul", "Div", "Relu", "Tanh", "Sigmoid", "Gelu", "Erf", "Softmax", "LogSoftmax",
}  # fmt: skip
_JOINING = frozenset({
    "Concat", "ScatterND", "ScatterElements", "Scatter", "Where", "Pad", "Stack", "If", "Loop",
    "ConcatFromSequence", "Max", "Min", "Sum",
})  # fmt: skip
_COUNTING = _PLUMBING | {
    "Not", "And", "Or", "ReduceSum", "ReduceMax", "ReduceMin",
    "Clip", "Max", "Equal", "Greater", "Less", "GreaterOrEqual",
}  # fmt: skip
_SCALING = frozenset({"Mul", "Div", "Identity", "Cast"})
_SCATTERS = ("ScatterND", "ScatterElements", "Scatter")
_TINY = 1e-3
"""Constants up to this size stand for zero, as the epsilon of a division does."""
_BITS_OF_A_LEVEL = 16
"""Powers of two between fractions and 16-bit levels."""


def is_idiom(gate: Gate, analysis: Analysis) -> bool:
    """Whether a gate is one of the idioms of honest exporters."""
    return any(idiom(gate, analysis) for idiom in _IDIOMS)


def written_constants(gate: Gate, analysis: Analysis) -> list[str]:
    """Return the values fixed by the file that the gate can put in the carrier's place."""
    if gate.step.op not in (*CONTROL, *_SCATTERS):
        return []
    return [n for n in gate.step.inputs if n and n != gate.decision and analysis.constant(n)]


def fill(gate: Gate, analysis: Analysis) -> float | None:
    """Return the one number that the gate writes everywhere; None where it writes anything else."""
    constants = written_constants(gate, analysis) if gate.control else []
    if len(constants) != 1:
        return None
    array = analysis.flow.array(constants[0])
    if array is not None and array.size and bool((array == array.reshape(-1)[0]).all()):
        return float(array.reshape(-1)[0])
    source = _through_plumbing(analysis.flow, constants[0])
    return 0.0 if source is not None and source.op == "ConstantOfShape" else None


def _is_feature(gate: Gate, _analysis: Analysis) -> bool:
    """Whether the decision joins the input as one more feature, such as a bucket or a flag.

    All of it then passes through the weights, which were trained with it.
    """
    return gate.stem and gate.step.op == "Concat"


def _selects_position(gate: Gate, analysis: Analysis) -> bool:
    """Whether the decision picks one of many values computed alike: a token, a crop, a beam."""
    if gate.step.op not in _SELECTIONS or gate.decision == gate.step.inputs[0]:
        return False
    # Answers that are read in an order that was written are no position that was picked.
    if gate.answers and gate.made.pattern:
        return False
    # Values that were put side by side, or had a table of numbers added, need not have been
    # computed alike: one may be forged.
    name = gate.step.inputs[0]
    while (step := analysis.flow.producer(name)) is not None and step.op in _ELEMENTWISE:
        if any(_is_table(analysis.flow.array(n)) for n in step.inputs if n != name):
            return False
        name = next((n for n in step.inputs if n and analysis.fact(n).data), "")
    return step is None or step.op not in _JOINING


def _is_table(array: np.ndarray[Any, Any] | None) -> bool:
    """Whether numbers differ along more than the last axis, as a bias does not."""
    return array is not None and sum(size > 1 for size in array.shape) > 1


def _is_masked_mean(gate: Gate, analysis: Analysis) -> bool:
    """Whether the decision counts positions, and a sum is divided by their number."""
    if gate.step.op != "Div" or gate.decision != gate.step.inputs[1]:
        return False
    # Follow the count back to the test: on the way there may be nothing but counting.
    name = gate.decision
    counted = False
    while (step := analysis.flow.producer(name)) is not None and analysis.fact(name).decision:
        if step.op not in _COUNTING and not (step.op == "Add" and _small_constant(step, analysis)):
            return False
        counted = counted or step.op == "ReduceSum"
        name = next((n for n in step.inputs if n and analysis.fact(n).decision), "")
    return counted


def _scales_by_share(gate: Gate, _analysis: Analysis) -> bool:
    """Whether values are scaled by how many of many positions pass a test, as a mask ratio is."""
    return gate.step.op in ("Mul", "Div") and gate.made.counted and not gate.made.pattern


def is_callers(gate: Gate, analysis: Analysis) -> bool:
    """Whether the decision is made of nothing but masks that the caller gives beside the data.

    Lengths and positions computed from a mask are of its family, whatever operators make them. One
    decision that changes the answer, with no trained weights behind it, is no mask's business.
    """
    single = is_about_input(gate.made.width, gate.made, analysis)
    if gate.answers and single and not _scales_by_degrees(gate):
        return False
    flow = analysis.flow
    own = {name for i, name in enumerate(flow.inputs) if gate.made.inputs >> i & 1}
    other = analysis.fact(gate.carrier).inputs & ~gate.made.inputs
    masks = all(flow.elem_types.get(name) in MASK_TYPES for name in own)
    return (
        bool(own and other)
        and not gate.made.inputs & analysis.trained_on
        and (masks or _scales_by_degrees(gate))
    )


def _scales_by_degrees(gate: Gate) -> bool:
    """Whether a number that does not jump scales all values alike, as a mean's divisor does."""
    return gate.step.op in ("Mul", "Div") and not gate.made.hard and not gate.made.pattern


def _is_callers_mask(gate: Gate, analysis: Analysis) -> bool:
    """Whether the decision is a mask of the caller's, and writes no pattern."""
    if gate.made.pattern or (written_constants(gate, analysis) and fill(gate, analysis) is None):
        return False
    return is_callers(gate, analysis)


def _guards_division(gate: Gate, analysis: Analysis) -> bool:
    """Whether the test asks if a divisor is zero, for a division beside or behind the gate."""
    test = gate.tests[-1] if gate.tests else None
    if gate.step.op != "Where" or test is None or test.op not in COMPARISONS:
        return False
    if not _small_constant(test, analysis):
        return False
    tested = {n for n in test.inputs if analysis.fact(n).data}
    tested |= {n for name in tested for n in _plumbed(analysis.flow, name)}
    # A guard fills in one number, if any; what writes classes is none, whatever it divides by.
    if written_constants(gate, analysis) and fill(gate, analysis) is None:
        return False
    # The guard may choose between quotients, or choose the divisor itself.
    guarded = tested | {gate.step.outputs[0]}
    beside = [analysis.flow.producer(n) for n in gate.step.inputs[1:]]
    live = analysis.flow.live
    behind = (
        s
        for s in analysis.flow.steps
        if gate.step.outputs[0] in s.inputs and not live.isdisjoint(s.outputs)
    )
    return any(
        s is not None
        and s.op in ("Div", "Reciprocal")
        and not guarded.isdisjoint(_unclamped(s.inputs[-1], analysis))
        for s in itertools.chain(beside, behind)
    )


def _unclamped(name: str, analysis: Analysis) -> Iterator[str]:
    """Yield a divisor, and what it was before a constant kept it from being zero."""
    yield name
    step = analysis.flow.producer(name)
    if step is not None and step.op in ("Clip", "Max"):
        yield from (n for n in step.inputs if n and analysis.fact(n).data)


def _rescales(gate: Gate, analysis: Analysis) -> bool:
    """Whether an input beyond a level is brought into the range of others: bytes into fractions."""
    if not (gate.stem and gate.control and gate.step.op in ("Where", "If")):
        return False
    # Only the input's extremes may be tested, and against a level: an exact value is a password.
    if any(test.op == "Equal" for test in gate.tests):
        return False
    tested = [
        _through_plumbing(analysis.flow, name)
        for test in gate.tests
        for name in test.inputs
        if analysis.fact(name).data
    ]
    if not all(
        s is not None and (s.op in ("ReduceMax", "ReduceMin") or s in gate.tests) for s in tested
    ):
        return False
    # Both choices must be the same picture, times a number.
    sources = {_unscaled(name, analysis) for name in gate.step.inputs[1:]}
    return len(sources) == 1 and None not in sources


def _unscaled(name: str, analysis: Analysis) -> str | None:
    """Follow a value back through factors that only scale a picture; None past anything else."""
    while (step := analysis.flow.producer(name)) is not None and step.op in _SCALING:
        if not all(_is_scale(analysis.flow.array(n)) for n in step.inputs[1:]):
            return None
        name = step.inputs[0]
    return name


def _is_scale(factor: np.ndarray[Any, Any] | None) -> bool:
    """Whether a factor could be one between two ranges of pixels."""
    if factor is None or factor.size != 1 or not factor.any():
        return False
    return abs(float(np.log2(np.abs(factor.reshape(-1)[0])))) <= _BITS_OF_A_LEVEL


def _small_constant(step: Step, analysis: Analysis) -> bool:
    """Whether a step computes with a single number that stands for zero."""
    arrays = [analysis.flow.array(name) for name in step.inputs if analysis.constant(name)]
    return any(
        a is not None and a.size == 1 and abs(float(a.reshape(-1)[0])) <= _TINY for a in arrays
    )


def _plumbed(flow: Flow, name: str) -> Iterator[str]:
    """Yield what a value was before steps that only rearrange it."""
    while (step := flow.producer(name)) is not None and step.op in _PLUMBING:
        name = step.inputs[0]
        yield name


def _through_plumbing(flow: Flow, name: str) -> Step | None:
    """Return the step that computed a value, past those that only rearrange it."""
    return flow.producer([name, *_plumbed(flow, name)][-1])


_IDIOMS = (
    _is_feature, _selects_position, _is_masked_mean, _scales_by_share, _is_callers_mask,
    _guards_division, _rescales,
)  # fmt: skip
