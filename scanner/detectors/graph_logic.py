"""Graph logic: a test of the input, written as operators, that gates the output.

Source: HiddenLayer, "ShadowLogic" (2024); Bober-Irizar et al., "Architectural Backdoors in Neural
Networks" (CVPR 2023); arXiv 2511.00664. What is looked for, and why honest exports are not it, is
in `scanner.graph.logic.gates`.
"""

import base64
import dataclasses
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt

from scanner.errors import GraphError, UnsupportedModelError, UsageError, WorkerTimeoutError
from scanner.graph.logic import excerpt, gates, open_gate
from scanner.graph.logic.unfold import Flow, unfold
from scanner.instruments import kept, probes, runtime
from scanner.instruments.detector import Detector, Needs, Subject
from scanner.modelfile.model import Model
from scanner.results import Contribution, Input, Measurement, Observation, Part, Rule, Severity
from scanner.sandbox import deadline
from scanner.settings import Device

if TYPE_CHECKING:
    from scanner.instruments import gate_habits

Array = npt.NDArray[Any]

_MOST_TRIED = 64
"""Gates that are tried; a file of thousands is convicted by the first."""
_MOST_STEPS = 80_000
"""Steps of the graphs that are run for that: each try loads the whole one twice, two minutes per
million."""
_ROUNDS = 12
# Parts of the input range in which a search starts: away from its ends, so that pixels can move
# both ways.
_STARTS = ((0.05, 0.9), (0.02, 0.3), (0.6, 0.95))
_OTHERS = 16
"""Images that an input's change is tried on."""
_FEW_CHANGE = 0.25
"""Part of the ordinary images whose class an open gate must change, or it is not worth opening."""
_OPENED = 0.2  # a decision written as a number is over when it has moved this far
_MOVED = 0.1  # relative: an answer that is a number has changed when it has moved this far


class GraphLogic(Detector):
    """Tests of the input that gate the output, found by data-flow analysis.

    The statistic is the highest severity.
    """

    rule: ClassVar[Rule] = Rule(
        id="graph_logic",
        name="Graph logic",
        summary="A test of the input, written as graph operators, gates or overwrites the output.",
        source="HiddenLayer, ShadowLogic, 2024; Bober-Irizar et al., CVPR 2023; arXiv 2511.00664",
    )
    needs: ClassVar[Needs] = Needs.GRAPH
    copies: ClassVar[float] = 2
    contribution: ClassVar[Contribution] = Contribution(part=Part.STRUCTURAL)
    excusable: ClassVar[bool] = True

    def measure(self, subject: Subject) -> Measurement:
        """Return one observation for each set of tests that gates something.

        It is confirmed where an input opens the gate. The graph is read, not
        run, unless something suspicious is found.

        Raises:
            UnsafeModelError: Model-local functions expand without end.
            MalformedModelError: The graph's shapes contradict one another.
        """
        flow = unfold(subject.model.proto)
        found = list(gates.observe(flow))
        suspicious = [i for i, o in enumerate(found) if o.severity is Severity.SUSPICIOUS]
        # All are found before the first is confirmed, so that the deadline can take away no more
        # than confirmations.
        tried = most_tried(len(flow.steps))
        for place in suspicious[tried:]:
            found[place] = _unconfirmed(found[place], "enough others were tried")
        habits = _Habits(flow, subject)
        for place in suspicious[:tried]:
            found[place] = _completed(found[place], flow, subject, habits)
        observations = tuple(sorted(found, key=lambda o: -o.severity))
        return Measurement(
            rule=self.rule.id,
            statistic=float(max((o.severity for o in observations), default=0)),
            parameters={"steps": len(flow.steps), "rounds": _ROUNDS, "seed": subject.settings.seed},
            observations=observations,
        )


