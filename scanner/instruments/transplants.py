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
half. All are tried on one clean image; in three heats those that do most stay, and the last few
are tried on twelve (`HEATS`).
"""

import dataclasses
import threading
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import numpy.typing as npt

from scanner.instruments.plane import Plane
from scanner.instruments.trigger import Floats
from scanner.results import Region

PARTS = 4  # of a side that a window takes
HOSTS = 12  # on which the last windows are tried
# On how many hosts windows have been tried when so many stay: those that arrive best, and as many
# of those that make most hosts leave. Chosen on the development recipes (docs/inputs.md).
HEATS = ((1, 6), (3, 3), (6, 1))
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
    """Pastes windows; each thread's last input is kept, since more than one filter asks for it.

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
        self._last = _Last()

    @property
    def passes(self) -> int:
        """Most images that the model is shown for one input."""
        shown, tried, windows = 0, 0, len(self._regions)
        for hosts, kept in (*HEATS, (HOSTS, 0)):
            shown += windows * (min(hosts, len(self._hosts)) - tried)
            tried, windows = min(hosts, len(self._hosts)), min(2 * kept, windows)
        return shown

    def of(self, image: Floats, class_id: int) -> Transplanted:
        """Return what the windows of an input do that the model takes for a class.

        Raises:
            UnsupportedModelError: The model fails on an image.
        """
        if self._last.kept is None or self._last.kept[0] is not image:
            self._last.kept = image, self._tried(image, class_id)
        return self._last.kept[1]

    def _tried(self, image: Floats, class_id: int) -> Transplanted:
        others = np.flatnonzero(self._classes != class_id)[:HOSTS]
        if not len(others):
            nothing = np.zeros(0)
            return Transplanted(regions=(), arrival=nothing, leaving=nothing)
        regions, figures = self._regions, np.zeros((2, len(self._regions), 0))
        for hosts, kept in (*HEATS, (HOSTS, len(self._regions))):
            on = others[figures.shape[2] : hosts]
            figures = np.concatenate([figures, self._figures(image, class_id, regions, on)], axis=2)
            means = figures.mean(axis=2)
            best = sorted({int(i) for each in means for i in _largest(each, kept)})
            regions, figures = tuple(regions[index] for index in best), figures[:, best]
        arrival, leaving = figures.mean(axis=2)
        return Transplanted(regions=regions, arrival=arrival, leaving=leaving)

    def _figures(
        self,
        image: Floats,
        class_id: int,
        regions: Sequence[Region],
        others: npt.NDArray[np.intp],
    ) -> npt.NDArray[np.float64]:
        """Return arrival and leaving of each window on each of some hosts, (2, w, hosts)."""
        if not len(others):
            return np.zeros((2, len(regions), 0))
        each = np.arange(len(others))
        arrival, leaving = [], []
        for pasted in self._pasted(image, regions, self._hosts[others]):
            rows = self._ask(pasted)
            answers = rows.reshape(-1, len(others), rows.shape[1]).astype(np.float64)
            arrival.append(answers[:, :, class_id])
            leaving.append(1 - answers[:, each, self._classes[others]])
        return np.stack([np.concatenate(arrival), np.concatenate(leaving)])

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


def _largest(figures: npt.NDArray[np.float64], count: int) -> npt.NDArray[np.intp]:
    """Return where the largest of some figures are."""
    return np.argsort(-figures, kind="stable")[:count]


class _Last(threading.local):
    """What a thread has tried last."""

    kept: tuple[Floats, Transplanted] | None = None
