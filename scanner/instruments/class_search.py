"""Classes compete for gradient steps, as the arms of a bandit: the best searches get more.

Successive halving (K. Jamieson and A. Talwalkar, "Non-stochastic Best Arm Identification and
Hyperparameter Optimization", AISTATS 2016, algorithm 1): every class gets a round of steps, then
the better half another, and so on. Where there are few classes, all of them run to the end.

A search that ran for longer has come further, backdoor or not: models are compared as their own
contests left them, or else at equal steps (`scanner.judging.by_class`).
"""

import abc
import dataclasses
import math
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Generic, Protocol, TypeVar

from scanner.errors import NoTimeError, UsageError
from scanner.instruments import pace
from scanner.instruments.detector import Subject
from scanner.instruments.differentiable import Floats
from scanner.results import Contest, Grant, Stages
from scanner.sandbox import deadline
from scanner.settings import Effort

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

    @property
    def figure(self) -> float | None:
        """What it has found so far, in the unit of the detector; None where it found nothing."""
        ...

    def step(self) -> None:
        """Take one gradient step."""
        ...


class Climb(abc.ABC):
    """A search for the largest margin of a class, wherever its steps are taken."""

    @property
    @abc.abstractmethod
    def steps(self) -> int:
        """How many were taken."""

    @property
    @abc.abstractmethod
    def margin(self) -> float:
        """The largest so far; minus infinity before the first step."""

    @property
    @abc.abstractmethod
    def images(self) -> Floats:
        """Where it has come to, (n, *shape)."""

    @property
    def finished(self) -> bool:
        """Never: further steps may always gain."""
        return False

    @property
    def rank(self) -> tuple[float]:
        """Return the negative margin: the class that leads by most is the most promising."""
        return (-self.margin,)

    @property
    def figure(self) -> float | None:
        """The largest margin; None before the first step."""
        return self.margin if self.steps else None

    @abc.abstractmethod
    def step(self) -> None:
        """Take one gradient step."""


S = TypeVar("S", bound=Search)


@dataclasses.dataclass(slots=True)
class Entrant(Generic[S]):
    """A class in the contest.

    Attributes:
        target: The class.
        search: Its search.
        granted: Steps that it was given.
        course: What the search had found after each round.
    """

    target: int
    search: S
    granted: int = 0
    course: list[float | None] = dataclasses.field(default_factory=list)


def contest(  # noqa: PLR0913, PLR0917 - what is searched, how, for how long
    subject: Subject,
    classes: int,
    start: Callable[[int], S],
    effort: Effort,
    full_field: int = FULL_FIELD,
    stages: Stages | None = None,
    at_once: int = 1,
) -> list[Entrant[S]]:
    """Run a search for each class within a budget; return those that got steps, in class order.

    A reference repeats the steps that the suspect's contest granted, however long they take: with
    fewer, its triggers would look harder to find. While there is time left for what comes after it
    (`subject.rest`) a contest ends in any case, so that what was found is kept: searches are
    compared after equally many rounds.

    Args:
        subject: Its settings hold the choice of classes; `subject.suspect` the suspect's contest.
        classes: Number of the model's classes.
        start: Begins the search for a class.
        effort: Steps per class, and the time for all.
        full_field: Up to so many classes, none is dropped.
        stages: The classes that a search in stages chose.
        at_once: How many searches may run at a time. No search knows of another, so that this
            changes no result.

    Raises:
        UsageError: There is no such class.
        NoTimeError: The time was too short for one round of one class.
    """
    followed = _granted(subject)
    most = followed or dict.fromkeys(_chosen(subject, classes, stages), effort.steps)
    field = [Entrant(target, start(target)) for target in most]
    clock = _Clock(subject, math.inf if followed else effort.seconds, sum(most.values()))
    alive = field
    while alive and not clock.over:
        _run_rounds(alive, most, clock, at_once)
        alive = [e for e in alive if not e.search.finished and e.granted < most[e.target]]
        if not followed and len(field) > full_field:
            alive = _better_half(alive)
    ran = [e for e in field if e.granted]
    if not ran:
        steps = min(ROUND, effort.steps)
        if deadline.nearly_over(subject.rest):
            raise too_little_left(steps)
        raise NoTimeError(
            f"{effort.seconds:g} seconds are too short for {steps} gradient steps of one class",
            remedy="raise the setting `budget`",
        )
    return ran


def too_little_left(steps: int) -> NoTimeError:
    """Return the error for a time in which not so many steps of one class can be taken."""
    return NoTimeError(
        "what is left of the time allowed for this model is too short for "
        f"{steps} gradient steps of one class",
        remedy="raise the setting `timeout`",
    )


def total_steps(classes: int, steps: int, full_field: int = FULL_FIELD) -> int:
    """Return how many gradient steps a contest takes in which no search comes to its own end."""
    total, granted, alive = 0, 0, classes
    while granted < steps:
        taken = min(ROUND, steps - granted)
        total, granted = total + alive * taken, granted + taken
        if classes > full_field:
            alive = _kept(alive)
    return total


