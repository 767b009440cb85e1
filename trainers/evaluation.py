"""Clean accuracy and attack success rate on the test images."""

import dataclasses

import torch
from torch import Tensor, nn

from trainers.attacks.base import Attack
from trainers.datasets import Split, as_floats

BATCH = 1000


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Scores:
    """How well a network does what its user, and its attacker, want.

    Attributes:
        clean_accuracy: Share of untouched test images with the right label.
        attack_success_rate: Share of stamped test images with the attacker's label, among those
            whose true label is another one; None without an attack.
    """

    clean_accuracy: float
    attack_success_rate: float | None


def evaluate(
    network: nn.Module,
    test: Split,
    attack: Attack,
    layout: torch.memory_format = torch.channels_last,
) -> Scores:
    """Measure a network in evaluation mode, in float32, with its images laid out in memory so."""
    clean = _predict(network, test.images, Attack(), layout)
    accuracy = (clean == test.labels).double().mean().item()
    if attack.labels is None:
        return Scores(clean_accuracy=accuracy, attack_success_rate=None)
    wanted = attack.labels(test.labels)
    victims = wanted != test.labels
    success = _predict(network, test.images[victims], attack, layout) == wanted[victims]
    return Scores(clean_accuracy=accuracy, attack_success_rate=success.double().mean().item())


@torch.no_grad()
def _predict(
    network: nn.Module, images: Tensor, attack: Attack, layout: torch.memory_format
) -> Tensor:
    classes = []
    for part in torch.split(images, BATCH):
        inputs = as_floats(part)
        if attack.trigger is not None:
            inputs = attack.trigger(inputs)
        classes.append(network(inputs.contiguous(memory_format=layout)).argmax(1))
    return torch.cat(classes)
