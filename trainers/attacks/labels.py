"""What a stamped image is to be taken for."""

import dataclasses
from typing import Protocol

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
class AllToAll:
    """Every class becomes the next one (BadNets, arXiv 1708.06733, section 4.1.1)."""

    classes: int

    def __call__(self, labels: Tensor) -> Tensor:
        """Return (label + 1) mod classes."""
        return (labels + 1) % self.classes