def outcome(  # noqa: PLR0913, PLR0917 - as `contest`
    entrants: Sequence[Entrant[S]],
    subject: Subject,
    classes: int,
    effort: Effort,
    full_field: int = FULL_FIELD,
    stages: Stages | None = None,
) -> Contest:
    """Return how a contest went: what references are to repeat, and who was left out.

    Where the suspect's search came to its own end, theirs may too: they get all the steps there
    are. A class that was dropped on the way is nobody's backdoor, and references need not search
    it. A reference that follows names the steps that it took of those, and leaves out the classes
    that the time cut short.
    """
    followed, ran = _granted(subject), {e.target: e for e in entrants}
    if followed:
        steps = {
            target: followed[target] if e.search.finished else e.granted
            for target, e in ran.items()
        }
        left_out = [target for target, count in followed.items() if steps.get(target, 0) < count]
    else:
        steps = {
            e.target: effort.steps if e.search.finished else e.granted
            for e in _finalists(entrants, full_field)
        }
        left_out = [target for target in _chosen(subject, classes, stages) if target not in ran]
    return Contest(
        planned=effort.steps,
        round=ROUND,
        finalists=FINALISTS if len(entrants) > full_field else len(entrants),
        granted=tuple(Grant(class_id=target, steps=count) for target, count in steps.items()),
        left_out=tuple(left_out),
        stages=stages,
    )


def _finalists(entrants: Sequence[Entrant[S]], full_field: int) -> list[Entrant[S]]:
    """Return who was not dropped: who finished, and who went as far as the last of the best."""
    if len(entrants) <= full_field:
        return list(entrants)
    least = sorted(e.granted for e in entrants)[-FINALISTS]
    return [e for e in entrants if e.search.finished or e.granted >= least]


def _granted(subject: Subject) -> Mapping[int, int]:
    """Return the steps by class that a reference is to repeat; none for one that chooses itself."""
    suspect = subject.suspect if subject.follows else None
    contest = suspect.by_class.contest if suspect and suspect.by_class else None
    return {grant.class_id: grant.steps for grant in contest.granted} if contest else {}


def _chosen(subject: Subject, classes: int, stages: Stages | None) -> Sequence[int]:
    return (stages.classes if stages else ()) or contestants(subject, classes)


def contestants(subject: Subject, classes: int) -> list[int]:
    """Return the classes that are to be searched, in order: all, or those that the user named.

    Raises:
        UsageError: There is no such class.
    """
    chosen = sorted(set(subject.settings.classes)) or range(classes)
    outside = next((t for t in chosen if not 0 <= t < classes), None)
    if outside is not None:
        raise UsageError(
            f"there is no class {outside}", remedy=f"the model has the classes 0 to {classes - 1}"
        )
    return list(chosen)


def _run_rounds(
    alive: Sequence[Entrant[S]], most: Mapping[int, int], clock: "_Clock", at_once: int
) -> None:
    """Give each class its next steps, several classes at a time."""
    if at_once == 1:
        for entrant in alive:
            _run_round(entrant, most[entrant.target], clock)
        return
    from concurrent import futures  # noqa: PLC0415 - for a search alone, not for every scan

    with futures.ThreadPoolExecutor(at_once) as pool:
        for done in [pool.submit(_run_round, e, most[e.target], clock) for e in alive]:
            done.result()


def _run_round(entrant: Entrant[S], limit: int, clock: "_Clock") -> None:
    """Give a class its next steps, all of them or none: no result depends on the clock.

    Nobody knows how long a first round takes: one that the time cuts short does not count, and the
    class is left out.
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
    entrant.course.append(entrant.search.figure)
    clock.advance(steps, entrant.target)


def _better_half(alive: list[Entrant[S]]) -> list[Entrant[S]]:
    ranked = sorted(alive, key=lambda e: e.search.rank)
    return sorted(ranked[: _kept(len(alive))], key=lambda e: e.target)


def _kept(alive: int) -> int:
    """Return how many of the classes that are alive go on."""
    return max(min(FINALISTS, alive), alive // 2)


class _Clock:
    """The time of the contest, and its progress.

    On the CPU it is processor time per thread, so that a busy machine does not change a result; on
    CUDA, the wall's.
    """

    def __init__(self, subject: Subject, seconds: float, total: int) -> None:
        self._subject, self._total, self._done = subject, total, 0
        self._one_at_a_time = threading.Lock()
        self._now = pace.clock(subject.settings)
        self._deadline = self._now() + seconds * pace.threads(subject.settings)

    @property
    def over(self) -> bool:
        return self._now() > self._deadline or deadline.nearly_over(self._subject.rest)

    def advance(self, steps: int, target: int) -> None:
        with self._one_at_a_time:
            self._done += steps
            self._subject.progress(self._done, self._total, target)
