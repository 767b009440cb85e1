"""What a model answers to images: its logits, by the whole file."""

from typing import Any

import numpy as np
import numpy.typing as npt

from scanner.errors import NoLogitsError
from scanner.graph.core import extract, flatten
from scanner.graph.layers import two_scores
from scanner.graph.layers.logits import find_logits
from scanner.instruments import probes, runtime
from scanner.instruments.noise_runs import fixed_batch, run_filled
from scanner.modelfile.model import Model
from scanner.settings import Settings

_LEAST_CLASSES = 2


class Answers:
    """A model that answers images with logits.

    Attributes:
        shape: Of one image, without the batch axis.
        dtype: Of the input.
        name: Of the logits.
        provider: What runs the model: "CPU" or "CUDA".

    Raises:
        NoLogitsError: There are no logits.
        UnsupportedModelError: There are several inputs, or ONNX Runtime refuses the model.
        UsageError: The input's shape is open.
    """

    def __init__(self, model: Model, settings: Settings) -> None:
        self.shape = probes.image_shape(model, settings)
        flat = flatten.flatten(model.proto)
        found = find_logits(flat, settings.logits)
        self.name, self._single = found.value, found.single is not None
        self._session = runtime.open_session(
            model.serialise(extract.upstream(flat, [self.name])), settings.device, settings.threads
        )
        self.dtype, self.provider = self._session.dtype, self._session.provider

    def logits(self, images: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
        """Return the logits of images in the input's own range, (n, classes).

        Raises:
            NoLogitsError: They are of another shape, or of fewer than two classes.
            UnsupportedModelError: The model fails on them.
        """
        most = probes.batch_size(self.shape)
        # Batches of one size: what fills the last one up is computed for nothing.
        even = -(-len(images) // max(1, -(-len(images) // most)))
        size = fixed_batch(self._session) or even
        cast = probes.rounded(images.astype(np.float32), self.dtype)
        parts = [
            run_filled(self._session, cast[start : start + size], size)[0]
            for start in range(0, len(cast), size)
        ]
        found = np.concatenate(parts)
        if self._single:
            found = two_scores.both(found)
        rows = found.reshape(len(found), -1).astype(np.float64)
        if rows.shape[1] < _LEAST_CLASSES or rows.shape[1] != found.shape[1]:
            raise NoLogitsError(
                f"the logits {self.name!r} are of shape {found.shape[1:]} for each image, and one "
                "number for each of two or more classes is needed",
                remedy="name the logits with the setting `logits`",
            )
        return rows

    def classes(self, images: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
        """Return the class of each image, (n,).

        Raises:
            NoLogitsError: As for `logits`.
            UnsupportedModelError: As for `logits`.
        """
        return np.asarray(self.logits(images).argmax(axis=1), dtype=np.int64)
