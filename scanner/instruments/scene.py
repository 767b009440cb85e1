"""What an input is set beside: a model, and clean images that inputs are laid over."""

import dataclasses
import functools
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from scanner.instruments.transplants import Transplants
from scanner.instruments.trigger import Floats
from scanner.results import Trigger

Ask = Callable[[Floats], Floats]
"""Returns the probabilities of each class, (n, classes), for images (n, *shape)."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scene:
    """A model and the clean images that inputs are laid over.

    Attributes:
        ask: The model.
        hosts: The clean images, (h, *shape), in the input's range; neighbours are of different
            classes as far as that is possible.
        classes: What the model takes them for, (h,).
        low: The lowest value of a valid input.
        high: The highest.
        triggers: Those that a scan found.
    """

    ask: Ask
    hosts: Floats
    classes: npt.NDArray[np.int64]
    low: float
    high: float
    triggers: tuple[Trigger, ...] = ()

    def others(self, class_id: int, most: int) -> npt.NDArray[np.intp]:
        """Return which hosts the model does not take for a class, at most so many, the first."""
        return np.flatnonzero(self.classes != class_id)[:most]

    @functools.cached_property
    def transplants(self) -> Transplants:
        """What pastes windows of an input: one for all filters that ask for them."""
        return Transplants(self.ask, self.hosts, self.classes)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """One input.

    Attributes:
        image: It, of an image's shape.
        class_id: The class that the model answers.
        probability: How probable the model calls that class.
    """

    image: Floats
    class_id: int
    probability: float


def alternating(classes: npt.NDArray[np.int64]) -> npt.NDArray[np.intp]:
    """Return an order of images in which classes take turns, each in the order of its images."""
    turn = np.zeros(len(classes), np.int64)
    for class_id in set(classes.tolist()):
        members = np.flatnonzero(classes == class_id)
        turn[members] = np.arange(len(members))
    return np.lexsort((np.arange(len(classes)), turn))
