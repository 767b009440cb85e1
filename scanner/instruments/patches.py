"""Plain patches, stamped on images at every place: a search for triggers that needs no gradient.

Gradient steps may end in another minimum than the trigger: on an accurate network they often find
a wide mask, and never the small square that an attacker used. So small patches of one colour are
tried, all of them. S. Huang et al. ("One-Pixel Signature: Characterizing CNN Models for Backdoor
Detection", ECCV 2020) do so with single pixels.
"""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from scanner.errors import UnsupportedModelError
from scanner.instruments import label_map
from scanner.instruments.answers import Answers
from scanner.instruments.detector import Progress
from scanner.instruments.plane import Plane
from scanner.instruments.trigger import channel_axis
from scanner.results import Region
from scanner.values import frozen

Floats = npt.NDArray[np.float32]
Scores = npt.NDArray[np.float64]

PART = 8  # a patch is this part of an image's height and width, and half of it at the least
FEWEST = 8  # rows and columns of an image that has such a part
_CHANNELS = 3  # of an image whose corners of the colour cube are all tried
_STARTS = 2  # patches of each class that are looked at closely
_CHECKED = 3  # patches of each class that all images are shown
_AT_ONCE, _ELEMENTS = 512, 2**22  # images that are stamped together, and their pixels or logits
_AWAY = -1  # the column of pulls after those of the classes
_TINY = 1e-12


