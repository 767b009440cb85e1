"""Triggers of a class: the smallest patch, and the faintest pattern over the whole image.

The smallest is Neural Cleanse's. It misses a pattern that is blended in everywhere: a few pixels
turn such a model too, and when it has unlearnt them the pattern still works. So a second search
gives the mask one share for all pixels, and looks for the pattern alone.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from scanner.graph.gradient.backward import Objective
from scanner.instruments.detector import Subject
from scanner.instruments.differentiable import Differentiable, differentiable
from scanner.instruments.inversion import ON_IMAGES, ON_NOISE, SUCCESS, Inversion
from scanner.instruments.trigger import FreeTrigger, stamp
from scanner.modelfile.model import Model
from scanner.settings import Settings

Floats = npt.NDArray[np.float32]

_STEPS = 150
_STEPS_BLENDED, _BATCH = 60, 32  # of a search for a pattern, and images of each
_WORKS = 0.9  # share of the images that a blended pattern must turn


@dataclasses.dataclass(frozen=True, slots=True)
class Found:
    """A trigger that was found.

    Attributes:
        mask: As in `scanner.instruments.trigger`.
        pattern: Likewise.
        size: |m|_1 in pixels; infinite where it works on too few images.
    """

    mask: Floats
    pattern: Floats
    size: float

    @property
    def is_blended(self) -> bool:
        """Whether its mask is the same everywhere."""
        return bool(self.mask.min() == self.mask.max())

    def stamped(self, images: Floats) -> Floats:
        """Return images under the trigger."""
        return stamp(images, self.mask, self.pattern)


def differentiated(model: Model, settings: Settings) -> Differentiable:
    """Return a model whose triggers can be searched.

    Raises:
        NoGradientError: An operator has no gradient.
        NoLogitsError: There are no logits.
    """
    return differentiable(Subject(model=model, settings=settings), Objective.CROSS_ENTROPY)


def smallest(  # noqa: PLR0913 - what is searched, on what, from where
    model: Differentiable,
    images: Floats,
    target: int,
    generator: np.random.Generator,
    *,
    real: bool,
    success: float = SUCCESS,
    start: Found | None = None,
    steps: int = _STEPS,
) -> Found:
    """Return the smallest trigger of a class.

    Args:
        model: The model.
        images: That it must turn.
        target: The class.
        generator: Draws the starting point, and which images a step sees.
        real: Whether the images are the user's, and not noise.
        success: Share of the images that count as all.
        start: From where to search; None begins with hardly a mask.
        steps: At most.
    """
    plan = dataclasses.replace(ON_IMAGES if real else ON_NOISE, success=success)
    inversion = Inversion(model, images, target, generator, plan)
    if start is not None:
        inversion.trigger.begin(start.mask, start.pattern)
    for _ in range(steps):
        if inversion.finished:
            break
        inversion.step()
    mask, pattern = inversion.best or (inversion.trigger.mask, inversion.trigger.pattern)
    return Found(mask, pattern, inversion.size)


def faintest(
    model: Differentiable,
    images: Floats,
    target: int,
    generator: np.random.Generator,
    shares: Sequence[float],
) -> Found | None:
    """Return a pattern that turns the images when it is blended in, at the first share that does.

    None if there is no such pattern at any of the shares.

    Args:
        model: The model.
        images: That it must turn.
        target: The class.
        generator: Draws the starting point, and which images a step sees.
        shares: Of the pattern in an image, the faintest first.
    """
    for share in shares:
        found = blended(model, images, target, generator, share)
        turned = model.evaluate(found.stamped(images), target)[0].argmax(axis=1) == target
        if turned.mean() >= _WORKS:
            return found
    return None


def blended(
    model: Differentiable,
    images: Floats,
    target: int,
    generator: np.random.Generator,
    share: float,
) -> Found:
    """Return the pattern that turns the most images when a share of it is blended in."""
    trigger = FreeTrigger(model.shape, model.low, model.high, generator)
    trigger.spread(share)
    for _ in range(_STEPS_BLENDED):
        batch = images[generator.permutation(len(images))[:_BATCH]]
        _, _, gradient = model.evaluate(trigger.stamped(batch), target)
        trigger.descend(batch, gradient, cost=0.0)
        trigger.spread(share)
    return Found(trigger.mask, trigger.pattern, float(trigger.mask.sum()))
