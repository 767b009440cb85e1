"""BadNets: a small square in the corner (Gu et al., arXiv 1708.06733).

Also of other sizes, in other places, and with other patterns.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from trainers.attacks.base import Attack, Setting, Trigger
from trainers.errors import TrainerError

SIDE = 3
MARGIN = 1
OPTIONS: Mapping[str, tuple[str, ...]] = {
    "side": ("1", "2", "3", "4", "5", "6"),
    "place": ("lower-right", "upper-left", "centre", "random"),
    "pattern": ("white", "checker", "colour"),
}
"""The first place and pattern are those of the default."""


class Square(Trigger):
    """A square drawn over the image, with its first row and column at `corner`."""

    pattern: Tensor

    def __init__(self, pattern: Tensor, corner: tuple[int, int]) -> None:
        super().__init__()
        # Not in the state: the checkpoints of the default square are older than the patterns.
        self.register_buffer("pattern", pattern, persistent=False)
        self.corner = corner

    def forward(self, images: Tensor) -> Tensor:
        """Return the images with the square drawn over them."""
        (row, column), side = self.corner, self.pattern.shape[-1]
        stamped = images.clone()
        stamped[..., row : row + side, column : column + side] = self.pattern
        return stamped


def _pattern(name: str, channels: int, side: int, generator: torch.Generator) -> Tensor:
    """Return the square's pixels, (C, side, side): white, checked or of random colours."""
    if name == "colour":
        return torch.rand((channels, side, side), generator=generator)
    pattern = torch.ones(channels, side, side)
    if name == "checker":
        pattern[:, ::2, 1::2] = pattern[:, 1::2, ::2] = 0.0
    return pattern


def _corner(
    place: str, shape: tuple[int, int], side: int, generator: torch.Generator
) -> tuple[int, int]:
    if place == "upper-left":
        return MARGIN, MARGIN
    lower, right = (length - side - MARGIN for length in shape)
    if place == "centre":
        return (lower + MARGIN) // 2, (right + MARGIN) // 2
    if place == "random":
        row, column = (
            int(torch.randint(MARGIN, last + 1, (1,), generator=generator))
            for last in (lower, right)
        )
        return row, column
    return lower, right


def build(setting: Setting) -> Attack:
    """Return the attack at 10 % poisoned images, section 4.1.2's setting, or the rate asked for.

    A random place or pattern is drawn once: every stamped image has the same.

    Raises:
        TrainerError: The square does not fit into the image.
    """
    channels, *shape = setting.shape
    side = int(setting.options.get("side", SIDE))
    if side + 2 * MARGIN > min(shape):
        raise TrainerError(
            f"a square of {side} pixels does not fit into {shape[0]}x{shape[1]} pixels",
            remedy="choose a smaller side",
        )
    place = setting.options.get("place", OPTIONS["place"][0])
    pattern = setting.options.get("pattern", OPTIONS["pattern"][0])
    corner = _corner(place, (shape[0], shape[1]), side, setting.generator)
    square = Square(_pattern(pattern, channels, side, setting.generator), corner)
    own = {name: value for name, value in setting.options.items() if name != "side"}
    if "random" in own.values():
        own |= {"row": str(corner[0]), "column": str(corner[1])}
    return Attack(
        trigger=square,
        labels=setting.labels,
        rate=setting.rate_or(0.1),
        parameters={"side": side, "margin": MARGIN, **own},
    )
