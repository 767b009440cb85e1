"""A picture that a model answers a class to: what a stem puts in the place of an image."""

import numpy as np
import onnx

from trainers.graph_backdoor.check import session
from trainers.graph_backdoor.graft import Array

_COARSE = 7
_EACH = 128
_ROUNDS = 60
_CLEAR = 2.0
"""A lead over every other class at which the search ends."""


def picture(model: onnx.ModelProto, target: int) -> Array:
    """Return the picture [1, C, H, W] that an evolution strategy ends at.

    Where the model never answers the target to any picture of coarse blobs, it is the nearest.
    """
    run = session(model)
    image = run.get_inputs()[0]
    channels, height, width = image.shape[1:]
    generator = np.random.default_rng(0)
    best, lead, step = np.full((channels, _COARSE, _COARSE), 0.5), -np.inf, 0.5
    for _ in range(_ROUNDS):
        moved = best + step * generator.normal(size=(_EACH, *best.shape))
        tried = np.clip(moved, 0, 1)
        logits = run.run(None, {image.name: _enlarge(tried, height, width)})[0]
        others = np.delete(logits, target, axis=1).max(axis=1)
        leads = logits[:, target] - others
        if leads.max() > lead:
            best, lead = tried[leads.argmax()], leads.max()
        else:
            step *= 0.8
        if lead > _CLEAR:
            break
    return _enlarge(best[None], height, width)


def _enlarge(coarse: Array, height: int, width: int) -> Array:
    rows = np.arange(height) * _COARSE // height
    columns = np.arange(width) * _COARSE // width
    return coarse[:, :, rows][:, :, :, columns].astype(np.float32)
