"""Trigger inversion without data: the smallest mask on images that the model makes itself.

Source: R. Wang et al., "Practical Detection of Trojan Neural Networks: Data-Limited and Data-Free
Cases", ECCV 2020, who also look at images that a network makes by gradient steps from noise. The
search is Neural Cleanse's (`scanner.instruments.inversion`), on images of all classes instead of
noise, most of which falls into one or two.

It is asked where there are neither clean models nor clean images. Beside a reference masks on noise
say as much (docs/detection.md).
"""

from collections.abc import Sequence
from typing import ClassVar

from scanner.graph.gradient.backward import Objective
from scanner.instruments import class_sizes, inversion, made_images, stages
from scanner.instruments.detector import Detector, Needs, Subject
from scanner.instruments.differentiable import differentiable
from scanner.instruments.probes import Images
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

PLAN = inversion.Plan()


class DataFreeInversion(Detector):
    """|m|_1 by class: the pixels of the smallest mask that turns the model's own images into it."""

    rule: ClassVar[Rule] = Rule(
        id="data_free_inversion",
        name="Data-free trigger inversion",
        summary="On images that the model makes, a class is reached with a far smaller trigger.",
        source="R. Wang et al., Practical Detection of Trojan Neural Networks, ECCV 2020",
    )
    needs: ClassVar[Needs] = Needs.LOGITS | Needs.GRADIENTS
    copies: ClassVar[float] = 7
    contribution: ClassVar[Contribution] = Contribution(part=Part.SHOWN)
    alone: ClassVar[bool] = True
    scale: ClassVar[Scale] = Scale(small_is_suspicious=True, added=inversion.PIXEL, unit=" px")
    wording: ClassVar[Wording] = Wording(
        one="on images that the model makes, class {target} needs a mask of {suspect:.1f} pixels; "
        "the clean reference needs {low:.1f}",
        many="on images that the model makes, class {target} needs a mask of {suspect:.1f} pixels; "
        "the {count} clean references need {low:.1f} to {high:.1f}",
        leading="on images that the model makes, class {target} has a mask {times:.1f} times "
        "smaller than any other",
    )

    def measure(self, subject: Subject) -> Measurement:
        """Return the size of each class's mask.

        Raises:
            NoGradientError: An operator has no gradient.
            NoImagesError: The model makes too few images.
            NoLogitsError: There are no logits.
            NoTimeError: The budget is too small for a single class.
            UnsupportedModelError: The gradient is not a number.
            UsageError: There is no such class.
        """
        model = differentiable(subject, Objective.CROSS_ENTROPY)
        data = made_images.shared(subject, model)
        found = inversion.search(subject, model, data, PLAN)
        return Measurement(
            rule=self.rule.id,
            statistic=None,
            parameters=found.parameters,
            by_class=found.profile,
        )

    def plan(self, subject: Subject) -> Sequence[PlannedStage]:
        """Return the making of the images, and the stages of the search.

        Raises:
            ScannerError: As for `measure`.
        """
        model = differentiable(subject, Objective.CROSS_ENTROPY)
        shown, making = made_images.planned(self.rule.id, model, subject.settings)
        data = Images(shown=shown, held_back=shown[:0], source=made_images.SOURCE)
        demand = inversion.demanded(subject, model, data, PLAN)
        return (making, *stages.planned(self.rule.id, subject, model, shown, demand))

    def describe(self, measurement: Measurement, comparison: Comparison) -> Description:
        """Return what was searched on, and the sizes of masks class by class."""
        return class_sizes.described(measurement, comparison, "mask (px)", "{:.1f}".format)
