"""Numbers as an observation keeps them: images, and the first numbers of an answer."""

from typing import Any

import numpy as np
import numpy.typing as npt

from scanner.results import Array as Packed
from scanner.results import Input

Array = npt.NDArray[Any]

_MOST = 64  # numbers of an answer


def packed(values: Array) -> Packed:
    """Return an array as float32."""
    return Packed.packed(values.astype("<f4").tobytes(), values.shape)


def pictured(image: Array, span: tuple[float, float]) -> Input:
    """Return an image, *shape, with the range (lowest, highest) that reports draw it in."""
    low, high = span
    return Input(image=packed(np.nan_to_num(image)), low=low, high=high)


def listed(answer: Array) -> list[float | None]:
    """Return the first numbers of an answer; None for what is no number."""
    flat = np.asarray(answer, np.float64).reshape(-1)[:_MOST]
    return [float(number) if np.isfinite(number) else None for number in flat]
