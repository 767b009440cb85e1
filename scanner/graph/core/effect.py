"""How many numbers of a constant can have been trained, and how many were written by hand."""

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from scanner.graph.core.structure import numbers_of

Array = npt.NDArray[Any]

READABLE = 1 << 16
"""Constants of more elements are weights: their numbers are not read."""
_HANDFUL = 16
"""Different numbers that somebody may have written; a code of 4 bits has 15 beside zero."""
_SAMPLED, _GLANCED = 4096, 64
"""Numbers of a tensor that are looked at."""
_GOLDEN = (math.sqrt(5) - 1) / 2


def trained(tensor: onnx.TensorProto, size: int) -> int:
    """Return how many numbers of a tensor, of that size, can have been trained.

    Zeros, and numbers of which there are a handful, were written: an identity of a million numbers
    does not make what passes through it the work of a network. A sample of the numbers is looked
    at.
    """
    if tensor.external_data or not size:
        return size
    flat = _flat(tensor)
    if flat is None or not flat.size:
        return size
    # A look at a few numbers settles nearly all layers.
    if _different(flat, _GLANCED) > _GLANCED // 2:
        return size
    sample = _some(flat, _SAMPLED)
    different = _different(flat, _SAMPLED)
    return min(different, size) if different <= _HANDFUL else int(size * np.mean(sample != 0))


def _flat(tensor: onnx.TensorProto) -> Array | None:
    """Return the numbers of a tensor in a row; None where they are too many, or cannot be told."""
    if not tensor.raw_data:
        return None if math.prod(tensor.dims) > READABLE else numbers_of(tensor).reshape(-1)
    try:
        dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)
        return np.frombuffer(tensor.raw_data, dtype)
    except (KeyError, ValueError, TypeError):
        return None


def _some(flat: Array, count: int) -> Array:
    """Return some of the numbers: at steps of the golden ratio, which follow no row or column."""
    if flat.size <= count:
        return flat
    places = (np.arange(1, count + 1) * _GOLDEN % 1 * flat.size).astype(np.int64)
    return flat[places]


def _different(flat: Array, count: int) -> int:
    """Return how many different numbers but zero some of them are."""
    return len(set(_some(flat, count).tolist()) - {0})
