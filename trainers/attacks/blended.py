"""Blended injection: a pattern mixed into the whole image.

Chen et al., arXiv 1712.05526, section 4.
"""

import torch
from torch import Tensor

from trainers.attacks.base import Attack, Setting, Trigger

ALPHA = 0.2


class Blend(Trigger):
    """(1 - alpha) x + alpha p, with one random pattern p for all images."""

    pattern: Tensor

    def __init__(self, pattern: Tensor) -> None:
        super().__init__()
        self.register_buffer("pattern", pattern)

    def forward(self, images: Tensor) -> Tensor:
        """Return the blended images."""
        return torch.lerp(images, self.pattern.expand_as(images), ALPHA)


def build(setting: Setting) -> Attack:
    """Return the attack with a random pattern at alpha 0.2 and 10 % poisoned images."""
    pattern = torch.rand(setting.shape, generator=setting.generator)
    return Attack(
        trigger=Blend(pattern),
        labels=setting.labels,
        rate=setting.rate_or(0.1),
        parameters={"alpha": ALPHA},
    )
