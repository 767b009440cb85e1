"""DISTURBANCE: a window of the input that takes clean images off their classes carries a trigger.

The same windows as those of `transplant`, and the statistic is the largest leaving(w)
(`scanner.instruments.transplants`): it does not ask where the clean images go. So it finds triggers
of attacks that send each class to another one (all-to-all, T. Gu et al., "BadNets", arXiv
1708.06733), which no method finds that asks for one common class.
"""

from typing import ClassVar

from scanner.instruments.filter import Reading
from scanner.instruments.scene import Candidate, Scene
from scanner.results import Quantity, Rule


class Disturbance:
    """How far clean images leave their classes when they take over one window of the input."""

    rule: ClassVar[Rule] = Rule(
        id="disturbance",
        name="Disturbing window",
        summary="A window of the input takes clean images off their classes.",
        source="after Chou et al., SentiNet: Detecting Localized Universal Attacks Against Deep "
        "Learning Systems, IEEE SPW 2020",
    )
    decides: ClassVar[bool] = True
    quantity: ClassVar[Quantity] = Quantity.SHARE

    def __init__(self, scene: Scene) -> None:
        self._transplants = scene.transplants

    @property
    def passes(self) -> int:
        """None beyond those of `transplant`."""
        return 0

    def read(self, candidate: Candidate) -> Reading:
        """Return the largest leaving and its window."""
        tried = self._transplants.of(candidate.image, candidate.class_id)
        statistic, region = tried.most(tried.leaving)
        return Reading(statistic=statistic, region=region)
