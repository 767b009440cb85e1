"""Source-dependent triggers: one stamp that sends each class to a class of its own.

An all-to-all backdoor (T. Gu, B. Dolan-Gavitt and S. Garg, "BadNets", 2017, section 3.1.2) has no
single target: a search class by class finds nothing. The search is ours: Neural Cleanse's, with one
mask and one pattern for all images at once, and an objective that asks where each image leaves its
own class for, wherever that is (docs/detectors.md).

With z the logits of a stamped image, y the class that the network gave it before, q the softmax of
z over the other classes, and H the entropy, it minimises

    mean max(0, z_y - max_k z_k + 1) - H(mean q) + 1/2 mean H(q) + lambda |m|_1,   k != y:

every image leaves, for one class each, and not all for the same.
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import ClassVar, Self

import numpy as np
import numpy.typing as npt

from scanner.errors import NoImagesError, NoTimeError
from scanner.graph.gradient.backward import Objective
from scanner.instruments import kept, label_map, pace, probes
from scanner.instruments.detector import Detector, Needs, Subject
from scanner.instruments.differentiable import Differentiable, Floats, describe, differentiable
from scanner.instruments.label_map import Classes
from scanner.instruments.pace import Pace
from scanner.instruments.trigger import FreeTrigger, Price, Smallest, pixels, stamp
from scanner.results import (
    Contribution,
    Measurement,
    Observation,
    Part,
    PlannedStage,
    Rule,
    Severity,
    Wording,
)
from scanner.settings import Settings

SUCCESS = 0.6  # share of the images that must go where most of their class go
RESTARTS = 3
LONGER = 2.0  # times the budget's steps
MOST_TIME = 5.0  # times the budget's seconds that it may take
_RUNS = 2  # of the gradient graph in each step
EARLY_STOP = 50  # steps without a smaller mask
_SURE = 0.5  # weight of each image's own entropy beside that of their mean
# Of an image: 69 of 72 clean networks of the population's development recipes needed no smaller
# mask (docs/detection.md). What is larger says nothing.
NATURAL = 0.02
_PIXEL = 1.0  # as in Neural Cleanse: a tenth of a pixel against a hundredth is no evidence
_TINY = 1e-12

Floats64 = npt.NDArray[np.float64]


class SourceDependent(Detector):
    """log of how many times smaller the mask is that moves every class than clean models need."""

    rule: ClassVar[Rule] = Rule(
        id="source_dependent",
        name="Source-dependent trigger",
        summary="One small trigger sends the images of each class to another class.",
        source="an inversion of all-to-all BadNets (T. Gu et al., BadNets, 2017, section 3.1.2)",
    )
    needs: ClassVar[Needs] = Needs.LOGITS | Needs.GRADIENTS | Needs.IMAGES
    copies: ClassVar[float] = 7
    contribution: ClassVar[Contribution] = Contribution(part=Part.SHOWN)
    wording: ClassVar[Wording] = Wording(
        alone="one mask of {pixels:.1f} pixels sends the images of each class to another, "
        "{moved:.0%} of those held back among them"
    )

    def measure(self, subject: Subject) -> Measurement:
        """Return log((NATURAL pixels + 1) / (|m|_1 + 1)) of the smallest mask, and 0 at the least.

        Raises:
            NoTimeError: The search would take far longer than the budget allows.
            NoImagesError: There are no images (noise has no class to leave), or all of them are of
                one class.
            NoGradientError: An operator has no gradient.
            UnsupportedModelError: There are no logits, or the gradient is not a number.
            UsageError: The user's images do not fit.
        """
        settings = subject.settings
        if not settings.has_images:
            raise NoImagesError(
                "it needs clean images of the kind that the model was trained on",
                remedy="give them with the setting `images_file` or the setting `images_folder`",
            )
        model = differentiable(subject, Objective.WEIGHTED_SUM)
        data = probes.clean_images(settings, model.shape, (model.low, model.high))
        measured = pace.measured(model, data.shown, settings)
        _check_time(_seconds(measured, data, settings), settings)
        model = dataclasses.replace(model, most=measured.most)
        own = model.predict(data.shown)
        if (own == own[0]).all():
            raise NoImagesError(
                f"the model puts all {len(own)} images that it is shown into class {own[0]}",
                remedy="give images of several classes",
            )
        steps = round(settings.effort.steps * LONGER)
        searches = [
            _Search(model, data.shown, own, np.random.default_rng((settings.seed, r)))
            for r in range(RESTARTS)
        ]
        for done, search in enumerate(searches):
            search.run(steps)
            subject.progress(done + 1, RESTARTS)
        best = min(searches, key=lambda search: search.smallest.size)
        whole, size = pixels(model.shape), min(best.smallest.size, pixels(model.shape))
        found = best.smallest.trigger
        moves = _Moves.of(model, data, own, found) if found else None
        if found:
            subject.seen.append(stamp(data.held_back[:2], *found))
        return Measurement(
            rule=self.rule.id,
            statistic=max(0.0, math.log((NATURAL * whole + _PIXEL) / (size + _PIXEL))),
            parameters={
                **describe(model, subject),
                "data": data.source,
                "images": len(data.shown),
                "held_back": len(data.held_back),
                "steps": steps,
                "restarts": RESTARTS,
            },
            figures={
                "pixels": size if found else None,
                "moved": moves.share if moves else None,
            },
            observations=(_seen(model, data.held_back, found, moves),) if found and moves else (),
        )

    def plan(self, subject: Subject) -> Sequence[PlannedStage]:
        """Return the search, where it takes no longer than the budget allows.

        Raises:
            ScannerError: As for `measure`.
        """
        settings = subject.settings
        if not settings.has_images:
            return ()
        model = differentiable(subject, Objective.WEIGHTED_SUM)
        data = probes.clean_images(settings, model.shape, (model.low, model.high))
        measured = pace.measured(model, data.shown, settings)
        seconds = _seconds(measured, data, settings)
        _check_time(seconds, settings)
        search = PlannedStage(
            rules=(self.rule.id,),
            does="search one trigger that moves every class",
            images=len(data.shown),
            steps=RESTARTS * round(settings.effort.steps * LONGER),
            seconds=seconds,
            memory=measured.expected(len(data.shown)),
        )
        return (search,)


def _seconds(measured: Pace, data: probes.Images, settings: Settings) -> float:
    """Return how long the searches take, of the processor for each thread."""
    steps = RESTARTS * round(settings.effort.steps * LONGER)
    each = _RUNS * len(data.shown) * measured.seconds
    return steps * each / pace.threads(settings)


def _check_time(seconds: float, settings: Settings) -> None:
    """Refuse a search that would take far longer than the budget allows.

    Raises:
        NoTimeError: It would.
    """
    if seconds > MOST_TIME * settings.effort.seconds:
        raise NoTimeError(
            f"a search for one trigger of all classes would take {seconds:,.0f} seconds here, and "
            f"the budget allows {MOST_TIME * settings.effort.seconds:,.0f}",
            remedy="raise the setting `budget`, or give fewer images",
        )


@dataclasses.dataclass(frozen=True, slots=True)
class _Moves:
    """Where a trigger sends images.

    Attributes:
        to: By class, the one that most of its images go to, of those that the search saw; a class
            that none of them leaves is missing.
        share: Of the images held back that go the same way.
        first: The first of these; where there are none, the first image.
    """

    to: dict[int, int]
    share: float
    first: int

    @classmethod
    def of(
        cls,
        model: Differentiable,
        data: probes.Images,
        own: Classes,
        trigger: tuple[Floats, Floats],
    ) -> Self:
        """Stamp the images that the search saw, whose own classes are known, and the others."""
        to = label_map.usual(own, model.predict(stamp(data.shown, *trigger)))
        moved = model.predict(stamp(data.held_back, *trigger))
        follows = label_map.follows(model.predict(data.held_back), moved, to)
        return cls(to, float(follows.mean()), int(np.argmax(follows)))


def _seen(
    model: Differentiable, images: Floats, trigger: tuple[Floats, Floats], moves: _Moves
) -> Observation:
    plain = images[moves.first : moves.first + 1]
    stamped = stamp(plain, *trigger)
    before, after = (model.predict(each) for each in (plain, stamped))
    return Observation(
        code="label-map",
        severity=Severity.NOTE,
        sentence=f"one mask of {trigger[0].sum():.1f} pixels sends images from class "
        f"{label_map.named(moves.to)}; {moves.share:.0%} of the images held back go the same way",
        details={"label_map": {str(one): other for one, other in moves.to.items()}},
        input=kept.pictured(
            stamped[0],
            (model.low, model.high),
            kept.Answered(original=plain[0], before=before, after=after),
        ),
    )


class _Search:
    """One search, from one starting point."""

    def __init__(
        self, model: Differentiable, images: Floats, own: Classes, generator: np.random.Generator
    ) -> None:
        self.model, self.images, self.own = model, images, own
        self.trigger = FreeTrigger(model.shape, model.low, model.high, generator)
        self.price, self.smallest = Price(), Smallest()

    def run(self, steps: int) -> None:
        """Take so many steps, or fewer where the mask has stopped shrinking."""
        for _ in range(steps):
            if self.smallest.trigger is not None and self.smallest.stale >= EARLY_STOP:
                return
            self.step()

    def step(self) -> None:
        """Evaluate the trigger, remember it if it is the smallest that works, and descend."""
        stamped = self.trigger.stamped(self.images)
        logits = self.model.evaluate(stamped, 0)[0]
        answers: Classes = logits.argmax(axis=1)
        to = label_map.usual(self.own, answers)
        success = bool(label_map.follows(self.own, answers, to).mean() >= SUCCESS)
        self.smallest.follow(self.trigger, success=success)
        self.price.follow(success=success)
        gradient = self.model.pull_back(stamped, slope(logits.astype(np.float64), self.own))
        self.trigger.descend(self.images, gradient, self.price.cost)


def slope(logits: Floats64, own: Classes) -> Floats64:
    """Return the derivative of n times the objective by the logits, less the price; (n, classes).

    Args:
        logits: z of the stamped images, (n, classes).
        own: y, the class of each image before it was stamped, (n,).
    """
    rows = np.arange(len(own))
    others = logits.copy()
    others[rows, own] = -np.inf
    odds = np.exp(others - others.max(axis=1, keepdims=True))
    q = odds / odds.sum(axis=1, keepdims=True)
    # Of -H(mean q) + 1/2 mean H(q) by q, then through the softmax.
    by_q = np.log(q.mean(axis=0) + _TINY) - _SURE * np.log(q + _TINY)
    found: Floats64 = q * (by_q - (q * by_q).sum(axis=1, keepdims=True))
    next_best = others.argmax(axis=1)
    stays = logits[rows, own] - others[rows, next_best] + 1 > 0
    found[rows[stays], own[stays]] += 1
    found[rows[stays], next_best[stays]] -= 1
    return found
