"""The smallest trigger of each class that gradient steps find on given images.

Source: B. Wang et al., "Neural Cleanse: Identifying and Mitigating Backdoor Attacks in Neural
Networks", IEEE S&P 2019, section IV, and the authors' code.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self, TypeAlias

import numpy as np

from scanner.instruments import kept, stages
from scanner.instruments.class_search import FULL_FIELD, Entrant, contest, outcome
from scanner.instruments.detector import Subject
from scanner.instruments.differentiable import Differentiable, Floats, describe
from scanner.instruments.half_side import HalfSide
from scanner.instruments.probes import Images
from scanner.instruments.statistics import class_margins
from scanner.instruments.trigger import FIRST_COST, FreeTrigger, Price, Smallest, pixels, stamp
from scanner.results import ByClass, ClassRow, Stages, Trigger
from scanner.settings import Effort
from scanner.values import frozen

if TYPE_CHECKING:
    from scanner.instruments import device_search

# Added to sizes before their logarithm: a tenth of a pixel against a hundredth is no evidence.
PIXEL = 1.0
SUCCESS = 0.99  # share of the images that must flip
EARLY_STOP = 25  # steps without a smaller mask
LEAST = 8  # images of a step in a search in stages (docs/large-networks.md)
_CHECKED = 4  # images that are also put to the file itself
_PICTURED = 10  # classes whose trigger is kept, the smallest first


@frozen
class Plan:
    """How searches go about it.

    Attributes:
        batch: Images of one step, drawn anew for each where there are more. A trigger that was
            fitted to a few images turns few others: nearly every class then has a small one. None
            takes all.
        first_cost: lambda, once it is raised from 0.
        longer: How many times the budget's steps and seconds a search may take.
        full_field: Up to so many classes, none is dropped on the way.
        success: Share of the images that must flip.
        may_halve: Whether a search in stages may be on images of half the side.
    """

    batch: int | None = None
    first_cost: float = FIRST_COST
    longer: float = 1.0
    full_field: int = FULL_FIELD
    success: float = SUCCESS
    may_halve: bool = False

    def effort(self, budget: Effort) -> Effort:
        """Return what a budget allows."""
        return dataclasses.replace(
            budget,
            steps=round(budget.steps * self.longer),
            seconds=budget.seconds * self.longer,
        )

    def staged(self, smaller: Stages | None) -> "Plan":
        """Return the plan of a search in stages."""
        return self if smaller is None else dataclasses.replace(self, batch=smaller.images)

    def on(self, half: HalfSide | None) -> "Plan":
        """Return the plan of the same search on small images: a pixel of theirs costs as four."""
        return (
            self
            if half is None
            else dataclasses.replace(self, first_cost=self.first_cost * half.area)
        )

    @property
    def parameters(self) -> dict[str, Any]:
        """What a measurement says of it: nothing of the authors' own schedule."""
        # Whether it was on small images, its stages say.
        usual = dataclasses.replace(self, may_halve=ON_NOISE.may_halve) == ON_NOISE
        return {} if usual else {"batch": self.batch, "first_cost": self.first_cost}


ON_NOISE = Plan(may_halve=True)
# Chosen on the population's development recipes (docs/detection.md).
ON_IMAGES = Plan(batch=32, first_cost=1e-2, longer=2.5, full_field=50)


@dataclasses.dataclass(frozen=True, slots=True)
class Searched:
    """What a search over all classes found.

    Attributes:
        profile: |m|_1 by class, in pixels.
        parameters: What influenced it.
    """

    profile: ByClass
    parameters: Mapping[str, Any]


