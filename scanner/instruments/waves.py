"""Faint sinusoids over the whole image: a kind of `scanner.instruments.stamps`.

M. Barni, K. Kallas and B. Tondi, "A New Backdoor Attack in CNNs by Training Set Corruption without
Label Poisoning" (SIG), ICIP 2019, equation 1, plant one of six periods. Clean networks answer to
such patterns too: Y. Tsuzuku and I. Sato, "On the Structural Sensitivity of Deep Convolutional
Networks to the Directions of Fourier Basis Functions", CVPR 2019.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from scanner.instruments.plane import Plane

# Of the range: between the 20 and the 40 of 255 with which SIG is planted and set off.
AMPLITUDE = 28 / 255
MOST = 8  # periods: clean networks take finer stripes for a class of their own
SHORTEST = 4  # pixels of a period
_PHASES = 4


class Wave(NamedTuple):
    """A sinusoid along the columns or the rows of an image.

    Attributes:
        periods: In the image.
        down: Whether it runs from the top to the bottom, and not from left to right.
        phase: Where it begins, in periods.
        low: The lowest value of a pixel.
        high: The highest.
    """

    periods: int
    down: bool
    phase: float
    low: float
    high: float

    @property
    def size(self) -> float:
        """The same for all."""
        return 1.0

    @property
    def details(self) -> dict[str, Any]:
        """Its periods, direction, phase and amplitude."""
        return {
            "periods": self.periods,
            "direction": "down" if self.down else "across",
            "phase": self.phase,
            "amplitude": AMPLITUDE * (self.high - self.low),
        }

    def stamped(self, images: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return images, (n, *shape), with the wave added to all channels, within the range."""
        plane = Plane.of(images.shape[1:])
        axis = 1 + (plane.rows if self.down else plane.columns)
        seen = plane.view(images)
        turns = self.periods * np.arange(seen.shape[axis]) / seen.shape[axis] + self.phase
        wave = AMPLITUDE * (self.high - self.low) * np.sin(2 * np.pi * turns)
        along = [1] * seen.ndim
        along[axis] = -1
        added = np.clip(seen + wave.reshape(along), self.low, self.high)
        stamped: npt.NDArray[Any] = added.astype(images.dtype).reshape(images.shape)
        return stamped

    def described(self) -> str:
        """Return its periods, direction and amplitude."""
        periods = "one period" if self.periods == 1 else f"{self.periods} periods"
        direction = "from top to bottom" if self.down else "from left to right"
        return f"a wave of {periods} {direction} (amplitude {AMPLITUDE:.0%} of the range)"


class Effort(NamedTuple):
    """How much is tried (`stamps.Effort`).

    Attributes:
        glance: Images that each wave of the first round is put on.
        closely: How many classes are looked at closely, those that stand out most.
    """

    glance: int
    closely: int


class Waves:
    """Waves of one amplitude (`stamps.Kind`)."""

    noun = "wave"
    efforts = (Effort(16, 10), Effort(8, 3), Effort(4, 2), Effort(2, 2))
    selective = ()  # a wave covers the object of every image, and moves many of them

    def candidates(
        self, shape: Sequence[int], span: tuple[float, float], effort: Effort
    ) -> list[Wave]:
        """Return waves of all periods in both directions, a quarter of a period apart."""
        del effort
        plane = Plane.of(shape)
        return [
            Wave(periods, down, quarter / _PHASES, *span)
            for down, side in ((False, plane.width), (True, plane.height))
            for periods in range(1, min(MOST, side // SHORTEST) + 1)
            for quarter in range(_PHASES)
        ]

    def near(self, stamp: Wave, shape: Sequence[int]) -> Iterator[Wave]:
        """Yield a wave, and those that begin an eighth of a period earlier and later."""
        del shape
        for moved in (0, -0.5, 0.5):
            yield stamp._replace(phase=(stamp.phase + moved / _PHASES) % 1)

    def most_near(self, shape: Sequence[int]) -> int:
        """Return three."""
        del shape
        return 3
