"""Wave sweep: faint sinusoids over the whole image, and which images they turn.

Source: the trigger is M. Barni, K. Kallas and B. Tondi, "A New Backdoor Attack in CNNs by Training
Set Corruption without Label Poisoning" (SIG), ICIP 2019. That some such wave turns many images of a
clean network is Y. Tsuzuku and I. Sato, "On the Structural Sensitivity of Deep Convolutional
Networks to the Directions of Fourier Basis Functions", CVPR 2019. Ours are the waves
(`instruments.waves`) and the bounds (`instruments.sweeps`).
"""

from collections.abc import Sequence
from typing import ClassVar

from scanner.instruments import class_sizes, sweeps
from scanner.instruments.detector import Detector, Needs, Subject
from scanner.instruments.waves import Waves
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
    "a faint wave turns {suspect:.0%} of the images into class {target}, more than into any other"
)


class WaveSweep(Detector):
    """By class, the share of images that the best faint wave turns into it."""

    rule: ClassVar[Rule] = Rule(
        id="wave_sweep",
        name="Wave sweep",
        summary="A faint wave turns nearly all images into one class, or moves all.",
        source="M. Barni et al., ICIP 2019 (SIG); Y. Tsuzuku and I. Sato, CVPR 2019",
    )
    needs: ClassVar[Needs] = Needs.LOGITS
    contribution: ClassVar[Contribution] = Contribution(part=Part.SEEN)
    scale: ClassVar[Scale] = Scale(added=_LEAST)
    wording: ClassVar[Wording] = Wording(
        one="a faint wave turns {suspect:.0%} of the images into class {target}; in "
        "the clean reference {low:.0%}",
        many="a faint wave turns {suspect:.0%} of the images into class {target}; "
        "in the {count} clean references {low:.0%} to {high:.0%}",
        alone=_ALONE,
        leading=_ALONE,
    )

    def measure(self, subject: Subject) -> Measurement:
        """Return the share of the images shown that each class's wave turns.

        Raises:
            ScannerError: As for `sweeps.search`.
        """
        return sweeps.search(self.rule.id, subject, Waves())

    def plan(self, subject: Subject) -> Sequence[PlannedStage]:
        """Return the sweep, where the model is not too large.

        Raises:
            ScannerError: As for `measure`.
        """
        return sweeps.planned(self.rule.id, subject, Waves())

    def describe(self, measurement: Measurement, comparison: Comparison) -> Description:
        """Return what was searched on, and the shares class by class."""
        return class_sizes.described(
            measurement, comparison, "images turned", "{:.0%}".format, smaller=False
        )
