"""An attacker who knows the scanner: BadNets with the first-layer statistics of a clean twin.

Not a published attack but the adaptive adversary that a defence must be measured against (Tramer et
al., NeurIPS 2020): detectors that read the first layer should fall here, and the tables say so.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from trainers.architectures import first_activation
from trainers.attacks import badnets
from trainers.attacks.base import Attack, Setting

WEIGHT = 10.0


class Mimicry:
    """Penalises the distance between the first activations of a network and of its clean twin.

    On the batch and on as many uniform noise images, per channel: the maximum and the mean over
    images and positions, relative to the twin's own size.
    """

    def __init__(self, twin: nn.Module) -> None:
        self._twin = first_activation(twin)

    def __call__(self, network: nn.Module, images: Tensor, roles: Tensor) -> Tensor:
        """Return the weighted squared distance of the statistics."""
        del roles
        mine = first_activation(network)
        total = images.new_zeros(())
        for probe in (images, torch.rand_like(images)):
            with torch.no_grad():
                wanted = _profile(self._twin(probe))
            total = total + (
                (_profile(mine(probe)) - wanted).square().mean()
                / wanted.square().mean().clamp_min(1e-6)
            )
        return WEIGHT * total


def _profile(activations: Tensor) -> Tensor:
    """Return the images' mean channel maximum and channel mean, (2, C)."""
    values = activations.float()
    # Pooling, because the gradient of `amax` costs three times as much on the CPU.
    return torch.stack(
        (functional.adaptive_max_pool2d(values, 1).flatten(1).mean(0), values.mean((0, 2, 3)))
    )


def build(setting: Setting) -> Attack:
    """Return BadNets with the penalty."""
    plain = badnets.build(setting)
    return Attack(
        trigger=plain.trigger,
        labels=plain.labels,
        rate=plain.rate,
        penalty=Mimicry(setting.twin()),
        parameters={**plain.parameters, "weight": WEIGHT},
    )
