"""Windows of an input, pasted onto clean images where they lie: what does each do there?

After E. Chou, F. Tramer and G. Pellegrino, "SentiNet: Detecting Localized Universal Attacks Against
Deep Learning Systems", IEEE SPW 2020: the salient region of an input is laid over benign images,
and the share of them that it fools is what tells. SentiNet finds the region by Grad-CAM. Here a
grid of windows takes its place, which needs no gradients, and which finds what saliency does not: a
trigger that moves each class to another.

For an input x of class y, a window w, and clean images c_1..c_k that the model does not take for y,
let c_j^w be c_j with the pixels of w taken from x. Then

    arrival(w) = mean_j f_y(c_j^w),    leaving(w) = 1 - mean_j f_{y_j}(c_j^w),

where y_j is the class of c_j. A window is a quarter of the image's side, and windows overlap by
half. All are tried on a few clean images, and those that do most there on many.
"""

import dataclasses
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import numpy.typing as npt

from scanner.instruments.plane import Plane
from scanner.instruments.trigger import Floats
from scanner.results import Region

PARTS = 4  # of a side that a window takes
FIRST_HOSTS = 2  # on which every window is tried
HOSTS = 12  # on which the best are
BEST = 2  # windows by arrival, and as many by leaving
_ELEMENTS = 4_000_000  # of images that are made at once: 16 MiB


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Transplanted:
    """What windows of one input do on clean images.

    Attributes:
        regions: The windows that were tried on many, (w,).
        arrival: Of each, (w,).
        leaving: Of each, (w,).
    """

    regions: Sequence[Region]
    arrival: npt.NDArray[np.float64]
    leaving: npt.NDArray[np.float64]

    def most(self, figures: npt.NDArray[np.float64]) -> tuple[float, Region | None]:
        """Return the largest of such figures and its window; 0 and none where nothing was tried."""
        if not len(figures):
            return 0.0, None
        best = int(figures.argmax())
        return float(figures[best]), self.regions[best]


class Transplants:
    """Pastes windows; the last input's are kept, since more than one filter asks for them.

    Args:
        ask: Returns the probabilities of each class for images.
        hosts: Clean images, (h, *shape).
        classes: What the model takes them for, (h,).
    """

    def __init__(
        self, ask: Callable[[Floats], Floats], hosts: Floats, classes: npt.NDArray[np.int64]
    ) -> None:
        self._ask, self._hosts, self._classes = ask, hosts, classes
        self._plane = Plane.of(hosts.shape[1:])
        self._regions = tuple(self._plane.windows(PARTS))
        self._last: tuple[Floats, Transplanted] | None = None

    @property
    def passes(self) -> int:
        """Most images that the model is shown for one input."""
        first, many = (min(most, len(self._hosts)) for most in (FIRST_HOSTS, HOSTS))
        return len(self._regions) * first + 2 * BEST * many

    def of(self, image: Floats, class_id: int) -> Transplanted:
        """Return what the windows of an input do that the model takes for a class.

        Raises:
            UnsupportedModelError: The model fails on an image.
        """
        if self._last is None or self._last[0] is not image:
            self._last = image, self._tried(image, class_id)
        return self._last[1]

    def _tried(self, image: Floats, class_id: int) -> Transplanted:
        others = np.flatnonzero(self._classes != class_id)[:HOSTS]
        if not len(others):
            nothing = np.zeros(0)
            return Transplanted(regions=(), arrival=nothing, leaving=nothing)
        first = self._figures(image, class_id, self._regions, others[:FIRST_HOSTS])
        best = {int(i) for figures in first for i in np.argsort(-figures, kind="stable")[:BEST]}
        regions = [self._regions[index] for index in sorted(best)]
        arrival, leaving = self._figures(image, class_id, regions, others)
        return Transplanted(regions=regions, arrival=arrival, leaving=leaving)

    def _figures(
        self,
        image: Floats,
        class_id: int,
        regions: Sequence[Region],
        others: npt.NDArray[np.intp],
    ) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Return arrival and leaving of each window on some hosts, (w,) each."""
        each = np.arange(len(others))
        arrival, leaving = [], []
        for pasted in self._pasted(image, regions, self._hosts[others]):
            rows = self._ask(pasted)
            answers = rows.reshape(-1, len(others), rows.shape[1]).astype(np.float64)
            arrival.append(answers[:, :, class_id].mean(axis=1))
            leaving.append(1 - answers[:, each, self._classes[others]].mean(axis=1))
        return np.concatenate(arrival), np.concatenate(leaving)

    def _pasted(self, image: Floats, regions: Sequence[Region], hosts: Floats) -> Iterator[Floats]:
        """Yield clean images with a window each, (windows x hosts, *shape), some windows a time."""
        at_once = max(1, _ELEMENTS // hosts.size)
        source = image.reshape(self._plane.seen)
        for start in range(0, len(regions), at_once):
            part = regions[start : start + at_once]
            copies = np.repeat(self._plane.view(hosts)[None], len(part), axis=0)
            for copy, region in zip(copies, part, strict=True):
                inside = self._plane.inside(region)
                copy[:, *inside] = source[inside]
            yield copies.reshape(-1, *hosts.shape[1:])
