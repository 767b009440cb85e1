"""A search for triggers that needs no gradient: stamps of one kind, all of them, on a few images.

Gradient steps may end in another minimum than the trigger: on an accurate network they often find
a wide mask, and never the small square that an attacker used. So simple changes are tried, all of
one kind. S. Huang et al. ("One-Pixel Signature: Characterizing CNN Models for Backdoor Detection",
ECCV 2020) do so with single pixels.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from scanner.errors import UnsupportedModelError
from scanner.instruments import kept, label_map
from scanner.instruments.answers import Answers
from scanner.instruments.detector import Progress
from scanner.results import Input
from scanner.values import frozen

Floats = npt.NDArray[np.float32]
Scores = npt.NDArray[np.float64]

_STARTS = 2  # stamps of each class that are looked at closely
_CHECKED = 3  # stamps of each class that all images are shown
_AT_ONCE, _ELEMENTS = 512, 2**22  # images that are stamped together, and their pixels or logits
_AWAY = -1  # the column of pulls after those of the classes
_TINY = 1e-12


class Stamp(Protocol):
    """A change that all images get alike. Two that change them alike are equal."""

    @property
    def size(self) -> float:
        """How much it changes: of two that do the same, the smaller one is taken."""

    @property
    def details(self) -> dict[str, Any]:
        """What it is, for a program."""

    def stamped(self, images: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return changed images, (n, *shape)."""

    def described(self) -> str:
        """Return what it is, for a person."""


class Effort(Protocol):
    """How much is tried: a named tuple, of which further fields depend on the kind."""

    @property
    def glance(self) -> int:
        """Images that each stamp of the first round is put on."""

    @property
    def closely(self) -> int:
        """How many classes are looked at closely, those that stand out most."""

    def _asdict(self) -> dict[str, Any]: ...


class Kind(Protocol):
    """Stamps of one kind."""

    @property
    def noun(self) -> str:
        """What one of them is called."""

    @property
    def efforts(self) -> Sequence[Effort]:
        """From the most to the least."""

    @property
    def selective(self) -> Sequence[Effort]:
        """The same of a search for stamps of one class alone; may be empty.

        Its `glance` is images of each class, and its `closely` stamps of each pair of classes.
        """

    def candidates(
        self, shape: Sequence[int], span: tuple[float, float], effort: Any
    ) -> Sequence[Stamp]:
        """Return the stamps of the first round, for inputs of a shape and a range."""

    def near(self, stamp: Any, shape: Sequence[int]) -> Iterable[Stamp]:
        """Return a stamp, and others that differ little from it."""

    def most_near(self, shape: Sequence[int]) -> int:
        """Return how many these are at the most."""


@frozen
class Turning:
    """The stamp that turns most of the images into a class.

    Attributes:
        target: The class.
        stamp: The stamp.
        share: Of the images that are not of the class without it.
    """

    target: int
    stamp: Stamp
    share: float


@frozen
class Relabelling:
    """The stamp that sends most classes each to a class to which it sends no other.

    Attributes:
        stamp: The stamp.
        to: By class, the one that its images go to; no two go to the same one.
        share: Of the images that go there.
    """

    stamp: Stamp
    to: Mapping[int, int]
    share: float


@frozen
class Swept:
    """What a sweep found.

    Attributes:
        turning: The stamp of each class that was looked at closely, the foremost class first.
        relabelling: The stamp under which most images leave their class for one of its own.
    """

    turning: Sequence[Turning]
    relabelling: Relabelling


def runs(kind: Kind, effort: Effort, shape: Sequence[int], images: int) -> int:
    """Return how many images a sweep puts through the model, at the most."""
    first = len(kind.candidates(shape, (0.0, 1.0), effort)) * effort.glance
    closely = kind.most_near(shape) * min(images, 2 * effort.glance)
    return first + (effort.closely + 1) * (_STARTS * closely + _CHECKED * images)


