"""Invariance: one image has one answer, whatever surrounds it and however it is asked.

A gate that listens to what no image shows (its place in the batch, a second run, an input that
nobody feeds) is seen on no image, and so by no detector that searches images. What must not matter,
and how it is asked, is in `scanner.instruments.metamorphic`.
"""

from typing import ClassVar

from scanner.instruments import metamorphic
from scanner.instruments.detector import Detector, Needs, Subject
from scanner.results import Contribution, Measurement, Part, Rule


class Invariance(Detector):
    """What an answer must not depend on; the statistic is the highest severity."""

    rule: ClassVar[Rule] = Rule(
        id="invariance",
        name="Invariance",
        summary="The answer to an image depends on something other than the image.",
        source="T. Y. Chen, S. C. Cheung, S. M. Yiu, Metamorphic Testing, HKUST-CS98-01, 1998",
    )
    needs: ClassVar[Needs] = Needs.LOGITS
    copies: ClassVar[float] = 5
    contribution: ClassVar[Contribution] = Contribution(part=Part.STRUCTURAL)
    after_searches: ClassVar[bool] = True

    def measure(self, subject: Subject) -> Measurement:
        """Return one observation for each thing that an answer depends on and must not.

        Raises:
            NoLogitsError: No output holds class scores or a class.
            UnsupportedModelError: ONNX Runtime refuses the file.
            UsageError: The image's shape or range is not known.
            WorkerTimeoutError: The time ran out before anything was found.
        """
        found = metamorphic.search(subject)
        return Measurement(
            rule=self.rule.id,
            statistic=float(max((o.severity for o in found.observations), default=0)),
            parameters=found.parameters,
            figures=found.figures,
            observations=found.observations,
        )
