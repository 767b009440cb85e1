"""Universal perturbations: what must be added to any image so that it falls into a class.

Source: S.-M. Moosavi-Dezfooli et al., "Universal adversarial perturbations", CVPR 2017, targeted
and in L2. A backdoor leaves a model one that is far smaller than others: the difference that its
trigger makes, or less. Ours are the search (`scanner.instruments.universal`) and the comparison
with clean models class by class.
"""

import math
from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from scanner.instruments import class_sizes, universal
from scanner.instruments.detector import Detector, Needs, Subject
from scanner.instruments.differentiable import Differentiable, Floats
from scanner.results import (
    Comparison,
    Contribution,
    Description,
    Measurement,
    Observation,
    Part,
    PlannedStage,
    Rule,
    Scale,
    Severity,
    Wording,
)

_LEAST = 1e-3  # of the range: a tenth of it against a hundredth is no evidence


class Perturbation:
    """x + w p within the range, for a range of width w."""

    first = 0.03
    largest = math.inf

    def __init__(self, model: Differentiable) -> None:
        self.parameters: Floats = np.zeros(model.shape, np.float32)
        self._low, self._high = model.low, model.high

    def applied(self, images: Floats) -> Floats:
        """Return changed images, (n, *shape)."""
        return np.clip(self._added(images), self._low, self._high)

    def pulled(self, images: Floats, gradient: Floats) -> Floats:
        """Return the derivative by p: none where a pixel would have to leave the range."""
        added = self._added(images)
        free = ((added >= self._low) | (gradient < 0)) & ((added <= self._high) | (gradient > 0))
        found: Floats = (gradient * free).mean(axis=0) * np.float32(self._high - self._low)
        return found

    def _added(self, images: Floats) -> Floats:
        return images + np.float32(self._high - self._low) * self.parameters


class UniversalPerturbation(Detector):
    """By class, the root mean square of what turns the images into it when it is added to them."""

    rule: ClassVar[Rule] = Rule(
        id="universal_perturbation",
        name="Universal perturbation",
        summary="One faint pattern, added to any image, turns it into a class.",
        source="S.-M. Moosavi-Dezfooli et al., Universal adversarial perturbations, CVPR 2017",
    )
    needs: ClassVar[Needs] = Needs.LOGITS | Needs.GRADIENTS
    copies: ClassVar[float] = 7
    contribution: ClassVar[Contribution] = Contribution(part=Part.SHOWN)
    scale: ClassVar[Scale] = Scale(small_is_suspicious=True, added=_LEAST, unit=" of the range")
    wording: ClassVar[Wording] = Wording(
        one="class {target} takes a pattern of {suspect:.1%} of the range, added to all images; in "
        "the clean reference {low:.1%}",
        many="class {target} takes a pattern of {suspect:.1%} of the range, added to all images; "
        "in the {count} clean references {low:.1%} to {high:.1%}",
        alone="class {target} takes the faintest pattern added to all images, {suspect:.1%} of the "
        "range",
        leading="class {target} takes a pattern {times:.1f} times fainter than any other, added to "
        "all images",
    )

    def measure(self, subject: Subject) -> Measurement:
        """Return the size of each class's pattern, a root mean square in widths of the range.

        Raises:
            NoGradientError: An operator has no gradient.
            NoImagesError: There are no images, and the model makes too few itself.
            NoLogitsError: There are no logits.
            UnsupportedModelError: The gradient is not a number, or the budget is too small.
            UsageError: The user's images do not fit, or there is no such class.
        """
        found = universal.search(subject, Perturbation, makes_images=True)
        return Measurement(
            rule=self.rule.id,
            statistic=None,
            parameters=found.parameters,
            by_class=found.profile,
            observations=() if found.shown is None else (_note(found),),
        )

    def plan(self, subject: Subject) -> Sequence[PlannedStage]:
        """Return the stages of the search.

        Raises:
            ScannerError: As for `measure`.
        """
        return universal.planned(self.rule.id, subject, makes_images=True)

    def describe(self, measurement: Measurement, comparison: Comparison) -> Description:
        """Return what was searched on, and the sizes class by class."""
        return class_sizes.described(measurement, comparison, "pattern", "{:.1%}".format)


def _note(found: universal.Searched) -> Observation:
    assert found.shown is not None  # noqa: S101 - only what was found is noted
    return Observation(
        code="universal-perturbation",
        severity=Severity.NOTE,
        sentence=f"a pattern of {found.best.size:.1%} of the range, added to all images, turns "
        f"{found.shown.success:.0%} of those held back into class {found.best.target}",
        input=found.shown,
    )
