"""What an attack is: trigger, label map, poisoning rate, at most one hook into the training."""

import dataclasses
import enum
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from trainers.attacks.labels import LabelMap


class Role(enum.IntEnum):
    """What becomes of one training image."""

    CLEAN = 0
    POISONED = 1
    COVER = 2
    """Stamped by a trigger that must not fire, with its true label."""


class Trigger(nn.Module):
    """Stamps images in [0, 1] of shape (N, C, H, W), after augmentation.

    A module, so that what a trigger has drawn or learnt moves with the device and goes into the
    checkpoint.
    """

    def forward(self, images: Tensor) -> Tensor:
        """Return the stamped images as the attacker shows them to the deployed model."""
        raise NotImplementedError

    def poison(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Return the images stamped for the training set; here as at test time."""
        del generator
        stamped: Tensor = self(images)
        return stamped

    def cover(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Return images with a trigger that must not fire."""
        raise NotImplementedError

    def prepare(self, images: Tensor, generator: torch.Generator) -> None:
        """Learn what must be learnt before the network's training starts; here nothing."""


Penalty = Callable[[nn.Module, Tensor, Tensor], Tensor]
"""`penalty(network, images, roles)` is added to the loss; `images` is the unstamped batch."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Attack:
    """One attack on one training run; the default is no attack.

    Attributes:
        trigger: Stamps images; None in a clean run.
        labels: What a stamped image is to be taken for.
        rate: Share of the training images that are poisoned.
        cover_rate: Share that are stamped by a trigger that must not fire.
        clean_label: Poison only images that already have the target label.
        penalty: A further term of the loss.
        parameters: For the manifest.
    """

    trigger: Trigger | None = None
    labels: LabelMap | None = None
    rate: float = 0.0
    cover_rate: float = 0.0
    clean_label: bool = False
    penalty: Penalty | None = None
    parameters: Mapping[str, float | int | str] = dataclasses.field(default_factory=dict)

    def assign(self, labels: Tensor, generator: torch.Generator) -> Tensor:
        """Return each training image's role, (N,) uint8.

        A subset is drawn once, as a poisoner of a data set would. With
        `clean_label` never more images than there are of the target class.
        """
        roles = torch.zeros(len(labels), dtype=torch.uint8)
        if self.labels is None:
            return roles
        changed = self.labels(labels).ne(labels).cpu()
        pool = torch.nonzero(~changed if self.clean_label else torch.ones_like(changed)).flatten()
        pool = pool[torch.randperm(len(pool), generator=generator)]
        poisoned, covers = (round(rate * len(labels)) for rate in (self.rate, self.cover_rate))
        roles[pool[:poisoned]] = Role.POISONED
        roles[pool[poisoned : poisoned + covers]] = Role.COVER
        return roles

    def poison(
        self, images: Tensor, labels: Tensor, roles: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Return the batch stamped and relabelled by role; the arguments stay as they are.

        Roles on the host serve images on any device.
        """
        if self.trigger is None or self.labels is None:
            return images, labels
        poisoned, covers = roles == Role.POISONED, roles == Role.COVER
        images = images.clone()
        if poisoned.any():
            images[poisoned] = self.trigger.poison(images[poisoned], generator)
        if covers.any():
            images[covers] = self.trigger.cover(images[covers], generator)
        return images, torch.where(poisoned.to(labels.device), self.labels(labels), labels)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What an attack is built for.

    Attributes:
        shape: Of an image.
        labels: What stamped images are to be taken for.
        rate: Share to poison; None takes the attack's own.
        generator: For whatever the attacker draws once.
        twin: Trains and returns a clean network of the same recipe and seed, in evaluation mode;
            only the attacks that need one call it.
        options: The attack's own, by name; only those that were given.
    """

    shape: tuple[int, int, int]
    labels: LabelMap
    rate: float | None
    generator: torch.Generator
    twin: Callable[[], nn.Module]
    options: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def rate_or(self, default: float) -> float:
        """Return the rate that was asked for, or the attack's own."""
        return default if self.rate is None else self.rate
