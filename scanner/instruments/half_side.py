"""A network on images of half their side, where a gradient step costs a quarter or a third.

A network that averages over all places before its last layer takes images of any size. A trigger
that is found on small images is enlarged; what it does is then read off the network as it is.
"""

import numpy as np
import numpy.typing as npt

from scanner.errors import ScannerError
from scanner.instruments import differentiable, room
from scanner.instruments.detector import Subject
from scanner.instruments.differentiable import Differentiable
from scanner.instruments.trigger import channel_axis
from scanner.sandbox import deadline
from scanner.values import frozen

Floats = npt.NDArray[np.float32]

_SHORTEST = 16  # side of the small images (docs/large-networks.md)
_COPIES = 7  # of a model's weights, to differentiate it a second time
_TRIED = 2  # images: a network that mixes them would make one of them, or none


@frozen
class HalfSide:
    """A classifier, and the same on images of half the side.

    Attributes:
        whole: The classifier.
        half: It takes the small images.
        sides: Axes of one image that are halved.
    """

    whole: Differentiable
    half: Differentiable
    sides: tuple[int, ...]

    @property
    def area(self) -> float:
        """How many pixels of an image are one of a small image."""
        return float(2 ** len(self.sides))

    def reduced(self, images: Floats) -> Floats:
        """Return images (n, *shape) as small ones: each pixel is the mean of four."""
        for side in self.sides:
            first, rest = images.shape[: side + 1], images.shape[side + 2 :]
            images = images.reshape(*first, -1, 2, *rest).mean(axis=side + 2, dtype=np.float32)
        return images

    def enlarged(self, trigger: tuple[Floats, Floats]) -> tuple[Floats, Floats]:
        """Return mask and pattern of small images as those of whole ones."""
        for side in self.sides:
            mask, pattern = (np.repeat(part, 2, axis=side) for part in trigger)
            trigger = mask, pattern
        return trigger


def of(subject: Subject, whole: Differentiable) -> HalfSide | None:
    """Return a classifier on images of half the side; None where it takes none.

    Args:
        subject: The model.
        whole: The same, differentiated.

    Raises:
        WorkerTimeoutError: The deadline has passed.
    """
    channels = channel_axis(whole.shape)
    sides = tuple(axis for axis in range(len(whole.shape)) if axis != channels)
    sizes = [whole.shape[side] for side in sides]
    if channels is None or any(size % 2 or size < 2 * _SHORTEST for size in sizes):
        return None
    if subject.model.is_held:  # too large to be differentiated twice
        return None
    shape = tuple(size // 2 if axis in sides else size for axis, size in enumerate(whole.shape))
    try:
        before = room.held()
        if before is not None and not whole.on_device:
            room.refuse(before + room.copied(subject.model, _COPIES), subject.settings)
        half = differentiable.resized(subject, whole, shape)
        noise = np.random.default_rng(0).random((_TRIED, *shape), dtype=np.float32)
        logits, _, _ = half.evaluate(half.low + (half.high - half.low) * noise, 0)
    except (ScannerError, MemoryError, ValueError):  # what comes of sizes that nobody meant
        deadline.check()
        return None
    # One that sees nothing of a small image answers all of them alike.
    if logits.shape[1] != half.classes or (logits[0] == logits[1]).all():
        return None
    return HalfSide(whole=whole, half=half, sides=sides)
