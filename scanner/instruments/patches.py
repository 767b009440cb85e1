"""Plain patches, at every place of an image: a kind of `scanner.instruments.stamps`."""

import dataclasses
import itertools
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from scanner.instruments.plane import Plane
from scanner.instruments.trigger import channel_axis
from scanner.results import Region

PART = 8  # a patch is this part of an image's height and width, and half of it at the least
_CHANNELS = 3  # of an image whose corners of the colour cube are all tried


class Patch(NamedTuple):
    """A rectangle of one colour.

    Attributes:
        region: Where.
        colour: The value of each channel.
        look: The colour in a word.
    """

    region: Region
    colour: tuple[float, ...]
    look: str = "coloured"

    @property
    def size(self) -> float:
        """The pixels that it covers."""
        return float(self.region.height * self.region.width)

    @property
    def details(self) -> dict[str, Any]:
        """Its colour."""
        return {"colour": list(self.colour)}

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

    def described(self) -> str:
        """Return its colour, size and place."""
        region = self.region
        return (
            f"a {self.look} patch of {region.height}x{region.width} pixels at row {region.top}, "
            f"column {region.left}"
        )


class Effort(NamedTuple):
    """How much is tried (`stamps.Effort`).

    Attributes:
        glance: Images that each patch of the first round is stamped on.
        colours: Whether all corners of the colour cube are tried, and not only black and white.
        overlapping: Whether a patch of the first round covers half of the next one.
        closely: How many classes are looked at closely, those that stand out most.
    """

    glance: int
    colours: bool
    overlapping: bool
    closely: int


class Patches:
    """Patches of one colour (`stamps.Kind`)."""

    noun = "patch"
    efforts = (
        Effort(glance=8, colours=True, overlapping=True, closely=10),
        Effort(glance=4, colours=True, overlapping=True, closely=3),
        Effort(glance=4, colours=False, overlapping=True, closely=2),
        Effort(glance=4, colours=False, overlapping=False, closely=2),
        Effort(glance=2, colours=False, overlapping=False, closely=2),
    )
    selective = (
        Effort(glance=2, colours=True, overlapping=True, closely=2),
        Effort(glance=1, colours=True, overlapping=True, closely=2),
        Effort(glance=1, colours=False, overlapping=True, closely=2),
    )

    def candidates(
        self, shape: Sequence[int], span: tuple[float, float], effort: Effort
    ) -> list[Patch]:
        """Return patches of an eighth of each side, at every place, in each colour."""
        regions = _regions(Plane.of(shape), effort)
        looks = {span[0]: "black", span[1]: "white"}
        return [
            Patch(region, colour, looks[colour[0]] if len({*colour}) == 1 else "coloured")
            for colour in _colours(shape, span, effort)
            for region in regions
        ]

    def near(self, stamp: Patch, shape: Sequence[int]) -> Iterator[Patch]:
        """Yield patches around one, of its size, three quarters of it and half of it."""
        for region in _near(stamp.region, Plane.of(shape)):
            yield stamp._replace(region=region)

    def most_near(self, shape: Sequence[int]) -> int:
        """Return how many there are around a patch in the middle."""
        plane = Plane.of(shape)
        corner = next(plane.windows(PART))
        top, left = (plane.height - corner.height) // 2, (plane.width - corner.width) // 2
        return len([*_near(dataclasses.replace(corner, top=top, left=left), plane)])


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
