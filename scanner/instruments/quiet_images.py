"""Images that leave most filters alone: smooth ones of all contrasts, half of them dark around."""

import dataclasses
from typing import Any

import numpy as np
import numpy.typing as npt

from scanner.instruments import probes
from scanner.instruments.forcing import Rig
from scanner.instruments.plane import Plane
from scanner.settings import Noise

_EDGE = 4
"""The part of a side that is dark at either end."""


def smooth(rig: Rig, plane: Plane, count: int) -> npt.NDArray[Any]:
    """Return so many smooth images in a model's type and range; every other one is dark around."""
    shape, (low, high) = rig.images.shape[1:], rig.span
    settings = dataclasses.replace(
        rig.subject.settings, noise=Noise.LOW_FREQUENCY, images=count, input_range=(0.0, 1.0)
    )
    whole = np.concatenate(list(probes.noise_batches(shape, np.dtype(np.float32), settings)))
    generator = np.random.default_rng(rig.subject.settings.seed)
    each = (-1, *[1] * len(shape))
    contrast = generator.uniform(0.1, 0.9, len(whole)).reshape(each)
    start = generator.uniform(0, 1, len(whole)).reshape(each) * (1 - contrast)
    images = plane.view((start + contrast * whole).astype(np.float32))
    for axis in (plane.rows, plane.columns):
        side = images.shape[axis + 1]
        inner = np.minimum(np.arange(side), np.arange(side)[::-1]) >= side // _EDGE
        images[1::2] *= inner.reshape(-1, *[1] * (images.ndim - axis - 2))
    unit = images.reshape(-1, *shape)
    return probes.rounded((low + (high - low) * unit).astype(np.float32), rig.dtype)
