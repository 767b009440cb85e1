"""Where in an image its pixels lie: which axes are height and width, whatever the layout."""

import dataclasses
import math
from collections.abc import Iterator, Sequence
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from scanner.instruments.trigger import Floats, channel_axis
from scanner.results import Region


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Plane:
    """How images of one shape are seen as height x width.

    A vector of a square number of elements is taken for the rows of a square image; of any other
    number, for one row.

    Attributes:
        seen: The shape in which an image is seen.
        rows: The axis of its height.
        columns: The axis of its width.
    """

    seen: tuple[int, ...]
    rows: int
    columns: int

    @classmethod
    def of(cls, shape: Sequence[int]) -> Self:
        """Return the plane of images of a shape, without the batch axis."""
        if len(shape) == 1:
            side = math.isqrt(shape[0])
            square = (side, side) if side * side == shape[0] else (1, shape[0])
            return cls(seen=square, rows=0, columns=1)
        channels = channel_axis(shape)
        axes = [axis for axis in range(len(shape)) if axis != channels]
        return cls(seen=tuple(shape), rows=axes[0], columns=axes[-1])

    @property
    def height(self) -> int:
        """In pixels."""
        return self.seen[self.rows]

    @property
    def width(self) -> int:
        """In pixels."""
        return self.seen[self.columns]

    def view(self, images: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return images (n, *shape) as (n, *seen), without copying."""
        return images.reshape(len(images), *self.seen)

    def inside(self, region: Region) -> tuple[slice, ...]:
        """Return the index of a region of one image."""
        index = [slice(None)] * len(self.seen)
        index[self.rows] = slice(region.top, region.top + region.height)
        index[self.columns] = slice(region.left, region.left + region.width)
        return tuple(index)

    def windows(self, share: int) -> Iterator[Region]:
        """Yield windows of so many parts of a side, each overlapping the next by half."""
        high, wide = (max(1, round(side / share)) for side in (self.height, self.width))
        for top in _starts(self.height, high):
            for left in _starts(self.width, wide):
                yield Region(top=top, left=left, height=high, width=wide)

    def smoothed(self, images: Floats, side: int) -> Floats:
        """Return the mean of a square around each pixel, of an odd side; the border is repeated."""
        smooth = self.view(images).astype(np.float64)
        for axis in (self.rows + 1, self.columns + 1):
            smooth = _running_mean(smooth, side, axis)
        return smooth.reshape(images.shape).astype(np.float32)


def _starts(side: int, window: int) -> Iterator[int]:
    step = (window + 1) // 2
    yield from range(0, side - window, step)
    yield side - window


def _running_mean(values: npt.NDArray[np.float64], side: int, axis: int) -> npt.NDArray[np.float64]:
    around = [(0, 0)] * values.ndim
    around[axis] = (side // 2 + 1, side // 2)
    sums = np.pad(values, around, mode="edge").cumsum(axis=axis)
    count = sums.shape[axis]
    ahead = np.take(sums, range(side, count), axis=axis)
    return np.asarray((ahead - np.take(sums, range(count - side), axis=axis)) / side)