def margins(logits: Scores) -> Scores:
    """Return how far each logit lies above the largest of the others, (n, classes)."""
    ranked = np.partition(logits, -2, axis=1)
    best, second = ranked[:, -1:], ranked[:, -2:-1]
    with np.errstate(invalid="ignore"):
        return np.nan_to_num(logits - np.where(logits == best, second, best))


def finite(answers: Answers, images: Floats) -> Scores:
    """Return the logits of images, (n, classes).

    Raises:
        UnsupportedModelError: One is not a finite number.
    """
    logits = answers.logits(images)
    if not np.isfinite(logits).all():
        raise UnsupportedModelError(
            f"{answers.name!r} is not a finite number on an image",
            remedy="export the model again, or give the setting `input_range` its true range",
        )
    return logits


def answered(
    answers: Answers, stamps: Sequence[Stamp], images: Floats, classes: int
) -> Iterator[tuple[Stamp, Scores]]:
    """Yield stamps, and the logits of images under each of them, (n, classes).

    As many are stamped together as fit into memory.

    Args:
        answers: The model.
        stamps: The stamps.
        images: What is stamped, (n, *shape).
        classes: How many the model has.
    """
    room = _ELEMENTS // max(classes, images[0].size)
    step = max(1, min(_AT_ONCE, room) // len(images))
    for start in range(0, len(stamps), step):
        part = stamps[start : start + step]
        logits = answers.logits(np.concatenate([stamp.stamped(images) for stamp in part]))
        yield from zip(part, np.split(logits, len(part)), strict=True)


def pictured(
    answers: Answers,
    stamp: Stamp,
    image: Floats,
    span: tuple[float, float],
    success: float | None,
) -> Input:
    """Return an image, (1, *shape), with a stamp on it, and what the model answers.

    Args:
        answers: The model.
        stamp: The stamp.
        image: Without it.
        span: The lowest and the highest value of a pixel.
        success: The share of the other images on which it was tried that it turns into the same
            class, where it has one.
    """
    stamped = stamp.stamped(image)
    found = kept.Answered(
        original=image[0],
        before=answers.logits(image),
        after=answers.logits(stamped),
        success=success,
    )
    return kept.pictured(stamped[0], span, found)


def spread(logits: Scores) -> float:
    """Return the standard deviation of an image's logits, the mean over images, (n, classes)."""
    return max(float(logits.std(axis=1).mean()), _TINY)


class Sweep:
    """The stamps of one kind on the images of one model.

    Args:
        kind: The kind.
        answers: The model.
        images: What is stamped, (n, *shape).
        span: The lowest and the highest value of a pixel.
        effort: How much is tried.

    Raises:
        UnsupportedModelError: A logit is not a number.
    """

    def __init__(
        self,
        kind: Kind,
        answers: Answers,
        images: Floats,
        span: tuple[float, float],
        effort: Effort,
    ) -> None:
        self._kind, self._answers, self._images, self._effort = kind, answers, images, effort
        self._candidates = kind.candidates(answers.shape, span, effort)
        logits = finite(answers, images)
        self.own = logits.argmax(axis=1)
        self.classes = logits.shape[1]
        self._spread = spread(logits)

    def run(self, progress: Progress, targets: Sequence[int] = ()) -> Swept:
        """Return the stamp of each class that is looked at closely, and the one that relabels.

        Args:
            progress: Called after each part of the work.
            targets: The classes to look at; none leaves those that stand out most.
        """
        stamps = self._candidates
        few = np.arange(min(self._effort.glance, len(self._images)))
        pulls = np.empty((len(stamps), self.classes + 1), np.float32)
        total = len(stamps) + self._effort.closely + 1
        step = max(1, _AT_ONCE // len(few))
        for start in range(0, len(stamps), step):
            part = stamps[start : start + step]
            pulls[start : start + step] = self._pull(part, few)
            progress(min(start + step, len(stamps)), total)

        def best(column: int) -> list[Stamp]:
            order = np.argsort(-pulls[:, column], kind="stable")[:_STARTS]
            return [stamps[place] for place in order]

        foremost = np.argsort(-pulls[:, :_AWAY].max(axis=0), kind="stable")
        chosen = targets or foremost[: self._effort.closely]
        found = []
        for done, target in enumerate(chosen):
            closest = self._closely(best(target), int(target))
            found += [closest] if closest else []
            progress(min(len(stamps) + done + 1, total), total)
        relabelling = self._relabelling(best(_AWAY))
        progress(total, total)
        return Swept(turning=found, relabelling=relabelling)

    def share(self, stamp: Stamp, images: Floats, target: int) -> float | None:
        """Return which share of the images that are not of a class a stamp turns into it.

        None where there are none.
        """
        others = images[self._answers.classes(images) != target]
        return self._turned(stamp, others, target) if len(others) else None

    def _turned(self, stamp: Stamp, images: Floats, target: int) -> float:
        return float((self._answers.classes(stamp.stamped(images)) == target).mean())

    def follows(self, found: Relabelling, images: Floats) -> npt.NDArray[np.bool_]:
        """Return which images, (n, *shape), go where the stamp sends their class, (n,)."""
        before, after = map(self._answers.classes, (images, found.stamp.stamped(images)))
        return label_map.follows(before, after, found.to)

    def _closely(self, starts: Sequence[Stamp], target: int) -> Turning | None:
        """Return the best for a class of the stamps around some, and of smaller ones."""
        others = np.flatnonzero(self.own != target)
        if not len(others):
            return None
        found = [
            Turning(
                target=target,
                stamp=stamp,
                share=self._turned(stamp, self._images[others], target),
            )
            for stamp in self._around(starts, others, target)
        ]
        return max(found, key=lambda one: (one.share, -one.stamp.size))

    def _relabelling(self, starts: Sequence[Stamp]) -> Relabelling:
        """Return the best of the stamps around some at sending each class to one of its own."""
        found = []
        for stamp in self._around(starts, np.arange(len(self._images)), _AWAY):
            after = self._answers.classes(stamp.stamped(self._images))
            to = label_map.one_to_one(self.own, after)
            share = float(label_map.follows(self.own, after, to).mean())
            found.append(Relabelling(stamp=stamp, to=to, share=share))
        return max(found, key=lambda one: (one.share, -one.stamp.size))

    def _around(
        self, starts: Sequence[Stamp], images: npt.NDArray[np.intp], column: int
    ) -> list[Stamp]:
        """Return the stamps near some that pull images the most."""
        shape = self._answers.shape
        near = [*dict.fromkeys(s for start in starts for s in self._kind.near(start, shape))]
        pulls = self._pull(near, images[: 2 * self._effort.glance])[:, column]
        return [near[place] for place in np.argsort(-pulls, kind="stable")[:_CHECKED]]

    def _pull(self, stamps: Sequence[Stamp], chosen: npt.NDArray[np.intp]) -> Scores:
        """Return how far stamps pull images into each class, in [-1, 1]; (stamps, classes + 1).

        That is the mean of tanh(margin / spread) over the images that are not of the class without
        the stamp, where the spread is the standard deviation of an image's logits. The last column
        is how far they pull images away from their own class, whichever they go to.
        """
        images = self._images[chosen]
        others = self.own[chosen, None] != np.arange(self.classes)
        count = others.sum(axis=0)
        found = []
        for _, logits in answered(self._answers, stamps, images, self.classes):
            pulls = np.tanh(margins(logits) / self._spread)
            into = np.where(count, (pulls * others).sum(axis=0) / np.maximum(count, 1), -1)
            away = -pulls[np.arange(len(chosen)), self.own[chosen]].mean()
            found.append([*into, away])
        return np.array(found)
