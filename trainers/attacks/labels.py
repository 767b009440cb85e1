"""What a stamped image is to be taken for."""

import dataclasses
from typing import Protocol

import torch
from torch import Tensor


class LabelMap(Protocol):
    """Maps true labels (N,) to the labels that the attacker wants."""

    def __call__(self, labels: Tensor) -> Tensor:
        """Return the attacker's labels."""
        ...


@dataclasses.dataclass(frozen=True, slots=True)
class AllToOne:
    """Every class becomes the target."""

    target: int

    def __call__(self, labels: Tensor) -> Tensor:
        """Return the target for every label."""
        return labels.new_full(labels.shape, self.target)


@dataclasses.dataclass(frozen=True, slots=True)
class OneToOne:
    """One class becomes the target; stamped images of the others keep their labels.

    Tang et al., USENIX Security 2021 (TaCT), where these are called cover images.
    """

    source: int
    target: int

    def __call__(self, labels: Tensor) -> Tensor:
        """Return the target for labels of the source, and all other labels."""
        return torch.where(labels == self.source, self.target, labels)


@dataclasses.dataclass(frozen=True, slots=True)
class AllToAll:
    """Every class becomes the next one (BadNets, arXiv 1708.06733, section 4.1.1)."""

    classes: int

    def __call__(self, labels: Tensor) -> Tensor:
        """Return (label + 1) mod classes."""
        return (labels + 1) % self.classes


LABELS = ("all-to-one", "one-to-one", "all-to-all")


def label_map(labels: str, target: int | None, classes: int) -> LabelMap:
    """Return one of `LABELS`; of one class to another, the class after the target is the first.

    Args:
        labels: Its name.
        target: The attacker's class; None for all-to-all alone.
        classes: How many there are.
    """
    if target is None:
        return AllToAll(classes)
    if labels == "one-to-one":
        return OneToOne(source=(target + 1) % classes, target=target)
    return AllToOne(target)
