"""Unlearning a class's triggers by gradient steps on all weights.

Source: B. Wang et al., "Neural Cleanse", IEEE S&P 2019, section VI-C: the model is trained on
images under the inverted trigger with their right labels. That the search is repeated on what was
learnt, and for a pattern that covers the whole image, is after I-BAU (Y. Zeng et al., "Adversarial
Unlearning of Backdoors via Implicit Hypergradient", ICLR 2022, section 4), without its implicit
gradient. Here no label is needed: the model's own probabilities for the unstamped image are the
labels. What is ours was chosen on networks that report nothing (docs/repair.md): that each image
bears another variation of a trigger, that images of the target class are shown more often than
others, since they are what the model forgets first, and that later searches count a trigger that
turns a third of the images, since what is half unlearnt no longer turns all.
"""

import dataclasses
import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import numpy.typing as npt

from scanner.instruments.differentiable import Differentiable
from scanner.mending import levelling, triggers, variations
from scanner.mending.forward import Forward, flat_graph
from scanner.mending.trainable import trainable
from scanner.mending.triggers import Found
from scanner.modelfile.model import Model
from scanner.settings import Settings

Floats = npt.NDArray[np.float32]
Rebuilt = Callable[[dict[str, Floats]], Model]
"""Returns a model with other numbers in its tensors."""

ROUNDS = 5
_STEPS = 70
_KEPT, _BATCH = 64, 16  # images of a step that are to be answered as before, and under triggers
_RATE = 1e-3
_DEPTH = 8  # layers, up to which that is the first rate
_OF_THE_TARGET = 1 / 3  # share of the images to be answered as before that are of a target class
_HALF_UNLEARNT = 0.3  # share of the images that a trigger must turn after the first round
_STEPS_AGAIN = 60  # of a search after the first round
# Of a pattern in an image, at first. Clean models, too, have patterns that turn all images at 0.2.
_SHARES = (0.05, 0.1)


@dataclasses.dataclass(frozen=True, slots=True)
class Lesson:
    """Where unlearning stands after a round.

    Attributes:
        values: The weights and biases, by name.
        found: What the round's search found.
    """

    values: dict[str, Floats]
    found: tuple[Found, ...]


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
    hunts = [_Hunt(target, images, settings) for target in targets]
    course = _Course(images, teacher, targets)
    now = model
    layers = sum(value.ndim > 1 for value in student.values.values())
    last = levelling.last_layer(flat_graph(model), teacher.scores(images[:1]).shape[1])
    for number in range(ROUNDS):
        searched = triggers.differentiated(now, settings)
        found = [group for hunt in hunts for group in hunt.follow(searched)]
        course.add(found)
        for step in range(number * _STEPS, (number + 1) * _STEPS):
            shown, wanted = course.batch(generator)
            student.descend(shown, wanted, rate(step, layers))
            if last is not None:
                levelling.level(student.values[last.weights], last.axis, targets)
        values = {name: value.copy() for name, value in student.values.items()}
        yield Lesson(values, tuple(trigger for group in found for trigger in group))
        now = rebuilt(values)


def rate(step: int, layers: int) -> float:
    """Return the length of a step, in weights.

    It falls to nothing along a cosine, so that unlearning ends where it is calm.

    Args:
        step: How many were taken, in all rounds.
        layers: That learn. What a step does to the answers adds up over them.
    """
    first = _RATE * _DEPTH / max(layers, _DEPTH)
    return first * (1 + math.cos(math.pi * step / (ROUNDS * _STEPS))) / 2


class _Hunt:
    """The searches for the triggers of one class, round after round."""

    def __init__(self, target: int, images: Floats, settings: Settings) -> None:
        self._target, self._images, self._settings = target, images, settings
        self._first: Found | None = None
        self._share: float | None = None
        self._round = 0

    def follow(self, model: Differentiable) -> list[list[Found]]:
        """Return what works on the model as it is now: patches, and patterns, where there are."""
        generator = np.random.default_rng((self._settings.seed, self._round, self._target))
        pattern = self._pattern(model, generator)
        patches = self._patches(model, generator)
        self._round += 1
        return [patches, [pattern]] if pattern is not None else [patches]

    def _patches(self, model: Differentiable, generator: np.random.Generator) -> list[Found]:
        first, real = self._first, self._settings.has_images
        if first is None:
            self._first = triggers.smallest(model, self._images, self._target, generator, real=real)
            return [self._first]
        return [
            triggers.smallest(
                model, self._images, self._target, generator,
                real=real, success=_HALF_UNLEARNT, start=start, steps=_STEPS_AGAIN,
            )
            for start in (None, variations.grown(first))
        ]  # fmt: skip

    def _pattern(self, model: Differentiable, generator: np.random.Generator) -> Found | None:
        """Return a pattern, always of the share that sufficed at first."""
        if self._round == 0:
            found = triggers.faintest(model, self._images, self._target, generator, _SHARES)
            self._share = None if found is None else float(found.mask.flat[0])
            return found
        if self._share is None:
            return None
        return triggers.blended(model, self._images, self._target, generator, self._share)


class _Course:
    """What is taught: images, what is right for them, and the triggers that are to do nothing."""

    def __init__(self, images: Floats, teacher: Forward, targets: Sequence[int]) -> None:
        self._images, self._teacher = images, teacher
        self._own = np.flatnonzero(np.isin(teacher.classes(images), targets))
        self._groups: list[list[tuple[Found, Found]]] = []

    def add(self, found: Sequence[Sequence[Found]]) -> None:
        """Take in further triggers, by group; images bear those of one group at a time."""
        self._groups += [[(t, variations.grown(t)) for t in group] for group in found]

    def batch(self, generator: np.random.Generator) -> tuple[Floats, Floats]:
        """Return images with the probabilities that the model should give them.

        Most are to be answered as before; the others bear triggers that are to do nothing.
        """
        places = generator.integers(len(self._images), size=(2, _KEPT))
        if len(self._own):
            chosen = self._own[generator.integers(len(self._own), size=places.shape)]
            places = np.where(generator.random(places.shape) < _OF_THE_TARGET, chosen, places)
        kept = variations.varied(self._images, places, generator)
        plain = self._images[generator.integers(len(self._images), size=_BATCH)]
        stamped = np.stack([self._stamped(image, generator) for image in plain])
        wanted = self._teacher.probabilities(np.concatenate([kept, plain]))
        return np.concatenate([kept, stamped]), wanted

    def _stamped(self, image: Floats, generator: np.random.Generator) -> Floats:
        """Return an image under one trigger of a group, or under several of it at once."""
        group = self._groups[int(generator.integers(len(self._groups)))]
        chosen = [pair for pair in group if generator.random() < 0.5]  # noqa: PLR2004 - half of them
        for trigger, wide in chosen or [group[int(generator.integers(len(group)))]]:
            image = variations.bent(image, trigger, wide, generator)
        return image
