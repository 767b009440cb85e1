"""Unlearning a class's triggers by gradient steps on all weights.

Source: B. Wang et al., "Neural Cleanse", IEEE S&P 2019, section VI-C: the model is trained on
images under the inverted trigger with their right labels. Here no label is needed: the model's own
probabilities for the unstamped image are the labels. Three things are ours, chosen on networks that
report nothing (docs/repair.md). Beside the smallest trigger the model unlearns others that work
without its pixels. The search is repeated on what was learnt. And what must stay is taught on
shifted images and on mixtures of two, which the original model answers as well as it does images.
"""

import dataclasses
import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import numpy.typing as npt

from scanner.instruments.trigger import channel_axis
from scanner.mending import triggers
from scanner.mending.forward import Forward
from scanner.mending.trainable import trainable
from scanner.modelfile.model import Model
from scanner.settings import Settings

Floats = npt.NDArray[np.float32]
Rebuilt = Callable[[dict[str, Floats]], Model]
"""Returns a model with other numbers in its tensors."""

ROUNDS = 3
_STEPS = 150
_KEPT, _BATCH = 64, 32  # images of a step that are to be answered as before, and under triggers
_RATE = 2e-3
_TRIGGERS = 3  # of the first search; the later ones look for the smallest alone
_REACH = 2  # pixels by which an image is shifted


@dataclasses.dataclass(frozen=True, slots=True)
class Lesson:
    """Where unlearning stands after a round.

    Attributes:
        values: The weights and biases, by name.
        sizes: Of the triggers that the round's search found.
    """

    values: dict[str, Floats]
    sizes: tuple[float, ...]


def rounds(  # noqa: PLR0913, PLR0917 - who learns what from whom
    model: Model,
    settings: Settings,
    images: Floats,
    targets: Sequence[int],
    rebuilt: Rebuilt,
    teacher: Forward,
) -> Iterator[Lesson]:
    """Yield the weights after each round of searching and unlearning.

    Args:
        model: As it was.
        settings: How it was scanned.
        images: What it learns from.
        targets: The classes whose triggers are unlearnt.
        rebuilt: Returns the model with other weights.
        teacher: The model as it was: it says what is right.

    Raises:
        GraphError: The model cannot be differentiated.
        UnsupportedModelError: Its weights are quantised.
    """
    student = trainable(model, settings)
    generator = np.random.default_rng(settings.seed)
    known: list[list[triggers.Found]] = []
    now = model
    for number in range(ROUNDS):
        searched = triggers.differentiated(now, settings)
        found = [
            triggers.search(
                searched,
                images,
                target,
                (settings.seed, number, target),
                _TRIGGERS if number == 0 else 1,
                real=settings.has_images,
            )
            for target in targets
        ]
        known += found
        for step in range(_STEPS):
            shown, wanted = _batch(images, known, teacher, generator)
            # Down to nothing along a cosine, so that each round ends where it is calm.
            rate = _RATE * (1 + math.cos(math.pi * step / _STEPS)) / 2
            student.descend(shown, wanted, rate)
        yield Lesson(
            values={name: value.copy() for name, value in student.values.items()},
            sizes=tuple(trigger.size for group in found for trigger in group),
        )
        now = rebuilt(student.values)


def _batch(
    images: Floats,
    known: Sequence[Sequence[triggers.Found]],
    teacher: Forward,
    generator: np.random.Generator,
) -> tuple[Floats, Floats]:
    """Return images with the probabilities that the model should give them.

    Half of them are to be answered as before, half bear triggers that are to do nothing.
    """
    kept = _varied(images, generator)
    plain = images[generator.integers(len(images), size=_BATCH)]
    stamped = np.concatenate([_stamped(plain[i : i + 1], known, generator) for i in range(_BATCH)])
    wanted = teacher.probabilities(np.concatenate([kept, plain]))
    return np.concatenate([kept, stamped]), wanted


def _stamped(
    image: Floats, known: Sequence[Sequence[triggers.Found]], generator: np.random.Generator
) -> Floats:
    """Return an image under one trigger of a search, or under several of it at once."""
    group = known[int(generator.integers(len(known)))]
    chosen = [trigger for trigger in group if generator.random() < 0.5]  # noqa: PLR2004 - half of them
    for trigger in chosen or [group[int(generator.integers(len(group)))]]:
        image = trigger.stamped(image)
    return image


def _varied(images: Floats, generator: np.random.Generator) -> Floats:
    """Return images shifted by a few pixels, half of them mixed with another."""
    places = generator.integers(len(images), size=(2, _KEPT))
    shifted = np.stack([_shifted(image, generator) for image in images[places[0]]])
    shape = (_KEPT, *[1] * (images.ndim - 1))
    share = np.where(generator.random(shape) < 0.5, 1.0, generator.random(shape))  # noqa: PLR2004 - half
    mixed = share * shifted + (1 - share) * images[places[1]]
    return np.asarray(mixed, np.float32)


def _shifted(image: Floats, generator: np.random.Generator) -> Floats:
    """Return an image moved by up to two pixels; what leaves it on one side enters on the other."""
    channels = channel_axis(image.shape)
    axes = tuple(axis for axis in range(image.ndim) if axis != channels)
    if image.ndim != 3:  # noqa: PLR2004 - rows of numbers have no neighbours
        return image
    steps = tuple(int(n) for n in generator.integers(-_REACH, _REACH + 1, size=len(axes)))
    return np.asarray(np.roll(image, steps, axes), np.float32)
