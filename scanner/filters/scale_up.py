"""SCALE-UP: an input whose class stands when its pixels are multiplied carries a trigger.

Source: J. Guo et al., "SCALE-UP: An Efficient Black-box Input-level Backdoor Detection via
Analyzing Scaled Prediction Consistency", ICLR 2023, arXiv 2302.03251. With pixels in [0, 1] and the
scales S = {3, 5, 7, 9, 11}, the scaled prediction consistency is

    SPC(x) = #{n in S: class of clip(n x, 0, 1) = class of x} / |S|.

Choices of ours: the input's own range is mapped to [0, 1] and back; the authors' threshold of 0.5
is not used, the rank among clean images is; between inputs of equal SPC the mean probability of the
class decides, weighed so that it never outweighs a scale.

It is shown and does not decide: on the development recipes clean grey images, which are black and
white already, keep their class when scaled as often as triggers do (docs/inputs.md).
"""

from typing import ClassVar

import numpy as np

from scanner.instruments.filter import Reading
from scanner.instruments.scene import Candidate, Scene
from scanner.results import Quantity, Rule

SCALES = (3, 5, 7, 9, 11)
_TIE = 0.5 / len(SCALES)  # less than one scale


class ScaleUp:
    """The share of scales at which an input keeps its class."""

    rule: ClassVar[Rule] = Rule(
        id="scale_up",
        name="SCALE-UP",
        summary="The class stands when the pixels are multiplied.",
        source="Guo et al., SCALE-UP: An Efficient Black-box Input-level Backdoor Detection via "
        "Analyzing Scaled Prediction Consistency, ICLR 2023",
    )
    decides: ClassVar[bool] = False
    quantity: ClassVar[Quantity] = Quantity.SHARE

    def __init__(self, scene: Scene) -> None:
        self._ask, self._low, self._width = scene.ask, scene.low, scene.high - scene.low

    @property
    def passes(self) -> int:
        """Most images that the model is shown for one input."""
        return len(SCALES)

    def read(self, candidate: Candidate) -> Reading:
        """Return SPC, ties broken by the mean probability of the class."""
        unit = (candidate.image - self._low) / self._width
        scaled = np.stack([np.clip(scale * unit, 0, 1) for scale in SCALES])
        answers = self._ask((self._low + self._width * scaled).astype(np.float32))
        kept = float(np.mean(answers.argmax(axis=1) == candidate.class_id))
        return Reading(statistic=kept + _TIE * float(answers[:, candidate.class_id].mean()))
