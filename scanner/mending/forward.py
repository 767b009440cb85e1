"""A model's answers to images, and what of them a repair must not change."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from scanner.errors import UnsupportedModelError
from scanner.graph.core import flatten
from scanner.graph.core.draft import Proto
from scanner.graph.core.extract import upstream
from scanner.graph.gradient.real_input import real_input
from scanner.graph.layers.logits import find_logits
from scanner.graph.layers.two_scores import scored
from scanner.instruments import probes, runtime
from scanner.instruments.statistics import softmax
from scanner.modelfile.model import Model
from scanner.settings import Settings

Floats = npt.NDArray[np.float32]
_BATCH = 64


@dataclasses.dataclass(frozen=True, slots=True)
class Forward:
    """A session that computes values of a model.

    Attributes:
        session: It.
        values: Names of what it computes.
    """

    session: runtime.Session
    values: tuple[str, ...]

    def run(self, images: Floats) -> list[npt.NDArray[Any]]:
        """Return the values for images, (n, ...) each, in batches that the model takes.

        Of a value without an axis of images there is one for each batch.

        Raises:
            UnsupportedModelError: ONNX Runtime fails on them, or a value has other axes too that
                depend on how many images there are.
        """
        declared = self.session.input_shape[0] if self.session.input_shape else None
        size = declared if isinstance(declared, int) and declared > 0 else _BATCH
        parts: list[list[npt.NDArray[Any]]] = []
        for start in range(0, len(images), size):
            batch = probes.rounded(images[start : start + size], self.session.dtype)
            count = len(batch)
            if isinstance(declared, int) and count < size:
                batch = np.concatenate([batch, np.repeat(batch[-1:], size - count, axis=0)])
            found = self.session.run(batch, self.values)
            parts.append([np.atleast_1d(value)[:count] for value in found])
        for name, part in zip(self.values, zip(*parts, strict=True), strict=True):
            if len({value.shape[1:] for value in part}) > 1:
                raise UnsupportedModelError(
                    f"the shape of {name!r} depends on how many images the model is given",
                    remedy="export the model with one row of scores for each image",
                )
        return [np.concatenate(part) for part in zip(*parts, strict=True)]

    def scores(self, images: Floats) -> Floats:
        """Return the first value as rows, (n, classes)."""
        rows = self.run(images)[0]
        return rows.reshape(len(images), -1).astype(np.float32, copy=False)

    def classes(self, images: Floats) -> npt.NDArray[np.int64]:
        """Return the class of each image."""
        found: npt.NDArray[np.int64] = self.scores(images).argmax(axis=1)
        return found

    def probabilities(self, images: Floats) -> Floats:
        """Return the softmax of the first value."""
        return softmax(self.scores(images))


def flat_graph(model: Model) -> Proto:
    """Return a model's flat graph, complete, with an input of floating point.

    Raises:
        ModelError: Its data cannot be read.
        NoGradientError: Its input is an integer that it does not simply cast.
    """
    return real_input(flatten.flatten(model.complete(model.proto)))


def scorer(model: Model, settings: Settings) -> Forward:
    """Return what computes a model's logits.

    Raises:
        NoLogitsError: There are none.
        UnsupportedModelError: ONNX Runtime refuses the model.
    """
    flat = flat_graph(model)
    whole, scores = scored(flat, find_logits(flat, settings.logits))
    return reader(model, whole, [scores], settings)


def reader(model: Model, flat: Proto, values: Sequence[str], settings: Settings) -> Forward:
    """Return what computes values of a model's flat graph.

    Raises:
        UnsupportedModelError: ONNX Runtime refuses the model.
    """
    data = model.serialise(upstream(flat, values))
    session = runtime.open_session(data, settings.device, settings.threads)
    return Forward(session, tuple(values))
