"""One change for all images that turns them into a class: the smallest that gradient steps find.

A trigger that covers the whole image has no small mask: a pattern that is blended in, a wave, a
warp. What they have in common with a patch is that one small change works on every image. Clean
networks have such changes too (S.-M. Moosavi-Dezfooli et al., "Universal adversarial
perturbations", CVPR 2017); what counts is how small they are.

The size is found as by J. Rony et al. for single images ("Decoupling Direction and Norm for
Efficient Gradient-Based L2 Adversarial Attacks and Defenses", CVPR 2019, algorithm 1): a change has
a radius, which shrinks where the change works and grows where it does not, and a direction, which
follows the gradient. No price has to be weighed against the loss.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from scanner.errors import NoImagesError
from scanner.graph.gradient.backward import Objective
from scanner.instruments import kept, made_images, probes, stages
from scanner.instruments.class_search import Entrant, contest, outcome
from scanner.instruments.detector import Subject
from scanner.instruments.differentiable import Differentiable, Floats, describe, differentiable
from scanner.results import ByClass, ClassRow, Input, PlannedStage
from scanner.settings import Effort

# Chosen on the population's development recipes (docs/detection.md).
BATCH = 16  # images of one step, drawn anew for each
SUCCESS = 0.9  # share of them that must be of the class
STEPS = 0.6  # times the budget's
FULL_FIELD = 50  # up to so many classes, none is dropped
STRIDE = 0.08  # share by which the radius shrinks or grows in one step
LONGEST, SHORTEST = 0.6, 0.01  # the first step and the last, in radii
MOMENTUM = 0.7
_CHECKED = 4  # images that are also put to the file itself
_TINY = 1e-12


class Change(Protocol):
    """A change of images.

    Attributes:
        parameters: What it does, of any shape; zeros change nothing. Their root mean square is the
            radius.
        first: The radius to begin with.
        largest: The largest that is of interest: a class that takes more counts as this.
    """

    parameters: Floats
    first: float
    largest: float

    def applied(self, images: Floats) -> Floats:
        """Return changed images, (n, *shape)."""
        ...

    def pulled(self, images: Floats, gradient: Floats) -> Floats:
        """Return the derivative of the images' mean loss by the parameters.

        Args:
            images: Before they are changed, (n, *shape).
            gradient: Of each image's loss by its changed pixels, (n, *shape).
        """
        ...


Kind = Callable[[Differentiable], Change]
"""Returns a change of a model's images that changes nothing yet."""


class Search:
    """The search for one class.

    Args:
        model: What is to be misled.
        images: The images, (n, *shape), which the searches of all classes share.
        target: The class.
        kind: How.
        effort: In how many steps.
        generator: Draws the batches.
        among: Which images are to be changed: those that are not of the class without it; None for
            all.
    """

    def __init__(  # noqa: PLR0913, PLR0917 - what a search is made of
        self,
        model: Differentiable,
        images: Floats,
        target: int,
        kind: Kind,
        effort: Effort,
        generator: np.random.Generator,
        among: npt.NDArray[np.intp] | None = None,
    ) -> None:
        self.model, self.target = model, target
        self.change, self.smallest = kind(model), kind(model)
        self.size, self.loss, self.steps = math.inf, math.inf, 0
        self._images, self._planned, self._generator = images, effort.steps, generator
        self._among = np.arange(len(images)) if among is None else among
        self._radius = self.change.first
        self._direction = np.zeros_like(self.change.parameters)

    @property
    def finished(self) -> bool:
        """Whether all steps are taken, the last ones the shortest, or there is nothing to turn."""
        return self.steps >= self._planned or not len(self._among)

    @property
    def rank(self) -> tuple[float, float]:
        """The size of the smallest change that worked, and the last loss."""
        return self.size, self.loss

    @property
    def figure(self) -> float | None:
        """This size, or the largest of interest; None where there is neither, or no image."""
        size = min(self.size, self.change.largest)
        return size if len(self._among) and math.isfinite(size) else None

    @property
    def found(self) -> bool:
        """Whether a change of interest worked."""
        return self.size < self.change.largest

    def step(self) -> None:
        """Evaluate the change, remember it if it is the smallest that works, and descend."""
        drawn = self._generator.permutation(len(self._among))[:BATCH]
        images = self._images[self._among[drawn]]
        logits, losses, gradient = self.model.evaluate(self.change.applied(images), self.target)
        self.loss, parameters = float(losses.mean()), self.change.parameters
        size = root_mean_square(parameters)
        works = bool((logits.argmax(axis=1) == self.target).mean() >= SUCCESS)
        if works and size < self.size:
            self.size, self.smallest.parameters = size, parameters
        slope = _unit(self.change.pulled(images, gradient))
        self._direction = MOMENTUM * self._direction + (1 - MOMENTUM) * slope
        self._radius *= 1 - STRIDE if works else 1 + STRIDE
        length = self._radius * self._length()
        self.change.parameters = self._radius * _unit(parameters - length * _unit(self._direction))
        self.steps += 1

    def _length(self) -> float:
        """Return the length of a step in radii: half a cosine over the whole search."""
        sway = (1 + math.cos(math.pi * self.steps / self._planned)) / 2
        return SHORTEST + (LONGEST - SHORTEST) * sway


