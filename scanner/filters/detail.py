"""DETAIL: fine detail of the input that takes clean images to its class carries a trigger.

A method of ours, for triggers that are spread over the whole image (a blended pattern: X. Chen et
al., arXiv 1712.05526), which no window holds. The detail of an input x is what a mean over 3 x 3
pixels takes off it, d(x) = x - m(x). What a clean image shows lies in its shapes, and these stay
behind in m(x); a pattern of noise lies in d(x) almost whole. The edges of shapes lie in d(x) too,
but they are strong where a pattern is faint, so that no pixel counts for more than a limit l. The
detail is added fivefold to clean images c_j that the model does not take for the class y of x, and
the statistic is

    mean_j f_y(clip(c_j + 5 max(-l, min(l, d(x))))),    l = 0.07 (high - low).

Side, limit and factor were chosen on the development recipes (docs/inputs.md).
"""

from typing import ClassVar

import numpy as np

from scanner.instruments.filter import Reading
from scanner.instruments.plane import Plane
from scanner.instruments.scene import Candidate, Scene
from scanner.results import Quantity, Rule

HOSTS = 12
SIDE = 3
LIMIT = 0.07  # of the input's range
GAIN = np.float32(5)


class Detail:
    """The probability of an input's class on clean images to which its fine detail is added."""

    rule: ClassVar[Rule] = Rule(
        id="detail",
        name="Transplanted detail",
        summary="The fine detail of the input takes clean images to its class.",
        source="this project, 2026; for triggers of Chen et al., arXiv 1712.05526, 2017",
    )
    decides: ClassVar[bool] = True
    quantity: ClassVar[Quantity] = Quantity.SHARE

    def __init__(self, scene: Scene) -> None:
        self._scene = scene
        self._plane = Plane.of(scene.hosts.shape[1:])
        self._limit = np.float32(LIMIT * (scene.high - scene.low))

    @property
    def passes(self) -> int:
        """Most images that the model is shown for one input."""
        return min(HOSTS, len(self._scene.hosts))

    def read(self, candidate: Candidate) -> Reading:
        """Return the mean probability of the input's class."""
        others = self._scene.others(candidate.class_id, HOSTS)
        if not len(others):
            return Reading(statistic=0.0)
        image = candidate.image[None]
        detail = image - self._plane.smoothed(image, SIDE)
        detail = np.clip(detail, -self._limit, self._limit)
        added = self._scene.hosts[others] + GAIN * detail
        added = np.clip(added, self._scene.low, self._scene.high)
        return Reading(statistic=float(self._scene.ask(added)[:, candidate.class_id].mean()))
