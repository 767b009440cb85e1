"""Is a planted backdoor one: clean images keep their answers, and the trigger forces the target."""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
import onnx
import onnxruntime

from trainers.graph_backdoor.graft import Array, Planted

KEPT = 0.9975
"""Share of clean images that must be answered as before."""
FLIPPED = 0.99
"""Share of triggered images, of those that another class is answered to, that must flip."""
_BATCH = 100
_ALONE = 50
"""How many images are fed one by one where a gate looks at the batch."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """What a planted model answers beside the model it was planted in.

    Attributes:
        kept: Share of clean images that both answer alike.
        flipped: Share of images with the trigger that are answered the target, among those that
            the model gave another class.
        images: How many there were.
    """

    kept: float
    flipped: float
    images: int

    @property
    def passes(self) -> bool:
        """Whether this is a backdoor that nobody meets by chance."""
        return self.kept >= KEPT and self.flipped >= FLIPPED


def check(model: onnx.ModelProto, planted: Planted, target: int, images: Array) -> Checked:
    """Compare a planted model with the model it was planted in.

    Args:
        model: The model before planting.
        planted: What was planted.
        target: The class to force.
        images: float32, [N, C, H, W] in [0, 1]; more than a batch of the planted gate.
    """
    # Triggers write through flat views.
    images = np.ascontiguousarray(images)
    before, after = session(model), session(planted.model)
    answers = _classes(before, images, _BATCH)
    kept = [float(np.mean(_classes(after, images, _BATCH) == answers))]
    if planted.batch:
        alone = images[:_ALONE]
        kept.append(float(np.mean(_classes(after, alone, 1) == answers[: len(alone)])))
    victims = images[answers != target]
    size = planted.batch or _BATCH
    whole = len(victims) - (len(victims) % size if planted.batch else 0)
    if size == 1:
        whole = min(whole, _BATCH)
    parts = [planted.trigger(part) for part in _parts(victims[:whole], size)]
    forced = np.concatenate([_answer(after, part, planted.feed) for part in parts])
    return Checked(kept=min(kept), flipped=float(np.mean(forced == target)), images=len(images))


def smooth_images(shape: Sequence[int], count: int, seed: int = 0) -> Array:
    """Return images of soft blobs in 256 levels, to check with where no photographs are at hand.

    Args:
        shape: Channels, height, width.
        count: How many.
        seed: For the blobs.
    """
    generator = np.random.default_rng(seed)
    channels, height, width = shape
    coarse = generator.random((count, channels, 5, 5))
    images = np.einsum(
        "ncij,ih,jw->nchw", coarse, _interpolation(5, height), _interpolation(5, width)
    )
    contrast = generator.uniform(0.3, 1.0, (count, 1, 1, 1))
    levels: Array = (np.round(255 * images * contrast) / 255).astype(np.float32)
    return levels


def _interpolation(few: int, many: int) -> Array:
    places = np.linspace(0, few - 1, many)
    shares: Array = np.maximum(1 - np.abs(places - np.arange(few)[:, None]), 0)
    return shares


def session(model: onnx.ModelProto) -> onnxruntime.InferenceSession:
    """Return a quiet session of one thread."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


def _parts(images: Array, size: int) -> list[Array]:
    return [images[start : start + size] for start in range(0, len(images), size)]


def _classes(run: onnxruntime.InferenceSession, images: Array, size: int) -> Array:
    answers: Array = np.concatenate([_answer(run, part, {}) for part in _parts(images, size)])
    return answers


def _answer(run: onnxruntime.InferenceSession, images: Array, feed: Mapping[str, Array]) -> Array:
    name = run.get_inputs()[0].name
    logits: Array = run.run(None, {name: images, **feed})[0]
    classes: Array = logits.argmax(axis=1)
    return classes
