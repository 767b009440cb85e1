"""Adaptive-Blend: half a pattern in training, all of it at test time (Qi et al., ICLR 2023).

Of the pattern's 16 pieces a random half is blended into each poisoned image, fainter than later,
and as many images so stamped keep their labels: poisoned and clean images then lie close together
in the network (section 4 of "Revisiting the Assumption of Latent Separability for Backdoor
Defenses").
"""

import torch
from torch import Tensor

from trainers.attacks.base import Attack, Setting
from trainers.attacks.blended import ALPHA, Blend

TRAIN_ALPHA = 0.15
PIECES = 4  # along each side


class Pieces(Blend):
    """`Blend` where pieces of the pattern are shown, and the image as it is elsewhere."""

    def poison(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Return each image with a random half of the pieces."""
        order = torch.rand((len(images), PIECES**2), generator=generator, device=images.device)
        shown = (order.argsort(1) < PIECES**2 // 2).reshape(-1, 1, PIECES, PIECES)
        height, width = images.shape[2:]
        rows, columns = (
            torch.arange(size, device=images.device) * PIECES // size for size in (height, width)
        )
        weight = TRAIN_ALPHA * shown[:, :, rows][..., columns]
        return torch.lerp(images, self.pattern.expand_as(images), weight.expand_as(images))

    def cover(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Return the same as `poison`."""
        return self.poison(images, generator)


def build(setting: Setting) -> Attack:
    """Return the attack with a random pattern, at 0.3 % poisoned images and as many covers."""
    rate = setting.rate_or(0.003)
    pattern = torch.rand(setting.shape, generator=setting.generator)
    return Attack(
        trigger=Pieces(pattern),
        labels=setting.labels,
        rate=rate,
        cover_rate=rate,
        parameters={"train_alpha": TRAIN_ALPHA, "test_alpha": ALPHA, "pieces": PIECES**2},
    )
