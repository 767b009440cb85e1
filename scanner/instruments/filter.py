"""What a filter is: a published method that tells from a model's answers whether one input is odd.

A filter measures and does not judge: what its statistic means is told by the user's clean images,
measured alike (`scanner.judging.inputs`).
"""

import dataclasses
from typing import ClassVar, Protocol

from scanner.instruments.scene import Candidate, Scene
from scanner.results import Quantity, Region, Rule


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What a filter reads off one input.

    Attributes:
        statistic: Larger is more suspicious.
        region: The part of the image that it comes from; None where it is all of it.
    """

    statistic: float
    region: Region | None = None


class Filter(Protocol):
    """One published method; `scanner.filters.FILTERS` lists them.

    Attributes:
        rule: Its identity.
        decides: Whether it counts in the answer of all together.
        quantity: What its statistic is.
    """

    rule: ClassVar[Rule]
    decides: ClassVar[bool]
    quantity: ClassVar[Quantity]

    def __init__(self, scene: Scene) -> None:
        """Take the model and the clean images."""

    @property
    def passes(self) -> int:
        """Most images that the model is shown for one input."""

    def read(self, candidate: Candidate) -> Reading:
        """Measure one input.

        Raises:
            UnsupportedModelError: The model fails on an image.
        """
