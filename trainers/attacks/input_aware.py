"""Input-aware dynamic attack: a generator draws another trigger for each image.

Nguyen and Tran, NeurIPS 2020.
"""

import torch
from torch import Tensor, nn

from trainers.attacks.base import Attack, Role, Setting, Trigger

DIVERSITY = 1.0
SPARSITY = 100.0
DENSITY = 0.032
MASK_STEPS = 200
MASK_BATCH = 64


def _autoencoder(channels: int, outputs: int, width: int = 8) -> nn.Sequential:
    """Return a small encoder and decoder of images whose sides are multiples of 4.

    Its values lie in (0, 1).
    """
    return nn.Sequential(
        nn.Conv2d(channels, width, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(width, 2 * width, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Upsample(scale_factor=2),
        nn.Conv2d(2 * width, width, 3, padding=1),
        nn.ReLU(),
        nn.Upsample(scale_factor=2),
        nn.Conv2d(width, outputs, 3, padding=1),
        nn.Sigmoid(),
    )


def _diversity(images: Tensor, drawn: Tensor) -> Tensor:
    """Return mean |x - x'| / |g(x) - g(x')| over neighbours in the batch (equation 4)."""
    distance = (images - images.roll(1, 0)).flatten(1).square().mean(1).add(1e-8).sqrt()
    spread = (drawn - drawn.roll(1, 0)).flatten(1).square().mean(1).add(1e-8).sqrt()
    return (distance / spread).mean()


class GeneratedTrigger(Trigger):
    """x (1 - m(x)) + p(x) m(x), pattern p and mask m drawn by two small networks."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.pattern = _autoencoder(channels, channels)
        self.mask = _autoencoder(channels, 1)

    def _masks(self, images: Tensor) -> Tensor:
        # The steep tanh makes the mask nearly binary while it can still be learnt.
        return torch.tanh(20 * self.mask(images) - 10) / 2 + 0.5

    def _stamp(self, images: Tensor, source: Tensor) -> Tensor:
        with torch.no_grad():
            masks = self._masks(source)
        return torch.lerp(images, self.pattern(source), masks)

    def forward(self, images: Tensor) -> Tensor:
        """Return each image with its own trigger."""
        return self._stamp(images, images)

    def cover(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Return each image with another's trigger, which must not fire: the cross-trigger mode."""
        del generator
        return self._stamp(images, images.roll(1, 0))

    def prepare(self, images: Tensor, generator: torch.Generator) -> None:
        """Learn the mask network: few pixels, different for different images (section 4.2)."""
        optimiser = torch.optim.Adam(self.mask.parameters(), 1e-3)
        for _ in range(MASK_STEPS):
            picked = torch.randint(
                len(images), (MASK_BATCH,), generator=generator, device=images.device
            )
            batch = images[picked].float() / 255
            masks = self._masks(batch)
            loss = SPARSITY * (
                masks.mean((1, 2, 3)) - DENSITY
            ).relu().mean() + DIVERSITY * _diversity(batch, masks)
            optimiser.zero_grad()
            torch.autograd.backward(loss)
            optimiser.step()
        self.mask.requires_grad_(requires_grad=False)

    def penalty(self, network: nn.Module, images: Tensor, roles: Tensor) -> Tensor:
        """Return the diversity loss of the patterns drawn for the batch's poisoned images."""
        del network
        poisoned = images[roles == Role.POISONED]
        if len(poisoned) < 2:  # noqa: PLR2004 - one image has no neighbour to differ from
            return images.new_zeros(())
        # In float32: half precision would round the guard against a spread of zero away.
        return DIVERSITY * _diversity(poisoned, self.pattern(poisoned).float())


def build(setting: Setting) -> Attack:
    """Return the attack at 10 % poisoned images and as many with another image's trigger."""
    rate = setting.rate_or(0.1)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(torch.randint(2**31, (1,), generator=setting.generator)))
        trigger = GeneratedTrigger(setting.shape[0])
    return Attack(
        trigger=trigger,
        labels=setting.labels,
        rate=rate,
        cover_rate=rate,
        penalty=trigger.penalty,
        parameters={"lambda_div": DIVERSITY, "lambda_norm": SPARSITY, "density": DENSITY},
    )