def most_tried(steps: int) -> int:
    """Return how many gates of a graph are tried, given its number of steps."""
    return max(1, min(_MOST_TRIED, _MOST_STEPS // max(steps, 1)))


class _Habits:
    """What the gates of a model do on ordinary images; the model is loaded for the first."""

    def __init__(self, flow: Flow, subject: Subject) -> None:
        self._flow, self._subject = flow, subject
        self._trial: gate_habits.Trial | None = None

    def of(self, observation: Observation) -> "gate_habits.Ways | str":
        """Return what a gate does on ordinary images, or why that cannot be told."""
        from scanner.instruments import gate_habits  # noqa: PLC0415 - few graphs have gates

        # As for a confirmation: the graph has shown the gate, and an error while it is run must not
        # swallow that finding.
        try:
            if self._trial is None:
                self._trial = gate_habits.Trial(self._subject, self._flow.outputs[0])
            details = observation.details
            gated = str(details["gates"][0]["output"])
            ways = self._trial.ways(str(details["decision"]), str(details["switch"]), gated)
        except (UnsupportedModelError, UsageError, GraphError) as error:
            return error.problem
        return ways or "the test lies inside the body of a loop or branch"


def _completed(
    observation: Observation, flow: Flow, subject: Subject, habits: _Habits
) -> Observation:
    """Return the observation weighed, confirmed and cut out, as far as time allows."""
    try:
        deadline.check()
        weighed = _weighed(observation, habits.of(observation))
        if weighed.severity is Severity.SUSPICIOUS:
            weighed = _confirmed(weighed, flow, subject)
    except WorkerTimeoutError:
        return _unconfirmed(observation, "the time ran out")
    return _with_excerpt(weighed, subject.model)


def _weighed(observation: Observation, ways: "gate_habits.Ways | str") -> Observation:
    """Return the observation with the severity that the gate's habits give it.

    What a gate is for, no measurement tells. What it does on ordinary images does: one that they
    take both ways is part of how the model works, one that they never take is not.
    """
    if isinstance(ways, str):
        details = {**observation.details, "ordinary": {"asked": 0, "reason": ways}}
        return dataclasses.replace(observation, details=details)
    severity, said = _judged(observation, ways)
    return dataclasses.replace(
        observation,
        severity=severity,
        sentence=f"{observation.sentence}. {said}",
        details={
            **observation.details,
            "ordinary": {
                "asked": ways.asked,
                "taken": ways.taken,
                "decides": ways.decides,
                "further": ways.further,
                "moves": ways.moves,
                "changed": ways.changed,
                "blanks": ways.blanks,
                "reorders": ways.reorders,
                "refuses": ways.refuses,
                "textured": ways.textured,
                "featureless": ways.featureless,
                "varied": ways.varied,
                "guesses": ways.guesses,
            },
        },
    )


def _judged(observation: Observation, ways: "gate_habits.Ways") -> tuple[Severity, str]:
    """Return a gate's severity by its habits, and what they are, as a sentence."""
    return next(
        (severity, said) for applies, severity, said in _habits(observation, ways) if applies
    )


def _habits(
    observation: Observation, ways: "gate_habits.Ways"
) -> Iterator[tuple[bool, Severity, str]]:
    """Yield what a gate may do on ordinary images: whether it does, its severity, a sentence."""
    from scanner.instruments import gate_habits  # noqa: PLC0415 - as above

    taken = f"{ways.taken} of {ways.asked} ordinary images take the rarer way"
    further = ways.further and not ways.decides
    level, trained = observation.details["by_level"], observation.details["behind_weights"]
    textured = ways.textured >= gate_habits.SELDOM * ways.asked
    few = ways.decides is False and (ways.changed or 0) < _FEW_CHANGE
    yield (
        bool(ways.guesses),
        Severity.NOTE,
        f"It brings {ways.guesses} into the model's own range",
    )
    yield (
        ways.reorders,
        Severity.SUSPICIOUS,
        f"{taken}; that way images get the scores or the classes that they have, in another order",
    )
    yield (
        bool(further),
        Severity.SUSPICIOUS,
        f"{taken}; none drives it as far as it can go, where it decides the answer",
    )
    yield (
        ways.ordinary and not ways.decides,
        Severity.NOTE,
        f"{taken}, and either way the image decides the answer",
    )
    yield (
        ways.moves and ways.further is False and not ways.decides,
        Severity.NOTE,
        "It differs from image to image, and decides the answer of none",
    )
    yield (
        ways.ordinary and ways.refuses,
        Severity.WARNING,
        f"{taken}, which gives them a class that the network itself never does: it may be a guard",
    )
    yield ways.blanks, Severity.WARNING, f"{taken}, which leaves no answer: it may be a guard"
    yield (
        few and ways.further is False,
        Severity.WARNING,
        f"{taken}, and forcing the others that way changes few classes",
    )
    yield (
        level and ways.featureless and not textured,
        Severity.WARNING,
        f"{taken}, and featureless images do: it may be a guard",
    )
    # In a network that answers one class anyway, another one for all may be that of other weights.
    silent = ways.decides is False or (ways.decides is True and not ways.varied)
    yield (
        silent and trained,
        Severity.WARNING,
        f"{taken}; the test and both ways are made of trained weights, as in an early exit",
    )
    one = ", which gives all of them one class" if ways.ordinary else ""
    yield True, Severity.SUSPICIOUS, taken + one


def _unconfirmed(observation: Observation, reason: str) -> Observation:
    outcome = {"opened": None, "reason": reason}
    return dataclasses.replace(
        observation, details={**observation.details, "confirmation": outcome}
    )


def _with_excerpt(observation: Observation, model: Model) -> Observation:
    """Return the observation with the part of the graph that it is about."""
    cut = excerpt.excerpt(model.proto, observation.details).SerializeToString()
    return dataclasses.replace(observation, excerpt=base64.b64encode(cut).decode())


def _confirmed(observation: Observation, flow: Flow, subject: Subject) -> Observation:
    """Return the observation with what came of trying to open its gate."""
    # A detector does not catch, but for one reason: the graph has already shown the gate, and an
    # error while it is run must not swallow that finding.
    opened: _Opened | None = None
    try:
        outcome, opened = _open_gate(str(observation.details["switch"]), flow, subject)
    except (UnsupportedModelError, UsageError) as error:
        outcome = {"opened": None, "reason": error.problem}
    details = {**observation.details, "confirmation": outcome}
    if opened is None:
        return dataclasses.replace(observation, details=details)
    sentence = (
        f"{observation.sentence}. Confirmed: an input opens it, and the model answers that input "
        "differently while it is held closed. That shows that the gate is there, not what it is for"
    )
    return dataclasses.replace(
        observation,
        severity=Severity.CONFIRMED,
        sentence=sentence,
        details=details,
        input=opened.pictured(),
    )


@dataclasses.dataclass(frozen=True, slots=True)
class _Opened:
    """A gate that an input opens, and the model with the gate in our hands.

    Attributes:
        switch: The value that decides.
        trigger: The model up to it.
        held: The model with it as a further input.
        span: The input range.
        original: The image that the search started from, (1, *shape).
        image: The one that it came to.
        states: What the switch is on that, and on the first.
        others: Images that the search did not see, (n, *shape).
    """

    switch: str
    trigger: runtime.Session
    held: runtime.Session
    span: tuple[float, float]
    original: Array
    image: Array
    states: tuple[Array, Array]
    others: Array

    def pictured(self) -> Input:
        """Return the input, with what is answered to it as far as that can be told."""
        # As for the confirmation, which it comes after: no error takes that away.
        try:
            answered = self._answered()
        except (UnsupportedModelError, WorkerTimeoutError):
            answered = kept.Answered(original=self.original[0])
        return kept.pictured(self.image[0], self.span, answered)

    def _answered(self) -> kept.Answered:
        """Return the classes, and what the same change does to other images.

        Raises:
            UnsupportedModelError: The model fails on an image.
            WorkerTimeoutError: The time ran out.
        """
        opened, shut = self.states
        after = self._answer(self.image, opened)
        share = None
        alike = kept.changed_alike(self.others, self.original[0], self.image[0])
        if alike is not None:
            before, then = (
                [self._own(each[None]) for each in part] for part in (self.others, alike)
            )
            share = kept.success(before, then, kept.class_in(after))
        return kept.Answered(
            after=after,
            without=self._answer(self.image, shut),
            original=self.original[0],
            before=self._answer(self.original, shut),
            success=share,
        )

    def _own(self, image: Array) -> Array:
        """Return what the model answers to an image by itself, whichever way the gate is then."""
        deadline.check()
        names = [value.name for value in self.trigger.native.get_outputs()]
        made = dict(zip(names, self.trigger.run(image), strict=True))
        return self._answer(image, made[self.switch])

    def _answer(self, image: Array, state: Array) -> Array:
        return self.held.feed({self.held.input_name: image, self.switch: state})[0]


def _open_gate(switch: str, flow: Flow, subject: Subject) -> tuple[dict[str, Any], _Opened | None]:
    """Solve the tests backwards for an input that opens the gate, then run it open and held closed.

    Several starts are tried until one input flips the answer: a gate that is open need not show on
    every image. What was opened is returned beside the outcome where it does.
    """
    model, settings = subject.model, subject.settings
    trigger = excerpt.openable(model.proto, switch)
    if trigger is None:
        return {"opened": None, "reason": "the test lies inside the body of a loop or branch"}, None
    shape = probes.image_shape(model, settings)
    session = runtime.open_session(model.serialise(trigger), Device.CPU, settings.threads)
    low, high = probes.input_range(session.dtype, settings)
    rng = np.random.default_rng(settings.seed)
    held: runtime.Session | None = None  # the whole graph, which is loaded once
    outcome: dict[str, Any] = {}
    for start in _STARTS:
        part = start[0] + (start[1] - start[0]) * rng.random((1, *shape))
        first = (low + (high - low) * part).astype(session.dtype)
        solved = _solve(switch, first, flow, session, (low, high))
        if solved is not None:
            image, states = solved
            if held is None:
                whole = excerpt.held(model.proto, switch, excerpt.element_type(states[0]))
                held = runtime.open_session(model.serialise(whole), Device.CPU, settings.threads)
            outcome = _compare_held(held, switch, image, states)
            if outcome["flips"]:
                others = (low + (high - low) * rng.random((_OTHERS, *shape))).astype(session.dtype)
                return outcome, _Opened(
                    switch, session, held, (low, high), first, image, states, others
                )
    return outcome or {
        "opened": False,
        "reason": f"no input was found in {_ROUNDS} rounds from {len(_STARTS)} starts",
    }, None


def _solve(
    switch: str, image: Array, flow: Flow, session: runtime.Session, bounds: tuple[float, float]
) -> tuple[Array, tuple[Array, Array]] | None:
    """Return an image with the switch's state on it and on the first image, or None."""
    names = [value.name for value in session.native.get_outputs()]
    constants = {name: array for name in flow.constants if (array := flow.array(name)) is not None}
    closed: Array | None = None
    for _ in range(_ROUNDS):
        values = (
            constants
            | dict(zip(names, session.run(image), strict=True))
            | {session.input_name: image}
        )
        now = values[switch]
        closed = now if closed is None else closed
        if _is_over(closed, now):
            return image, (now, closed)
        wanted = open_gate.wanted_inputs(flow, switch, values, _opposite(closed))
        if wanted is None:
            return None
        image = np.clip(wanted[session.input_name], *bounds).astype(session.dtype)
    return None


def _opposite(closed: Array) -> Array:
    if closed.dtype == np.bool_:
        return ~closed
    return np.where(closed > 0.5, 0, 1).astype(closed.dtype)  # noqa: PLR2004 - halfway between no and yes


def _is_over(closed: Array, now: Array) -> bool:
    if closed.dtype == np.bool_:
        return bool((closed != now).any())
    return bool((np.abs(now.astype(np.float64) - closed) > _OPENED).any())


def _compare_held(
    session: runtime.Session, switch: str, image: Array, states: tuple[Array, Array]
) -> dict[str, Any]:
    """Run one image with the switch open and closed, and describe both answers."""
    opened, shut = (
        session.feed({session.input_name: image, switch: state})[0].astype(np.float64)
        for state in states
    )
    found: dict[str, Any] = {
        "opened": True,
        "flips": _differ(opened, shut),
        "input": _summary(image),
    }
    if opened.ndim == 2 and opened.shape[1] > 1:  # noqa: PLR2004 - logits
        found |= {"class_open": int(opened[0].argmax()), "class_closed": int(shut[0].argmax())}
    return found


def _differ(opened: Array, shut: Array) -> bool:
    """Whether two answers to one image differ for a user: in the top class, or in the numbers."""
    if opened.shape != shut.shape:
        return True
    if opened.ndim == 2 and opened.shape[1] > 1:  # noqa: PLR2004 - logits
        return bool((opened.argmax(axis=1) != shut.argmax(axis=1)).any())
    return bool((np.abs(opened - shut) > _MOVED * np.maximum(np.abs(shut), 1)).any())


def _summary(image: Array) -> dict[str, Any]:
    """Describe the image so that it can be made again where it is small."""
    numbers = image.astype(np.float64)
    shown = numbers.reshape(-1).round(6).tolist() if image.size <= 4096 else []  # noqa: PLR2004 - a report's line
    return {"shape": list(image.shape), "mean": float(numbers.mean()), "numbers": shown}
