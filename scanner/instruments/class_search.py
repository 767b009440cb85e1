"""Classes compete for gradient steps, as the arms of a bandit: those whose search goes best get more.

Successive halving (K. Jamieson and A. Talwalkar, "Non-stochastic Best Arm Identification and
Hyperparameter Optimization", AISTATS 2016, algorithm 1): every class gets a round of steps, then
the better half another, and so on. Where there are few classes all of them run to the end.

A search that ran for longer has come further, backdoor or not: models are compared as their own
contests left them, or else at equal steps (`class_by_class`).
"""

import dataclasses
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Generic, Protocol, TypeVar

from scanner.errors import UnsupportedModelError, UsageError
from scanner.instruments import runtime
from scanner.instruments.detector import Subject
from scanner.results import Measurement
from scanner.settings import Device, Effort

ROUND = 25  # steps between two comparisons
FULL_FIELD = 12  # up to so many classes, none is dropped
FINALISTS = 6  # so many are never dropped


class Search(Protocol):
    """A resumable search for one class."""

    @property
    def finished(self) -> bool:
        """Whether further steps would gain nothing."""
        ...

    @property
    def rank(self) -> tuple[float, ...]:
        """How the search stands; the smallest is the most promising."""
        ...

    def step(self) -> None:
        """Take one gradient step."""
        ...


S = TypeVar("S", bound=Search)


@dataclasses.dataclass(slots=True)
class Entrant(Generic[S]):
    """A class in the contest.

    Attributes:
        target: The class.
        search: Its search.
        granted: Steps that it was given.
        course: How the search stood after each round.
    """

    target: int
    search: S
    granted: int = 0
    course: list[tuple[float, ...]] = dataclasses.field(default_factory=list)


def contest(
    subject: Subject, classes: int, start: Callable[[int], S], effort: Effort
) -> list[Entrant[S]]:
    """Run a search for each class within a budget; return those that got steps, in class order.

    A reference repeats the steps that the suspect's contest granted, however long they take: with
    fewer, its triggers would look harder to find. The worker's deadline still holds.

    Args:
        subject: Its settings hold the choice of classes, its lead the suspect's contest.
        classes: Number of the model's classes.
        start: Begins the search for a class.
        effort: Steps a class, and the time for all.

    Raises:
        UsageError: There is no such class.
        UnsupportedModelError: The time was too short for one round of one class.
    """
    lead = _granted(subject)
    limits = lead or dict.fromkeys(_targets(subject, classes), effort.steps)
    field = [Entrant(target, start(target)) for target in limits]
    clock = _Clock(subject, math.inf if lead else effort.seconds, sum(limits.values()))
    alive = field
    while alive and not clock.over:
        for entrant in alive:
            _run_round(entrant, limits[entrant.target], clock)
        alive = [e for e in alive if not e.search.finished and e.granted < limits[e.target]]
        if not lead and len(field) > FULL_FIELD:
            alive = _better_half(alive)
    ran = [e for e in field if e.granted]
    if not ran:
        raise UnsupportedModelError(
            f"{effort.seconds:g} seconds are too short for {min(ROUND, effort.steps)} gradient "
            "steps of one class",
            remedy="choose a larger --budget",
        )
    return ran


def left_out(entrants: Sequence[Entrant[S]], subject: Subject, classes: int) -> list[int]:
    """Return the classes that were to compete and got no step; none for a reference that follows."""
    ran = {e.target for e in entrants}
    return (
        []
        if _granted(subject)
        else [target for target in _targets(subject, classes) if target not in ran]
    )


def granted(entrants: Sequence[Entrant[S]], subject: Subject, effort: Effort) -> dict[str, int]:
    """Return the steps by class that references are to take; a reference names those that it was given.

    Where the suspect's search came to its own end, theirs may too: they get all the steps there
    are. A class that was dropped on the way is nobody's backdoor, and references need not search
    it.
    """
    steps = _granted(subject) or {
        e.target: effort.steps if e.search.finished else e.granted for e in _finalists(entrants)
    }
    return {str(target): count for target, count in steps.items()}


def _finalists(entrants: Sequence[Entrant[S]]) -> list[Entrant[S]]:
    """Return who was not dropped: those that finished, and those that went as far as the last of the best."""
    if len(entrants) <= FULL_FIELD:
        return list(entrants)
    least = sorted(e.granted for e in entrants)[-FINALISTS]
    return [e for e in entrants if e.search.finished or e.granted >= least]


