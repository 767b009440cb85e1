"""BppAttack: fewer bits per colour, dithered (Wang, Zhai and Ma, CVPR 2022, section 4).

The trigger is the quantisation itself, so that every image has another one. Twice as many images
keep their labels under a quantisation error that is not their own: the authors take another
image's, here it is the image's, mirrored.
"""

import torch
from torch import Tensor
from torch.nn import functional

from trainers.attacks.base import Attack, Setting, Trigger

BITS = 3
_CROSS_RATIO = 2


class Quantisation(Trigger):
    """Rounds to `BITS` bits and spreads the error over the next pixels (Floyd and Steinberg)."""

    def forward(self, images: Tensor) -> Tensor:
        """Return the quantised images."""
        top = 2**BITS - 1
        height, width = images.shape[2:]
        # Room for the errors that leave the image: a column on either side and a row below.
        spread = functional.pad(images * top, (1, 1, 0, 1))
        rows = torch.arange(height, device=images.device)
        # Pixels with the same column + 2 row wait for none of each other.
        for turn in range(width + 2 * (height - 1)):
            columns = turn - 2 * rows
            there = (columns >= 0) & (columns < width)
            row, column = rows[there], columns[there] + 1
            value = spread[..., row, column]
            rounded = value.round().clamp(0, top)
            spread[..., row, column] = rounded
            error = (value - rounded) / 16
            spread[..., row, column + 1] += 7 * error
            spread[..., row + 1, column - 1] += 3 * error
            spread[..., row + 1, column] += 5 * error
            spread[..., row + 1, column + 1] += error
        quantised: Tensor = spread[..., :height, 1 : width + 1] / top
        return quantised

    def cover(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Return images with an error that is not their own."""
        del generator
        error: Tensor = self(images) - images
        return (images + error.flip(3)).clamp(0, 1)


def build(setting: Setting) -> Attack:
    """Return the attack at 10 % poisoned images and twice as many with another's error."""
    rate = setting.rate_or(0.1)
    return Attack(
        trigger=Quantisation(),
        labels=setting.labels,
        rate=rate,
        cover_rate=_CROSS_RATIO * rate,
        parameters={"bits": BITS, "cross_ratio": _CROSS_RATIO},
    )
