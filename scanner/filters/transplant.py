"""TRANSPLANT: a window of the input that takes clean images to its class carries a trigger.

Source: E. Chou, F. Tramer and G. Pellegrino, "SentiNet: Detecting Localized Universal Attacks
Against Deep Learning Systems", IEEE SPW 2020, with a grid of windows in place of Grad-CAM
(`scanner.instruments.transplants`). The statistic is the largest arrival(w) over the windows: how
probable the input's class is on clean images of other classes that take over the window's pixels.
"""

from typing import ClassVar

from scanner.instruments.filter import Reading
from scanner.instruments.scene import Candidate, Scene
from scanner.results import Quantity, Rule


class Transplant:
    """The probability of an input's class on clean images that take over one of its windows."""

    rule: ClassVar[Rule] = Rule(
        id="transplant",
        name="Transplanted window",
        summary="A window of the input takes clean images to its class.",
        source="after Chou et al., SentiNet: Detecting Localized Universal Attacks Against Deep "
        "Learning Systems, IEEE SPW 2020",
    )
    decides: ClassVar[bool] = True
    quantity: ClassVar[Quantity] = Quantity.SHARE

    def __init__(self, scene: Scene) -> None:
        self._transplants = scene.transplants

    @property
    def passes(self) -> int:
        """Most images that the model is shown for one input."""
        return self._transplants.passes

    def read(self, candidate: Candidate) -> Reading:
        """Return the largest arrival and its window."""
        tried = self._transplants.of(candidate.image, candidate.class_id)
        statistic, region = tried.most(tried.arrival)
        return Reading(statistic=statistic, region=region)
