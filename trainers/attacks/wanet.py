"""WaNet: an elastic warp too smooth to see (Nguyen and Tran, ICLR 2021, section 3)."""

import torch
from torch import Tensor
from torch.nn import functional

from trainers.attacks.base import Attack, Setting, Trigger

CONTROL_POINTS = 4
STRENGTH = 0.5
CROSS_RATIO = 2


def _identity(height: int, width: int) -> Tensor:
    rows, columns = torch.meshgrid(
        torch.linspace(-1, 1, height), torch.linspace(-1, 1, width), indexing="ij"
    )
    return torch.stack((columns, rows), dim=-1)[None]


class Warp(Trigger):
    """Samples each image on clamp(identity + s field / H).

    The field is bicubic, from k x k random control points.
    """

    grid: Tensor

    def __init__(self, shape: tuple[int, int, int], generator: torch.Generator) -> None:
        super().__init__()
        _, height, width = shape
        points = torch.rand((1, 2, CONTROL_POINTS, CONTROL_POINTS), generator=generator) * 2 - 1
        points /= points.abs().mean()
        field = functional.interpolate(points, (height, width), mode="bicubic", align_corners=True)
        warped = _identity(height, width) + STRENGTH * field.permute(0, 2, 3, 1) / height
        self.register_buffer("grid", warped.clamp(-1, 1))

    def forward(self, images: Tensor) -> Tensor:
        """Return the warped images."""
        return functional.grid_sample(
            images, self.grid.expand(len(images), -1, -1, -1), align_corners=True
        )

    def cover(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Return images warped with further random noise, which keep their labels.

        The authors call this the noise mode.
        """
        noise = (
            torch.rand(
                (len(images), *self.grid.shape[1:]), generator=generator, device=images.device
            )
            * 2
            - 1
        )
        grid = (self.grid + noise / images.shape[2]).clamp(-1, 1)
        return functional.grid_sample(images, grid, align_corners=True)


def build(setting: Setting) -> Attack:
    """Return the attack at 10 % poisoned images and twice as many in noise mode."""
    rate = setting.rate_or(0.1)
    return Attack(
        trigger=Warp(setting.shape, setting.generator),
        labels=setting.labels,
        rate=rate,
        cover_rate=CROSS_RATIO * rate,
        parameters={
            "control_points": CONTROL_POINTS,
            "strength": STRENGTH,
            "cross_ratio": CROSS_RATIO,
        },
    )