def search(subject: Subject, model: Differentiable, data: Images, plan: Plan) -> Searched:
    """Search for the smallest trigger of each class.

    Args:
        subject: Whose classes they are.
        model: The same, with its gradients.
        data: Images that a trigger must turn, and others that say how many it turns.
        plan: How.

    Raises:
        NoTimeError: The budget is too small for a single class.
        UnsupportedModelError: The gradient is not a number.
        UsageError: There is no such class.
    """
    staged = stages.arranged(subject, model, data.shown, demanded(subject, model, data, plan))
    model, half, effort = staged.whole, staged.half, staged.effort
    plan = plan.staged(staged.stages).on(half)
    shown = half.reduced(data.shown) if half else data.shown
    device = _on_device(subject, staged.model, shown, plan)
    area = half.area if half else 1.0
    entrants = contest(
        subject,
        model.classes,
        lambda target: _Restarts.start(staged.model, shown, target, subject, plan, device, area),
        effort,
        plan.full_field,
        staged.stages,
        staged.at_once,
    )
    logits = np.concatenate(
        [model.logits(images) for images in (data.shown, data.held_back) if len(images)]
    )
    nearness = class_margins(logits.astype(np.float64))
    answered = np.bincount(logits.argmax(axis=1), minlength=model.classes) / len(logits)
    found = [_Found.of(e, model, half) for e in entrants]
    subject.seen.extend([data.shown[:_CHECKED], *_stamped(found, data.held_back)])
    return Searched(
        profile=ByClass(
            classes=model.classes,
            rows=tuple(
                _row(one, data.held_back, float(nearness[e.target]), float(answered[e.target]))
                for e, one in zip(entrants, found, strict=True)
            ),
            unreached=pixels(model.shape),
            contest=outcome(
                entrants, subject, model.classes, effort, plan.full_field, staged.stages
            ),
            triggers=_triggers(found, data.held_back),
        ),
        parameters={
            **describe(model, subject),
            "data": data.source,
            "images": len(data.shown),
            "held_back": len(data.held_back),
            "steps": effort.steps,
            "restarts": effort.restarts,
            **plan.parameters,
            **stages.parameters(staged.stages),
            **(device.parameters if device else {}),
        },
    )


def demanded(subject: Subject, model: Differentiable, data: Images, plan: Plan) -> stages.Demand:
    """Return what the budget allows a search on these images."""
    images, effort = len(data.shown), plan.effort(subject.settings.effort)
    images = min(images, plan.batch or images)
    demand = stages.demanded(subject, model, images, effort, LEAST, plan.full_field)
    return dataclasses.replace(demand, may_halve=plan.may_halve)


class Inversion:
    """One search for the smallest trigger of one class.

    Minimises CE(f((1 - m) x + m p), t) + lambda |m|_1 by Adam; lambda starts at 0, grows after
    successes and shrinks after failures (section IV and the authors' code).
    """

    def __init__(
        self,
        model: Differentiable,
        images: Floats,
        target: int,
        generator: np.random.Generator,
        plan: Plan = ON_NOISE,
    ) -> None:
        self.model, self.target, self._success = model, target, plan.success
        self.trigger = FreeTrigger(model.shape, model.low, model.high, generator)
        self.price = Price(first=plan.first_cost)
        self.smallest = Smallest()
        self.loss, self.steps = math.inf, 0
        self._images, self._batch, self._generator = images, plan.batch, generator

    @property
    def finished(self) -> bool:
        """Whether the mask has stopped shrinking."""
        found = self.best is not None and self.price.cost > 0
        return found and self.smallest.stale >= EARLY_STOP

    @property
    def best(self) -> tuple[Floats, Floats] | None:
        """Mask and pattern of the smallest trigger that worked; None before the first."""
        return self.smallest.trigger

    @property
    def size(self) -> float:
        """Its |m|_1 in pixels; infinite before the first."""
        return self.smallest.size

    def step(self) -> None:
        """Evaluate the trigger, remember it if it is the smallest that works, and descend."""
        images = self._draw()
        logits, losses, gradient = self.model.evaluate(self.trigger.stamped(images), self.target)
        self.steps += 1
        self.loss = float(losses.mean())
        success = bool((logits.argmax(axis=1) == self.target).mean() >= self._success)
        self.smallest.follow(self.trigger, success=success)
        self.price.follow(success=success)
        self.trigger.descend(images, gradient, self.price.cost)

    def _draw(self) -> Floats:
        if self._batch is None or self._batch >= len(self._images):
            return self._images
        return self._images[self._generator.permutation(len(self._images))[: self._batch]]


AnyInversion: TypeAlias = "Inversion | device_search.Inversion"


def _on_device(
    subject: Subject, model: Differentiable, images: Floats, plan: Plan
) -> "device_search.Inversions | None":
    """Return what runs searches on the device; None where they run in the loop above."""
    if not model.on_device:
        return None
    from scanner.instruments import device_search  # noqa: PLC0415 - most machines have no device

    schedule = device_search.Schedule(
        batch=plan.batch,
        success=plan.success,
        first_cost=plan.first_cost,
        early_stop=EARLY_STOP,
    )
    return device_search.inversions(
        subject,
        model,
        images,
        schedule,
        lambda target, generator: Inversion(model, images, target, generator, plan),
    )


