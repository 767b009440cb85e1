"""Patch sweep: small patches of one colour at every place, and which images they turn.

Source: the square in the corner is T. Gu, B. Dolan-Gavitt and S. Garg, "BadNets", 2017; that a
backdoor is found by trying small changes one after another, without a gradient, is S. Huang et al.,
"One-Pixel Signature: Characterizing CNN Models for Backdoor Detection", ECCV 2020. They give the
answers to a classifier that learnt from many networks; ours are the patches (`instruments.patches`)
and the bounds (`instruments.sweeps`).
"""

from collections.abc import Sequence
from typing import ClassVar

from scanner.instruments import class_sizes, sweeps
from scanner.instruments.detector import Detector, Needs, Subject
from scanner.instruments.patches import Patches
from scanner.results import (
    Comparison,
    Contribution,
    Description,
    Measurement,
    Part,
    PlannedStage,
    Rule,
    Scale,
    Wording,
)

_LEAST = 0.1  # a hundredth of the images against a tenth is no evidence
_ALONE = (
    "a small patch of one colour turns {suspect:.0%} of the images into class {target}, more than "
    "into any other"
)


class PatchSweep(Detector):
    """By class, the share of images that the best small patch of one colour turns into it."""

    rule: ClassVar[Rule] = Rule(
        id="patch_sweep",
        name="Patch sweep",
        summary="A small patch of one colour turns nearly all images into one class, or moves all.",
        source="S. Huang et al., One-Pixel Signature, ECCV 2020; T. Gu et al., BadNets, 2017",
    )
    needs: ClassVar[Needs] = Needs.LOGITS
    contribution: ClassVar[Contribution] = Contribution(part=Part.SEEN)
    scale: ClassVar[Scale] = Scale(added=_LEAST)
    wording: ClassVar[Wording] = Wording(
        one="a small patch of one colour turns {suspect:.0%} of the images into class {target}; in "
        "the clean reference {low:.0%}",
        many="a small patch of one colour turns {suspect:.0%} of the images into class {target}; "
        "in the {count} clean references {low:.0%} to {high:.0%}",
        alone=_ALONE,
        leading=_ALONE,
    )

    def measure(self, subject: Subject) -> Measurement:
        """Return the share of the images shown that each class's patch turns.

        Raises:
            ScannerError: As for `sweeps.search`.
        """
        return sweeps.search(self.rule.id, subject, Patches())

    def plan(self, subject: Subject) -> Sequence[PlannedStage]:
        """Return the sweep, where the model is not too large.

        Raises:
            ScannerError: As for `measure`.
        """
        return sweeps.planned(self.rule.id, subject, Patches())

    def describe(self, measurement: Measurement, comparison: Comparison) -> Description:
        """Return what was searched on, and the shares class by class."""
        return class_sizes.described(
            measurement, comparison, "images turned", "{:.0%}".format, smaller=False
        )
