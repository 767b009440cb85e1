"""What a step takes of memory: seen before it is used.

ONNX Runtime asks for memory in pieces that double, and keeps them for the next run unless it is
told to give them back. So one run that keeps what it took shows what its images take, and nobody
has to watch while it runs. For more images that is up to twice as much as it will be.

It is not only the steps that take memory: what goes before them is the business of
`scanner.instruments.room`.
"""

import dataclasses

from scanner.instruments.differentiable import Differentiable, Floats
from scanner.instruments.room import held, highest
from scanner.values import frozen

SHARE = 0.75  # of the memory allowed: the rest is for what later detectors load
_ARRAYS = 3  # of a step's images that the loop on the host makes besides


@frozen
class Need:
    """What a process holds, and what a step takes besides.

    Attributes:
        held: Bytes that it holds without a step.
        highest: The most that it has held so far.
        each: Bytes for each image of a step.
    """

    held: int
    highest: int
    each: int

    def expected(self, images: int) -> int:
        """Return the most bytes that the process holds with so many images in a step."""
        return max(self.highest, self.held + self.each * images)

    def most(self, allowed: int) -> int:
        """Return how many images fit into the memory that is allowed; one, if none does."""
        return max(1, int(SHARE * allowed - self.held) // max(1, self.each))


def seen(model: Differentiable, images: Floats) -> Need | None:
    """Run images and return what they take; None where the system does not tell.

    Memory of a device is not seen: there a step that fails for want of it is taken in halves.

    Args:
        model: The classifier.
        images: A few, (n, *shape).

    Raises:
        UnsupportedModelError: The gradient is not a number.
    """
    keeping = dataclasses.replace(model.session, lean=False)
    before = held()
    if before is None or model.session.provider != "CPU":
        return None
    dataclasses.replace(model, session=keeping).evaluate(images, 0)
    after, reached = held(), highest()
    model.evaluate(images[:1], 0)  # gives back what was kept, unless all is
    if after is None or reached is None:
        return None
    run = model.fixed_batch or len(images)
    around = _ARRAYS * images[0].nbytes
    return Need(held=before, highest=reached, each=max(0, after - before) // run + around)
