"""The triggers of a class: the smallest, and what works once its pixels are taken away.

A trigger of nine pixels needs only four of them to work, and those are what a search finds. A model
that unlearns the four still answers to the other five. So the search is repeated with the pixels
forbidden that were found before, as long as what it finds is not much larger.
"""

import dataclasses

import numpy as np
import numpy.typing as npt

from scanner.detectors.neural_cleanse import ON_IMAGES, ON_NOISE, Inversion
from scanner.graph.gradient.backward import Objective
from scanner.instruments.detector import Subject
from scanner.instruments.differentiable import Differentiable, differentiable
from scanner.instruments.trigger import stamp
from scanner.modelfile.model import Model
from scanner.settings import Settings

Floats = npt.NDArray[np.float32]

_STEPS = 150
_SEEN = 0.1  # a pixel whose mask is larger belongs to the trigger
_MUCH_LARGER = 8.0


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


def search(  # noqa: PLR0913 - what is searched, on what, from where
    model: Differentiable,
    images: Floats,
    target: int,
    seed: tuple[int, ...],
    most: int,
    *,
    real: bool,
) -> list[Found]:
    """Return the smallest trigger of a class, and up to `most` - 1 others beside it.

    Args:
        model: The model.
        images: That it must turn.
        target: The class.
        seed: Of the starting points.
        most: How many triggers.
        real: Whether the images are the user's, and not noise.
    """
    found: list[Found] = []
    forbidden: npt.NDArray[np.bool_] | None = None
    for place in range(most):
        generator = np.random.default_rng((*seed, place))
        trigger = _one(model, images, target, generator, forbidden, real=real)
        if found and trigger.size > _MUCH_LARGER * found[0].size:
            break
        found.append(trigger)
        pixels = trigger.mask > _SEEN
        forbidden = pixels if forbidden is None else forbidden | pixels
    return found


def _one(  # noqa: PLR0913 - one search
    model: Differentiable,
    images: Floats,
    target: int,
    generator: np.random.Generator,
    forbidden: npt.NDArray[np.bool_] | None,
    *,
    real: bool,
) -> Found:
    inversion = Inversion(model, images, target, generator, ON_IMAGES if real else ON_NOISE)
    for _ in range(_STEPS):
        if inversion.finished:
            break
        if forbidden is not None:
            inversion.trigger.forbid(forbidden)
        inversion.step()
    mask, pattern = inversion.best or (inversion.trigger.mask, inversion.trigger.pattern)
    return Found(mask, pattern, inversion.size)