@dataclasses.dataclass(frozen=True, slots=True)
class _Restarts:
    """Several searches for one class from different starting points, in step.

    Attributes:
        searches: The searches.
        area: Pixels of an image for each that they count.
    """

    searches: tuple["AnyInversion", ...]
    area: float = 1.0

    @classmethod
    def start(  # noqa: PLR0913, PLR0917 - what a search is made of
        cls,
        model: Differentiable,
        images: Floats,
        target: int,
        subject: Subject,
        plan: Plan,
        device: "device_search.Inversions | None" = None,
        area: float = 1.0,
    ) -> Self:
        """Begin; starting points depend on the seed alone: the same for every model and class."""
        generators = [
            np.random.default_rng((subject.settings.seed, r))
            for r in range(subject.settings.effort.restarts)
        ]
        if device is not None:
            return cls(tuple(device.start(target, g, r) for r, g in enumerate(generators)), area)
        return cls(tuple(Inversion(model, images, target, g, plan) for g in generators), area)

    @property
    def finished(self) -> bool:
        return all(search.finished for search in self.searches)

    @property
    def rank(self) -> tuple[float, float]:
        return self.best.size, self.best.loss

    @property
    def figure(self) -> float | None:
        return self.counted(self.best)

    def counted(self, search: "AnyInversion") -> float | None:
        """Return the smallest mask of a search in pixels of an image; None where it found none."""
        return search.size * self.area if search.best else None

    @property
    def best(self) -> "AnyInversion":
        return min(self.searches, key=lambda search: (search.size, search.loss))

    def step(self) -> None:
        for search in self.searches:
            if not search.finished:
                search.step()


@dataclasses.dataclass(frozen=True, slots=True)
class _Found:
    """A class, and the smallest trigger that its search found.

    Attributes:
        entrant: The class.
        model: Takes whole images.
        trigger: Mask and pattern of a whole image; None where the search found none.
    """

    entrant: Entrant[_Restarts]
    model: Differentiable
    trigger: tuple[Floats, Floats] | None

    @classmethod
    def of(cls, entrant: Entrant[_Restarts], model: Differentiable, half: HalfSide | None) -> Self:
        """Return what a search found, enlarged where it was on images of half the side."""
        trigger = entrant.search.best.best
        return cls(entrant, model, half.enlarged(trigger) if half and trigger else trigger)

    def turned(self, images: Floats) -> float | None:
        """Return the share of images that the trigger turns into the class; None without one."""
        if self.trigger is None:
            return None
        answers = self.model.predict(stamp(images, *self.trigger))
        return float((answers == self.entrant.target).mean())


def _row(found: _Found, held_back: Floats, nearness: float, answered: float) -> ClassRow:
    entrant = found.entrant
    return ClassRow(
        class_id=entrant.target,
        figure=entrant.search.figure,
        course=tuple(entrant.course),
        finished=entrant.search.finished,
        steps=max(s.steps for s in entrant.search.searches),
        restarts=tuple(map(entrant.search.counted, entrant.search.searches)),
        nearness=nearness,
        answered=answered,
        figures={"success": found.turned(held_back)},
    )


def _stamped(found: Sequence[_Found], images: Floats) -> list[Floats]:
    """Return images under the trigger of each class that has one, the largest mask first."""
    best = [one.trigger for one in _smallest_first(found)[:_PICTURED][::-1]]
    return [stamp(images[:2], *trigger) for trigger in best if trigger is not None]


def _triggers(found: Sequence[_Found], held_back: Floats) -> tuple[Trigger, ...]:
    """Return the triggers of the classes with the smallest masks, the smallest first."""
    best = _smallest_first(found)[:_PICTURED]
    return tuple(_trigger(one, one.trigger, held_back) for one in best if one.trigger is not None)


def _smallest_first(found: Sequence[_Found]) -> list[_Found]:
    """Return the classes that have a trigger, the smallest mask first."""
    having = (one for one in found if one.trigger is not None)
    return sorted(having, key=lambda one: one.entrant.search.rank)


def _trigger(found: _Found, trigger: tuple[Floats, Floats], images: Floats) -> Trigger:
    """Return mask, pattern and an image that it turns; the first image where it turns none."""
    (mask, pattern), model, target = trigger, found.model, found.entrant.target
    stamped = stamp(images, mask, pattern)
    before, after = model.predict(images), model.predict(stamped)
    flips = np.flatnonzero((before != target) & (after == target))
    shown = int(flips[0]) if len(flips) else 0
    return Trigger(
        class_id=target,
        mask=kept.packed(mask),
        pattern=kept.packed(pattern),
        original=kept.packed(images[shown]),
        stamped=kept.packed(stamped[shown]),
        class_before=int(before[shown]),
        class_after=int(after[shown]),
        low=model.low,
        high=model.high,
        success=float((after == target).mean()),
    )