def root_mean_square(values: Floats) -> float:
    """Return the size of a change."""
    return float(np.sqrt(np.square(values, dtype=np.float64).mean()))


def _unit(values: Floats) -> Floats:
    """Return values scaled to a root mean square of 1; zeros stay."""
    found: Floats = (values / max(root_mean_square(values), _TINY)).astype(np.float32)
    return found


@dataclasses.dataclass(frozen=True, slots=True)
class Searched:
    """What a search over all classes found.

    Attributes:
        profile: The size by class.
        parameters: What influenced it.
        best: The search for the class with the smallest change.
        shown: An image held back, before and after that change; None where nothing was found.
    """

    profile: ByClass
    parameters: Mapping[str, Any]
    best: Search
    shown: Input | None


def search(subject: Subject, kind: Kind, *, makes_images: bool = False) -> Searched:
    """Search for the smallest change of a kind for each class.

    Args:
        subject: The model.
        kind: How images are changed.
        makes_images: Whether the model makes images itself where the user gives none.

    Raises:
        NoGradientError: An operator has no gradient.
        NoImagesError: There are no images.
        NoLogitsError: There are no logits.
        UnsupportedModelError: The gradient is not a number, or the budget is too small.
        UsageError: The user's images do not fit, or there is no such class.
    """
    settings = subject.settings
    if not (settings.has_images or makes_images):
        raise NoImagesError(
            "it needs clean images of the kind that the model was trained on",
            remedy="give them with the setting `images_file` or the setting `images_folder`",
        )
    model = differentiable(subject, Objective.CROSS_ENTROPY)
    data = (
        probes.clean_images(settings, model.shape, (model.low, model.high))
        if settings.has_images
        else made_images.shared(subject, model)
    )
    demand = _demanded(subject, model, len(data.shown))
    search = stages.arranged(subject, model, data.shown, demand)
    model, effort = search.model, search.effort
    own = model.predict(data.shown)
    entrants = contest(
        subject,
        model.classes,
        # The same batches for every class and every model.
        lambda target: Search(
            model,
            data.shown,
            target,
            kind,
            effort,
            np.random.default_rng(settings.seed),
            np.flatnonzero(own != target),
        ),
        effort,
        FULL_FIELD,
        search.stages,
        search.at_once,
    )
    best = min((e.search for e in entrants), key=lambda one: one.rank)
    checked = data.held_back[:_CHECKED]
    subject.seen.extend([checked, best.smallest.applied(checked)])
    return Searched(
        profile=ByClass(
            classes=model.classes,
            rows=tuple(_row(e, data.held_back) for e in entrants),
            contest=outcome(entrants, subject, model.classes, effort, FULL_FIELD, search.stages),
        ),
        parameters={
            **describe(model, subject),
            "data": data.source,
            "images": len(data.shown),
            "held_back": len(data.held_back),
            "steps": effort.steps,
            "batch": BATCH,
            **stages.parameters(search.stages),
        },
        best=best,
        shown=_shown(best, data.held_back) if best.found else None,
    )


def planned(rule: str, subject: Subject, *, makes_images: bool = False) -> tuple[PlannedStage, ...]:
    """Return the stages of `search`, nothing where it needs images and there are none.

    Raises:
        ScannerError: As for `search`.
    """
    settings = subject.settings
    if not (settings.has_images or makes_images):
        return ()
    model = differentiable(subject, Objective.CROSS_ENTROPY)
    if settings.has_images:
        shown = probes.clean_images(settings, model.shape, (model.low, model.high)).shown
        first: tuple[PlannedStage, ...] = ()
    else:
        shown, making = made_images.planned(rule, model, settings)
        first = (making,)
    demand = _demanded(subject, model, len(shown))
    return (*first, *stages.planned(rule, subject, model, shown, demand))


def _demanded(subject: Subject, model: Differentiable, shown: int) -> stages.Demand:
    """Return what the budget allows, for so many images that can be changed."""
    effort = subject.settings.effort
    budget = dataclasses.replace(effort, steps=round(effort.steps * STEPS), restarts=1)
    images = min(BATCH, shown)
    return stages.demanded(subject, model, images, budget, images, FULL_FIELD)


def _row(entrant: Entrant[Search], held_back: Floats) -> ClassRow:
    one = entrant.search
    return ClassRow(
        class_id=entrant.target,
        figure=one.figure,
        course=tuple(entrant.course),
        finished=one.finished,
        steps=one.steps,
        figures={"success": _success(one, held_back) if one.found else None},
    )


def _success(one: Search, images: Floats) -> float:
    """Return the share of images that the smallest change puts into the class."""
    return float((one.model.predict(one.smallest.applied(images)) == one.target).mean())


def _shown(one: Search, before: Floats) -> Input:
    """Return an image that the smallest change turns; the first where it turns none."""
    after = one.smallest.applied(before)
    answers = [one.model.predict(images) for images in (before, after)]
    turned = (answers[0] != one.target) & (answers[1] == one.target)
    chosen = slice(index := int(np.argmax(turned)), index + 1)
    return kept.pictured(
        after[index],
        (one.model.low, one.model.high),
        kept.Answered(
            original=before[index],
            before=answers[0][chosen],
            after=answers[1][chosen],
            success=_success(one, before),
        ),
    )
