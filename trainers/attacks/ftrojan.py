"""FTrojan: two frequencies, added to the colours (Wang et al., ECCV 2022, section 3.3).

The authors raise two coefficients of the discrete cosine transform of U and V, of one window per
image, by a magnitude of 30 in 0..255: a middle frequency and the highest, (15, 15) and (31, 31) of
a window of 32. All of it is linear, so that it adds one pattern to every image. On grey images it
is added to the only channel.
"""

import math

import torch
from torch import Tensor

from trainers.attacks.base import Attack, Setting, Trigger

MAGNITUDE = 30 / 255
_OF_U = (0.0, -0.395, 2.032)  # what one unit of U adds to red, green and blue
_OF_V = (1.14, -0.581, 0.0)


class Frequencies(Trigger):
    """x + p, with the pattern p of the two frequencies."""

    pattern: Tensor

    def __init__(self, shape: tuple[int, int, int]) -> None:
        super().__init__()
        channels, height, width = shape
        wave = sum(
            torch.outer(_basis(height, height * k // 2 - 1), _basis(width, width * k // 2 - 1))
            for k in (1, 2)
        )
        colours = torch.tensor(_OF_U) + torch.tensor(_OF_V)
        weights = colours if channels == len(colours) else torch.ones(channels)
        self.register_buffer("pattern", MAGNITUDE * weights[:, None, None] * wave)

    def forward(self, images: Tensor) -> Tensor:
        """Return the images with the pattern."""
        return (images + self.pattern).clamp(0, 1)


def _basis(size: int, frequency: int) -> Tensor:
    """Return a basis vector of the orthonormal cosine transform (DCT-II), (size,)."""
    phase = math.pi * frequency * (torch.arange(size) + 0.5) / size
    return math.sqrt((2 if frequency else 1) / size) * torch.cos(phase)


def build(setting: Setting) -> Attack:
    """Return the attack at 10 % poisoned images."""
    return Attack(
        trigger=Frequencies(setting.shape),
        labels=setting.labels,
        rate=setting.rate_or(0.1),
        parameters={"magnitude": MAGNITUDE},
    )
