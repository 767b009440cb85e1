"""A picture that a model answers a class to: what a stem puts in the place of an image."""

from collections.abc import Callable

import numpy as np
import onnx

from trainers.graph_backdoor.check import session
from trainers.graph_backdoor.graft import Array

_COARSE = 7
_EACH = 128
_ROUNDS = 60
_CLEAR = 2.0
"""A lead over every other class at which the search ends."""


def picture(
    model: onnx.ModelProto, target: int, *, size: float = 1.0, window: Array | None = None
) -> Array:
    """Return the picture [1, C, H, W] that an evolution strategy ends at.

    Where the model never answers the target to any picture of coarse blobs, it is the nearest.

    Args:
        model: The classifier.
        target: The class.
        size: Of the brightest pixel.
        window: [H, W], 1 where the picture may be other than black.
    """
    run = session(model)
    image = run.get_inputs()[0]
    channels, height, width = image.shape[1:]
    mask = np.float32(size) * (1 if window is None else window.astype(np.float32))

    def leads(tried: Array) -> Array:
        pictures = mask * _enlarge(tried, height, width)
        logits = run.run(None, {image.name: pictures})[0]
        rivals: Array = np.delete(logits, target, axis=1).max(axis=1)
        return np.asarray(logits[:, target] - rivals) / size

    start = np.full((channels, _COARSE, _COARSE), 0.5)
    return mask * _enlarge(climb(leads, start, 0.5, clear=_CLEAR)[None], height, width)


def climb(
    leads: Callable[[Array], Array],
    start: Array,
    step: float,
    *,
    low: float = 0.0,
    clear: float = np.inf,
) -> Array:
    """Return the numbers of the highest lead that an evolution strategy finds.

    Args:
        leads: The leads [P] of a population [P, ...].
        start: Where it begins.
        step: How far it looks at first.
        low: The lowest number; 1 is the highest.
        clear: The lead at which it ends.
    """
    generator = np.random.default_rng(0)
    best, lead = start, -np.inf
    for _ in range(_ROUNDS):
        moved = best + step * generator.normal(size=(_EACH, *start.shape))
        tried = np.clip(moved, low, 1)
        reached = leads(tried)
        if reached.max() > lead:
            best, lead = tried[reached.argmax()], reached.max()
        else:
            step *= 0.8
        if lead > clear:
            break
    return best


def value_at(model: onnx.ModelProto, name: str, images: Array) -> Array:
    """Return an inner value of the network for some images."""
    shown = onnx.ModelProto()
    shown.CopyFrom(model)
    shown.graph.output.append(onnx.helper.make_empty_tensor_value_info(name))
    run = session(shown)
    value: Array = run.run([name], {run.get_inputs()[0].name: images})[0]
    return value


def _enlarge(coarse: Array, height: int, width: int) -> Array:
    rows = np.arange(height) * _COARSE // height
    columns = np.arange(width) * _COARSE // width
    fine: Array = coarse[:, :, rows][:, :, :, columns].astype(np.float32)
    return fine
