"""Classes compete for gradient steps, as the arms of a bandit: those whose search goes best get more.

Successive halving (K. Jamieson and A. Talwalkar, "Non-stochastic Best Arm Identification and Hyperparameter
Optimization", AISTATS 2016, algorithm 1): every class gets a round of steps, then the better half another, and so on.
Where there are few classes all of them run to the end.
"""

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Generic, Protocol, TypeVar

from scanner.detectors.base import Subject
from scanner.errors import UnsupportedModelError, UsageError

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
    """A class in the contest, its search, and how many steps it was granted."""

    target: int
    search: S
    granted: int = 0


def contest(
    subject: Subject, classes: int, start: Callable[[int], S], lead: Mapping[int, int] | None = None
) -> list[Entrant[S]]:
    """Run a search for each class within the subject's budget; return those that got steps, in class order.

    Args:
        subject: Its settings hold the budget and the choice of classes.
        classes: Number of the model's classes.
        start: Begins the search for a class.
        lead: Steps granted by class in the suspect's contest, which a reference repeats.

    Raises:
        UsageError: There is no such class.
        UnsupportedModelError: The time was too short for one round of one class.
    """
    effort = subject.settings.effort
    field = [Entrant(target, start(target)) for target in _targets(subject, classes, lead)]
    limits = lead or dict.fromkeys((e.target for e in field), effort.steps)
    clock = _Clock(subject, effort.seconds, sum(limits[e.target] for e in field))
    alive = field
    while alive and not clock.over:
        for entrant in alive:
            _run_round(entrant, limits[entrant.target], clock)
        alive = [e for e in alive if not e.search.finished and e.granted < limits[e.target]]
        if lead is None and len(field) > FULL_FIELD:
            alive = _better_half(alive)
    ran = [e for e in field if e.granted]
    if not ran:
        raise UnsupportedModelError(
            f"{effort.seconds:g} seconds are too short for {ROUND} gradient steps of one class",
            remedy="choose a larger --budget, or --classes",
        )
    return ran


def left_out(entrants: Sequence[Entrant[S]], subject: Subject, classes: int) -> list[int]:
    """Return the classes that were to compete and got no step."""
    ran = {e.target for e in entrants}
    return [target for target in _targets(subject, classes, None) if target not in ran]


def _targets(subject: Subject, classes: int, lead: Mapping[int, int] | None) -> list[int]:
    if lead is not None:
        return [target for target in lead if target < classes]
    chosen = sorted(set(subject.settings.classes)) or range(classes)
    outside = next((t for t in chosen if not 0 <= t < classes), None)
    if outside is not None:
        raise UsageError(f"there is no class {outside}", remedy=f"the model has the classes 0 to {classes - 1}")
    return list(chosen)


def _run_round(entrant: Entrant[S], limit: int, clock: "_Clock") -> None:
    """Give a class its next steps, all of them or none, so that its search does not depend on the clock."""
    if clock.over:
        return
    steps = min(ROUND, limit - entrant.granted)
    entrant.granted += steps
    for _ in range(steps):
        if not entrant.search.finished:
            entrant.search.step()
    clock.advance(steps)


def _better_half(alive: list[Entrant[S]]) -> list[Entrant[S]]:
    ranked = sorted(alive, key=lambda e: e.search.rank)
    kept = ranked[: max(FINALISTS, len(alive) // 2)]
    return sorted(kept, key=lambda e: e.target)


class _Clock:
    """Wall-clock time, and the progress of the whole contest."""

    def __init__(self, subject: Subject, seconds: float, total: int) -> None:
        self._subject, self._total, self._done = subject, total, 0
        self._deadline = time.monotonic() + seconds

    @property
    def over(self) -> bool:
        return time.monotonic() > self._deadline

    def advance(self, steps: int) -> None:
        self._done += steps
        self._subject.progress(self._done, self._total)
