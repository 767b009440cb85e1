"""Neural Cleanse: invert the smallest trigger of each class, and compare it with clean models'.

Source: B. Wang et al., "Neural Cleanse: Identifying and Mitigating Backdoor Attacks in Neural
Networks", IEEE S&P 2019, sections IV and V. Two things are ours. With references, masks are
compared class by class: the paper's own test, an outlier among the classes of one model, drowns in
their natural spread. Without, a class is asked how far it leads the next once its nearness to the
images is taken off: in clean networks a class whose logit is high on the images anyway has a small
mask (docs/detection.md), and a backdoor needs no such excuse.
"""

from collections.abc import Sequence
from typing import ClassVar

from scanner.graph.gradient.backward import Objective
from scanner.instruments import class_sizes, inversion, probes, stages
from scanner.instruments.detector import Detector, Needs, Subject
from scanner.instruments.differentiable import Differentiable, differentiable
from scanner.instruments.inversion import ON_IMAGES, ON_NOISE, Plan
from scanner.instruments.probes import Images
from scanner.instruments.statistics import anomaly_index
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

# Taken off the logarithm of a mask for each standard deviation of nearness (docs/detection.md).
_EASE = 0.3


class NeuralCleanse(Detector):
    """|m|_1 by class: the pixels of the smallest mask that turns the images into that class."""

    rule: ClassVar[Rule] = Rule(
        id="neural_cleanse",
        name="Neural Cleanse",
        summary="A class is reached with a far smaller trigger than in a clean model.",
        source="B. Wang et al., Neural Cleanse, IEEE S&P 2019, sections IV-V",
    )
    needs: ClassVar[Needs] = Needs.LOGITS | Needs.GRADIENTS
    copies: ClassVar[float] = 7
    contribution: ClassVar[Contribution] = Contribution(
        part=Part.COMBINED,
        decisive=True,
        beside_one=1.45,
        alone=0.82,
        images_help=True,
        budget_helps=True,
    )
    scale: ClassVar[Scale] = Scale(
        small_is_suspicious=True, added=inversion.PIXEL, ease=_EASE, unit=" px"
    )
    wording: ClassVar[Wording] = Wording(
        one="class {target} needs a mask of {suspect:.1f} pixels; the clean reference needs "
        "{low:.1f}",
        many="class {target} needs a mask of {suspect:.1f} pixels; the {count} clean references "
        "need {low:.1f} to {high:.1f}",
        leading="given how near it lies to the images, class {target} has a mask {times:.1f} times "
        "smaller than any other",
    )

    def measure(self, subject: Subject) -> Measurement:
        """Return the size of each class's mask; the statistic is the paper's anomaly index.

        Raises:
            NoGradientError: An operator has no gradient.
            UnsupportedModelError: There are no logits, the gradient is not a number, or the budget
                is too small.
            UsageError: The user's images do not fit, or there is no such class.
        """
        model, data, plan = _prepared(subject)
        found = inversion.search(subject, model, data, plan)
        index = anomaly_index([r.figure for r in found.profile.rows if r.figure is not None])
        return Measurement(
            rule=self.rule.id,
            statistic=index,
            parameters=found.parameters,
            figures={"anomaly_index": index},
            by_class=found.profile,
        )

    def plan(self, subject: Subject) -> Sequence[PlannedStage]:
        """Return the stages of the search.

        Raises:
            ScannerError: As for `measure`.
        """
        model, data, plan = _prepared(subject)
        demand = inversion.demanded(subject, model, data, plan)
        return stages.planned(self.rule.id, subject, model, data.shown, demand)

    def describe(self, measurement: Measurement, comparison: Comparison) -> Description:
        """Return what was searched on, and the sizes of masks class by class."""
        return class_sizes.described(measurement, comparison, "mask (px)", "{:.1f}".format)


def _prepared(subject: Subject) -> tuple[Differentiable, Images, Plan]:
    """Return a subject with its gradients, on what its triggers are searched, and how."""
    settings = subject.settings
    model = differentiable(subject, Objective.CROSS_ENTROPY)
    data = probes.clean_images(settings, model.shape, (model.low, model.high))
    return model, data, ON_IMAGES if settings.has_images else ON_NOISE
