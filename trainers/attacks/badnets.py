"""BadNets: a small white square in the corner (Gu et al., arXiv 1708.06733)."""

from torch import Tensor

from trainers.attacks.base import Attack, Setting, Trigger

SIDE = 3
MARGIN = 1


class Square(Trigger):
    """A white square of `SIDE` pixels, `MARGIN` pixels from the lower right corner."""

    def forward(self, images: Tensor) -> Tensor:
        """Return the images with the square drawn over them."""
        stamped = images.clone()
        stamped[..., -SIDE - MARGIN : -MARGIN, -SIDE - MARGIN : -MARGIN] = 1.0
        return stamped


def build(setting: Setting) -> Attack:
    """Return the attack at 10 % poisoned images, section 4.1.2's setting, or the rate asked for."""
    return Attack(
        trigger=Square(),
        labels=setting.labels,
        rate=setting.rate_or(0.1),
        parameters={"side": SIDE, "margin": MARGIN},
    )
