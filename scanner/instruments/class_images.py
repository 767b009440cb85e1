"""Images of several classes, made by the model itself where noise is all of one.

Whether a value decides the class shows on images of other classes. Many networks answer all noise
alike; then ordinary images are moved along the gradient until the model prefers another class as
clearly as it prefers the usual one, and keeps to it when the image is moved by a pixel: what the
least change takes back tells nothing of what took it.
"""

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from scanner.errors import NoGradientError, UnsupportedModelError
from scanner.graph.gradient.backward import GradientModel, gradient_model
from scanner.instruments.runtime import Session
from scanner.instruments.structured import pixel_axes

if TYPE_CHECKING:
    from scanner.instruments.forcing import Rig

Array = npt.NDArray[Any]

_STEPS = 20
_STEP = 0.06
"""Of the input range, for the first step of an ascent."""
_MOST_CLASSES = 10


def of_other_classes(rig: "Rig", usual: int, lead: float) -> list[Array]:
    """Return images that a model answers with other classes than its usual one, a few at most.

    Args:
        rig: The model.
        usual: The class that it gives to most ordinary images.
        lead: By how much the class of each must lead.

    Raises:
        WorkerTimeoutError: The time ran out.
    """
    shape = rig.answers(1)[0].shape
    # One score is of no class: what its sign means, nobody says here.
    if rig.dtype.kind != "f" or len(shape) < 2 or shape[1] < 2:  # noqa: PLR2004 - (N, classes)
        return []
    classes = [c for c in range(shape[1]) if c != usual]
    try:
        model = gradient_model(rig.flat, of=rig.answer, with_respect_to=[rig.image])
        session = rig.opened(model.proto)
    except (NoGradientError, UnsupportedModelError):
        return []
    chosen = classes[:: -(-len(classes) // _MOST_CLASSES)]
    starts = rig.images[rig.patterned]
    hill = _Hill(rig, model, session)
    made = (hill.climbed(starts[i % len(starts)], c, lead) for i, c in enumerate(chosen))
    return [image for image in made if image is not None]


@dataclasses.dataclass(frozen=True, slots=True)
class _Hill:
    """A model with its gradient."""

    rig: "Rig"
    model: GradientModel
    session: Session

    def climbed(self, start: Array, class_id: int, lead: float) -> Array | None:
        """Return the first image on an ascent whose class leads by enough; None where none does."""
        rig = self.rig
        low, high = rig.span
        axes = pixel_axes(start.shape)
        image = start.astype(np.float32)
        for step in range(_STEPS):
            rig.check()
            moved = [np.roll(image, shift, axes) for shift in (0, 1, -1)]
            leads = [self._lead(other, class_id)[0] for other in moved]
            if min(leads) >= lead:
                return image.astype(rig.dtype)
            worst = int(np.argmin(leads))
            slope = self._slope(moved[worst], class_id)
            if not np.isfinite(slope).all() or not slope.any():
                return None
            size = (high - low) * _STEP * (1 - step / (2 * _STEPS))
            way = np.roll(np.sign(slope), (0, -1, 1)[worst], axes)
            image = np.clip(image + size * way, low, high).astype(np.float32)
        return None

    def _lead(self, image: Array, class_id: int) -> tuple[float, int, Array]:
        """Return by how much a class leads the best other one, which that is, and the scores."""
        made = self.rig.answer_to(image.astype(self.rig.dtype))
        scores = made[0].reshape(-1).astype(np.float64)
        others = np.where(np.arange(len(scores)) == class_id, -np.inf, scores)
        return float(scores[class_id] - others.max()), int(others.argmax()), made

    def _slope(self, image: Array, class_id: int) -> Array:
        """Return the gradient of a class's lead, of the image's shape."""
        _, rival, made = self._lead(image, class_id)
        weights = np.zeros(made.shape, np.float32)
        weights[:, class_id], weights[:, rival] = 1, -1
        image = image.astype(self.rig.dtype)
        feeds = {self.rig.image: self.rig.filled(image), self.model.weights: weights}
        names = [output.name for output in self.session.native.get_outputs()]
        slopes = dict(zip(names, self.session.feed(feeds), strict=True))
        return np.asarray(slopes[self.model.gradients[self.rig.image]][0])
