"""A trigger to be found by gradient descent: a mask, shared over channels, and a pattern.

Source: B. Wang et al., "Neural Cleanse: Identifying and Mitigating Backdoor Attacks in Neural
Networks", IEEE S&P 2019, section IV, and the authors' code.
"""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]

LEARNING_RATE = 0.1  # Adam, as in the authors' code, with these decay rates
BETAS = (0.5, 0.9)
FIRST_COST = 1e-3  # lambda, once it is raised from 0
PATIENCE = 5  # steps of success, or of failure, before lambda changes
COST_UP = 2.0
COST_DOWN = 2.0**1.5
SMALLER = 0.999  # relative: a smaller gain is none
TINY = 1e-8  # epsilon of Adam
# Where a search may begin: not so far out that tanh has no slope left.
_WITHIN_MASK, _WITHIN_PATTERN = (0.02, 0.9), (0.05, 0.95)
_MASK_START = -2.0  # (tanh(-2) + 1) / 2: a mask of 0.02 everywhere, so that it grows where it helps


class FreeTrigger:
    """A mask m = (tanh a + 1)/2, and a pattern p = low + (high - low) (tanh b + 1)/2.

    a and b are free: whatever they are, the mask stays in [0, 1] and the pattern in the input's
    range.

    Attributes:
        mask: m, of an image's shape with one channel.
        pattern: p, of an image's shape.
        free_mask: a.
        free_pattern: b.
    """

    def __init__(
        self, shape: Sequence[int], low: float, high: float, generator: np.random.Generator
    ) -> None:
        self._low, self._width = low, high - low
        self._channels = channel_axis(shape)
        mask_shape = tuple(1 if axis == self._channels else n for axis, n in enumerate(shape))
        self.free_mask = _MASK_START + 0.1 * generator.standard_normal(mask_shape, dtype=np.float32)
        self.free_pattern = 0.5 * generator.standard_normal(tuple(shape), dtype=np.float32)
        self._adam = (Adam(self.free_mask), Adam(self.free_pattern))
        self._read()

    def descend(self, images: Floats, gradient: Floats, cost: float) -> None:
        """Take one step of Adam down the mean loss of stamped images plus `cost` |m|_1.

        Args:
            images: Before they are stamped, shape (n, *shape).
            gradient: Of each image's loss by its stamped pixels, shape (n, *shape).
            cost: lambda, the price of one pixel.
        """
        slope_mask, slope_pattern = (
            1 - np.tanh(free) ** 2 for free in (self.free_mask, self.free_pattern)
        )
        by_mask = (gradient * (self.pattern - images)).mean(axis=0)
        if self._channels is not None:
            by_mask = by_mask.sum(axis=self._channels, keepdims=True)
        by_pattern = gradient.mean(axis=0) * self.mask
        self._adam[0].descend(self.free_mask, (by_mask + cost) * slope_mask / 2)
        self._adam[1].descend(self.free_pattern, by_pattern * slope_pattern * (self._width / 2))
        self._read()

    def begin(self, mask: Floats, pattern: Floats) -> None:
        """Start from a trigger that is known; the rest of the mask is as small as at first."""
        held = np.clip(mask, *_WITHIN_MASK)
        shares = np.clip((pattern - self._low) / self._width, *_WITHIN_PATTERN)
        self.free_mask[...] = np.arctanh(2 * held - 1)
        self.free_pattern[...] = np.arctanh(2 * shares - 1)
        self._read()

    def spread(self, share: float) -> None:
        """Make the mask a share of every pixel: a pattern that is blended into the whole image."""
        self.free_mask[...] = np.arctanh(2 * share - 1)
        self._read()

    def stamped(self, images: Floats) -> Floats:
        """Return images under the trigger."""
        return stamp(images, self.mask, self.pattern)

    def _read(self) -> None:
        self.mask, unit = ((np.tanh(free) + 1) / 2 for free in (self.free_mask, self.free_pattern))
        self.pattern = (self._low + self._width * unit).astype(np.float32)


@dataclasses.dataclass(slots=True)
class Price:
    """lambda, the price of a mask's pixel: 0 at first, up after successes, down after failures.

    Attributes:
        first: lambda, once it is raised from 0.
        cost: lambda now.
    """

    first: float = FIRST_COST
    cost: float = 0.0
    _successes: int = 0
    _failures: int = 0

    def follow(self, *, success: bool) -> None:
        """Take note of how a step ended."""
        self._successes, self._failures = (
            (self._successes + 1, 0) if success else (0, self._failures + 1)
        )
        if self._successes >= PATIENCE:
            self.cost, self._successes = self.cost * COST_UP or self.first, 0
        elif self._failures >= PATIENCE:
            self.cost, self._failures = self.cost / COST_DOWN, 0


@dataclasses.dataclass(slots=True)
class Smallest:
    """The smallest trigger that a search has found to work so far.

    Attributes:
        size: |m|_1 in pixels; infinite before the first.
        trigger: Its mask and pattern; None before the first.
        stale: Steps without a smaller one.
    """

    size: float = math.inf
    trigger: tuple[Floats, Floats] | None = None
    stale: int = 0

    def follow(self, tried: FreeTrigger, *, success: bool) -> None:
        """Take note of a trigger that was tried."""
        size = float(tried.mask.sum())
        self.stale += 1
        if success and size < self.size * SMALLER:
            self.size, self.trigger, self.stale = size, (tried.mask, tried.pattern), 0


class Adam:
    """Adam (Kingma and Ba 2015, algorithm 1) for one array, in place."""

    def __init__(self, parameter: Floats) -> None:
        self.first, self.second, self.time = np.zeros_like(parameter), np.zeros_like(parameter), 0

    def descend(self, parameter: Floats, gradient: Floats) -> None:
        """Take one step down the gradient."""
        self.time += 1
        self.first += (1 - BETAS[0]) * (gradient - self.first)
        self.second += (1 - BETAS[1]) * (gradient**2 - self.second)
        mean, square = (
            self.first / (1 - BETAS[0] ** self.time),
            self.second / (1 - BETAS[1] ** self.time),
        )
        parameter -= LEARNING_RATE * mean / (np.sqrt(square) + TINY)


def stamp(images: Floats, mask: Floats, pattern: Floats) -> Floats:
    """Return (1 - m) x + m p for images (n, *shape)."""
    return (images + mask * (pattern - images)).astype(np.float32, copy=False)


def channel_axis(shape: Sequence[int]) -> int | None:
    """Return the channel axis of one image: the first of three, or the last if only it is small."""
    if len(shape) != 3:  # noqa: PLR2004 - channels, height, width in some order
        return None
    few = (1, 3, 4)
    return 2 if shape[2] in few and shape[0] not in few else 0


def pixels(shape: Sequence[int]) -> float:
    """Return how many pixels an image has: the size of a mask that replaces all of it."""
    channels = channel_axis(shape)
    return float(math.prod(size for axis, size in enumerate(shape) if axis != channels))
