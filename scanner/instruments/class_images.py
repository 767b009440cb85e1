"""Images of several classes, made by the model itself where noise is all of one.

Whether a value decides the class shows on images of other classes. Many networks answer all noise
alike; then ordinary images are moved along the gradient until the model prefers another class as
clearly as it prefers the usual one.
"""

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from scanner.errors import NoGradientError, UnsupportedModelError
from scanner.graph.gradient.backward import GradientModel, gradient_model
from scanner.instruments.runtime import Session

if TYPE_CHECKING:
    from scanner.instruments.forcing import Rig

Array = npt.NDArray[Any]

_STEPS = 16
_STEP = 0.06
"""Of the input range, for the first step of an ascent."""
_MOST_CLASSES = 12


def of_other_classes(rig: "Rig", usual: int, lead: float) -> list[Array]:
    """Return images that a model answers with other classes than its usual one, a few at most.

    Args:
        rig: The model.
        usual: The class that it gives to most ordinary images.
        lead: By how much the class of each must lead.

    Raises:
        WorkerTimeoutError: The time ran out.
    """
    if rig.dtype.kind != "f":
        return []
    try:
        model = gradient_model(rig.flat, of=rig.answer, with_respect_to=[rig.image])
        session = rig.opened(model.proto)
    except (NoGradientError, UnsupportedModelError):
        return []
    classes = [c for c in range(rig.answers(1)[0].shape[-1]) if c != usual]
    chosen = classes if len(classes) <= _MOST_CLASSES else classes[:: len(classes) // _MOST_CLASSES]
    starts = rig.images[rig.patterned]
    found = []
    for place, class_id in enumerate(chosen[:_MOST_CLASSES]):
        image = _ascent(rig, model, session, starts[place % len(starts)], class_id, lead)
        if image is not None:
            found.append(image)
    return found


def _ascent(  # noqa: PLR0913 - a model in two parts, and where to go
    rig: "Rig",
    model: GradientModel,
    session: Session,
    start: Array,
    class_id: int,
    lead: float,
) -> Array | None:
    """Return the first image on an ascent whose class leads by enough; None where none does."""
    low, high = rig.span
    names = [output.name for output in session.native.get_outputs()]
    image = start.astype(np.float32)
    for step in range(_STEPS):
        rig.check()
        made = rig.answer_to(image.astype(rig.dtype))
        scores = made[0].astype(np.float64)
        others = np.where(np.arange(len(scores)) == class_id, -np.inf, scores)
        if scores[class_id] - others.max() >= lead:
            return image.astype(rig.dtype)
        weights = np.zeros(made.shape, np.float32)
        weights[:, class_id], weights[:, int(others.argmax())] = 1, -1
        feeds = {rig.image: rig.filled(image.astype(rig.dtype)), model.weights: weights}
        slope = dict(zip(names, session.feed(feeds), strict=True))[model.gradients[rig.image]][0]
        if not np.isfinite(slope).all() or not slope.any():
            return None
        size = (high - low) * _STEP * (1 - step / (2 * _STEPS))
        image = np.clip(image + size * np.sign(slope), low, high).astype(np.float32)
    return None