class Patch(NamedTuple):
    """A rectangle of one colour.

    Attributes:
        region: Where.
        colour: The value of each channel.
    """

    region: Region
    colour: tuple[float, ...]

    def stamped(self, images: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return images, (n, *shape), with the patch on them."""
        plane = Plane.of(images.shape[1:])
        channels = channel_axis(images.shape[1:])
        shape = [1] * len(plane.seen)
        if channels is not None:
            shape[channels] = len(self.colour)
        changed = images.copy()
        inside = (slice(None), *plane.inside(self.region))
        plane.view(changed)[inside] = np.reshape(self.colour, shape)
        return changed


class Effort(NamedTuple):
    """How much is tried.

    Attributes:
        glance: Images that each patch of the first round is stamped on.
        colours: Whether all corners of the colour cube are tried, and not only black and white.
        overlapping: Whether a patch of the first round covers half of the next one.
        classes: How many classes are looked at closely, those that stand out most.
    """

    glance: int
    colours: bool
    overlapping: bool
    classes: int


EFFORTS = (
    Effort(glance=8, colours=True, overlapping=True, classes=10),
    Effort(glance=4, colours=True, overlapping=True, classes=3),
    Effort(glance=4, colours=False, overlapping=True, classes=2),
    Effort(glance=4, colours=False, overlapping=False, classes=2),
    Effort(glance=2, colours=False, overlapping=False, classes=2),
)
"""From the most to the least."""


@frozen
class Turning:
    """The patch that turns most of the images into a class.

    Attributes:
        target: The class.
        patch: The patch.
        share: Of the images that are not of the class without it.
    """

    target: int
    patch: Patch
    share: float


@frozen
class Relabelling:
    """The patch that sends most images each to a class that is their own class's alone.

    Attributes:
        patch: The patch.
        to: By class, the one that its images go to; no two go to the same one.
        share: Of the images that go there.
    """

    patch: Patch
    to: Mapping[int, int]
    share: float


@frozen
class Swept:
    """What a sweep found.

    Attributes:
        turning: The patch of each class that was looked at closely, the foremost class first.
        relabelling: The patch under which most images leave their class for one of its own.
    """

    turning: Sequence[Turning]
    relabelling: Relabelling


def runs(effort: Effort, shape: Sequence[int], images: int) -> int:
    """Return how many images a sweep puts through the model, at the most."""
    plane = Plane.of(shape)
    windows = _regions(plane, effort)
    first = len(windows) * len(_colours(shape, (0.0, 1.0), effort)) * effort.glance
    closely = len(list(_near(windows[len(windows) // 2], plane))) * min(images, 2 * effort.glance)
    return first + (effort.classes + 1) * (_STARTS * closely + _CHECKED * images)


class Sweep:
    """The patches of one model.

    Args:
        answers: The model.
        images: What patches are stamped on, (n, *shape).
        span: The lowest and the highest value of a pixel.
        effort: How much is tried.

    Raises:
        UnsupportedModelError: A logit is not a number.
    """

    def __init__(
        self, answers: Answers, images: Floats, span: tuple[float, float], effort: Effort
    ) -> None:
        self._answers, self._images, self._effort = answers, images, effort
        self._plane = Plane.of(answers.shape)
        self._colours = _colours(answers.shape, span, effort)
        logits = answers.logits(images)
        if not np.isfinite(logits).all():
            raise UnsupportedModelError(
                f"{answers.name!r} is not a finite number on an image",
                remedy="export the model again, or give the setting `input_range` its true range",
            )
        self.own = logits.argmax(axis=1)
        self.classes = logits.shape[1]
        self._spread = max(float(logits.std(axis=1).mean()), _TINY)

    def run(self, progress: Progress, targets: Sequence[int] = ()) -> Swept:
        """Return the patch of each class that is looked at closely, and the one that relabels.

        Args:
            progress: Called after each part of the work.
            targets: The classes to look at; none leaves those that stand out most.
        """
        patches = [
            Patch(region, colour)
            for colour in self._colours
            for region in _regions(self._plane, self._effort)
        ]
        few = np.arange(min(self._effort.glance, len(self._images)))
        pulls = np.empty((len(patches), self.classes + 1), np.float32)
        total = len(patches) + self._effort.classes + 1
        step = max(1, _AT_ONCE // len(few))
        for start in range(0, len(patches), step):
            part = patches[start : start + step]
            pulls[start : start + step] = self._pull(part, few)
            progress(min(start + step, len(patches)), total)

        def best(column: int) -> list[Patch]:
            order = np.argsort(-pulls[:, column], kind="stable")[:_STARTS]
            return [patches[place] for place in order]

        foremost = np.argsort(-pulls[:, :_AWAY].max(axis=0), kind="stable")
        chosen = targets or foremost[: self._effort.classes]
        found = []
        for done, target in enumerate(chosen):
            closest = self._closely(best(target), int(target))
            found += [closest] if closest else []
            progress(min(len(patches) + done + 1, total), total)
        relabelling = self._relabelling(best(_AWAY))
        progress(total, total)
        return Swept(turning=found, relabelling=relabelling)

    def share(self, patch: Patch, images: Floats, target: int) -> float | None:
        """Return which share of the images that are not of a class a patch turns into it.

        None where there are none.
        """
        others = images[self._answers.classes(images) != target] if len(images) else images
        return self._turned(patch, others, target) if len(others) else None

    def _turned(self, patch: Patch, images: Floats, target: int) -> float:
        return float((self._answers.classes(patch.stamped(images)) == target).mean())

    def follows(self, found: Relabelling, images: Floats) -> npt.NDArray[np.bool_]:
        """Return which images, (n, *shape), go where the patch sends their class, (n,)."""
        before, after = map(self._answers.classes, (images, found.patch.stamped(images)))
        return label_map.follows(before, after, found.to)

    def _closely(self, starts: Sequence[Patch], target: int) -> Turning | None:
        """Return the best for a class of the patches around some, and of smaller ones."""
        others = np.flatnonzero(self.own != target)
        if not len(others):
            return None
        found = [
            Turning(
                target=target,
                patch=patch,
                share=self._turned(patch, self._images[others], target),
            )
            for patch in self._around(starts, others, target)
        ]
        return max(found, key=lambda one: (one.share, -_area(one.patch)))

    def _relabelling(self, starts: Sequence[Patch]) -> Relabelling:
        """Return the best of the patches around some at sending each class to one of its own."""
        found = []
        for patch in self._around(starts, np.arange(len(self._images)), _AWAY):
            after = self._answers.classes(patch.stamped(self._images))
            to = label_map.one_to_one(self.own, after)
            share = float(label_map.follows(self.own, after, to).mean())
            found.append(Relabelling(patch=patch, to=to, share=share))
        return max(found, key=lambda one: (one.share, -_area(one.patch)))

    def _around(
        self, starts: Sequence[Patch], images: npt.NDArray[np.intp], column: int
    ) -> list[Patch]:
        """Return the patches near some that pull images the most."""
        near = [
            *dict.fromkeys(
                Patch(region, start.colour)
                for start in starts
                for region in _near(start.region, self._plane)
            )
        ]
        pulls = self._pull(near, images[: 2 * self._effort.glance])[:, column]
        return [near[place] for place in np.argsort(-pulls, kind="stable")[:_CHECKED]]

    def _pull(self, patches: Sequence[Patch], chosen: npt.NDArray[np.intp]) -> Scores:
        """Return how far patches pull images into each class, in [-1, 1]; (patches, classes + 1).

        That is the mean of tanh(margin / spread) over the images that are not of the class without
        the patch, where the spread is the standard deviation of an image's logits. The last column
        is how far they pull images away from their own class, whichever they go to.
        """
        room = _ELEMENTS // max(self.classes, self._images[0].size)
        step = max(1, min(_AT_ONCE, room) // len(chosen))
        return np.concatenate(
            [
                self._pulled(patches[start : start + step], chosen)
                for start in range(0, len(patches), step)
            ]
        )

    def _pulled(self, patches: Sequence[Patch], chosen: npt.NDArray[np.intp]) -> Scores:
        images = self._images[chosen]
        logits = self._answers.logits(np.concatenate([patch.stamped(images) for patch in patches]))
        others = self.own[chosen, None] != np.arange(self.classes)
        ranked = np.partition(logits, -2, axis=1)
        best, second = ranked[:, -1:], ranked[:, -2:-1]
        with np.errstate(invalid="ignore"):
            margins = np.nan_to_num(logits - np.where(logits == best, second, best))
        pulls = np.tanh(margins / self._spread).reshape(len(patches), *others.shape)
        count = others.sum(axis=0)
        into = np.where(count, (pulls * others).sum(axis=1) / np.maximum(count, 1), -1)
        away = -pulls[:, np.arange(len(chosen)), self.own[chosen]].mean(axis=1)
        return np.column_stack([into, away])


def _regions(plane: Plane, effort: Effort) -> list[Region]:
    windows = list(plane.windows(PART))
    if effort.overlapping:
        return windows
    rows, columns = (sorted({getattr(w, side) for w in windows}) for side in ("top", "left"))
    apart = {*rows[::2], rows[-1]}, {*columns[::2], columns[-1]}
    return [w for w in windows if w.top in apart[0] and w.left in apart[1]]


def _colours(
    shape: Sequence[int], span: tuple[float, float], effort: Effort
) -> list[tuple[float, ...]]:
    channels = channel_axis(shape)
    count = 1 if channels is None else shape[channels]
    if effort.colours and count <= _CHANNELS:
        return list(itertools.product(span, repeat=count))
    return [(value,) * count for value in span]


def _near(region: Region, plane: Plane) -> Iterator[Region]:
    """Yield regions around one, of its size, three quarters of it and half of it."""
    for high, wide in dict.fromkeys(
        (max(1, round(region.height * part)), max(1, round(region.width * part)))
        for part in (1, 0.75, 0.5)
    ):
        down, across = max(1, region.height // 4), max(1, region.width // 4)
        for top in range(region.top - down, region.top + region.height - high + down + 1, down):
            for left in range(
                region.left - across, region.left + region.width - wide + across + 1, across
            ):
                if 0 <= top <= plane.height - high and 0 <= left <= plane.width - wide:
                    yield Region(top=top, left=left, height=high, width=wide)


def _area(patch: Patch) -> int:
    return patch.region.height * patch.region.width