def class_by_class(
    suspect: Measurement, references: Sequence[Measurement]
) -> Iterator[tuple[int, float | None, list[float | None]]]:
    """Yield class, the suspect's result and the references', for each class that was searched in all of them.

    Where each model's own contest went to its end, a result is the last one: a class that was
    dropped on the way counts as it then stood, in every model alike. Else, as where references
    followed the suspect's contest or the time cut one short, it is the one after as many rounds as
    the shortest of these searches had; a finished one stands still. Each measurement has the series
    `classes`, rows with `class`, `course` and `finished`.
    """
    models = (suspect, *references)
    to_the_end = all(map(_went_to_its_end, models))
    profiles = [{row["class"]: row for row in m.series["classes"]} for m in models]
    for target in profiles[0]:
        rows = [profile[target] for profile in profiles if target in profile]
        if len(rows) == len(profiles):
            rounds = (
                None
                if to_the_end
                else min((len(r["course"]) for r in rows if not r["finished"]), default=None)
            )
            own, *others = (row["course"][:rounds][-1] for row in rows)
            yield target, own, others


def _went_to_its_end(measurement: Measurement) -> bool:
    """Whether all classes of a model competed, and as many as are never dropped got all the steps there are."""
    rows = measurement.series["classes"]
    rounds = math.ceil(measurement.parameters["steps"] / ROUND)
    through = sum(row["finished"] or len(row["course"]) >= rounds for row in rows)
    needed = FINALISTS if len(rows) > FULL_FIELD else len(rows)
    return through >= needed and len(rows) == int(measurement.parameters["classes"])


def side_by_side(measurement: Measurement) -> dict[int, float | None] | None:
    """Return what the search of each class had found after as many rounds as every class that was not dropped had.

    None unless each class of the model took part: of a few chosen classes one stands out that is
    nothing special among all.
    """
    rows, finalists = measurement.series["classes"], measurement.series["granted"]
    if len(rows) < measurement.parameters["classes"]:
        return None
    rows = [row for row in rows if str(row["class"]) in finalists]
    rounds = min((len(row["course"]) for row in rows if not row["finished"]), default=None)
    return {row["class"]: row["course"][:rounds][-1] for row in rows}


def row_of(entrant: Entrant[S]) -> dict[str, Any]:
    """Return what the report and `class_by_class` need of an entrant; a result that is infinite is None."""
    course = [rank[0] if math.isfinite(rank[0]) else None for rank in entrant.course]
    return {"class": entrant.target, "course": course, "finished": entrant.search.finished}


def _granted(subject: Subject) -> Mapping[int, int]:
    """Return the steps by class that a reference is to repeat; none for who chooses for itself."""
    lead = subject.lead if subject.follows else None
    return {int(target): steps for target, steps in lead.series["granted"].items()} if lead else {}


def _targets(subject: Subject, classes: int) -> list[int]:
    chosen = sorted(set(subject.settings.classes)) or range(classes)
    outside = next((t for t in chosen if not 0 <= t < classes), None)
    if outside is not None:
        raise UsageError(
            f"there is no class {outside}", remedy=f"the model has the classes 0 to {classes - 1}"
        )
    return list(chosen)


def _run_round(entrant: Entrant[S], limit: int, clock: "_Clock") -> None:
    """Give a class its next steps, all of them or none, so that what is returned does not depend on the clock.

    Nobody knows how long a first round takes: one that the time cuts short is none, and the class
    is left out.
    """
    if clock.over:
        return
    steps = min(ROUND, limit - entrant.granted)
    for _ in range(steps):
        if clock.over and not entrant.granted:
            return
        if not entrant.search.finished:
            entrant.search.step()
    entrant.granted += steps
    entrant.course.append(entrant.search.rank)
    clock.advance(steps)


def _better_half(alive: list[Entrant[S]]) -> list[Entrant[S]]:
    ranked = sorted(alive, key=lambda e: e.search.rank)
    kept = ranked[: max(FINALISTS, len(alive) // 2)]
    return sorted(kept, key=lambda e: e.target)


class _Clock:
    """The time of the contest, and its progress.

    On the CPU it is processor time a thread, so that a busy machine does not change a result; on
    CUDA, the wall's.
    """

    def __init__(self, subject: Subject, seconds: float, total: int) -> None:
        self._subject, self._total, self._done = subject, total, 0
        on_cpu = runtime.resolve_device(subject.settings.device) is Device.CPU
        self._now = time.process_time if on_cpu else time.monotonic
        self._deadline = self._now() + seconds * (subject.settings.threads if on_cpu else 1)

    @property
    def over(self) -> bool:
        return self._now() > self._deadline

    def advance(self, steps: int) -> None:
        self._done += steps
        self._subject.progress(self._done, self._total)
