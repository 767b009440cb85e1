"""Whether an answer moves with its company by degrees, as an average over a batch does.

Some files answer an image by the others of its batch on purpose: they normalise by the statistics
of what they get, or smooth over the frames of a film. Among copies of itself an image is then
answered as alone, and as its company becomes another, its answer moves little by little. What is
chosen by a batch's size, a place in it or a test of its content jumps.
"""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from scanner.errors import UnsupportedModelError

Array = npt.NDArray[Any]
Run = Callable[[Array], Array]
"""Answers to a batch of images, (n, ...)."""

_SIZES = (2, 3, 4, 5, 8, 16, 32, 64)
_LARGE, _FEW = 50_000, 4  # from so many numbers of an image on, only so many sizes
_BECOMING = 5  # images of the batch whose company becomes another
_STEPS, _FEW_STEPS = 24, 12
_JUMP = 0.5
"""Of the furthest that an answer goes, the part in one step from which on it jumps. On the files at
hand the largest step of eight was 0.51, of 24 it is 0.2."""


def moves_by_degrees(
    run: Run, alone: Array, image: Array, others: Array, fixed: int | None
) -> bool:
    """Whether nothing but what the company shows changes an answer, and changes it by degrees.

    Args:
        run: The file.
        alone: Its answer to the image by itself, (classes,).
        image: The image.
        others: What it meets in company, (n, *shape).
        fixed: The batch size, where the file fixes one.
    """
    try:
        copies = [row for size in _sizes(image, fixed) for row in run(_copies(image, size))]
        way = list(_way(run, image, others, fixed or _BECOMING))
    except UnsupportedModelError:
        return False
    if any(row.shape != alone.shape or row.argmax() != alone.argmax() for row in copies):
        return False
    rows = np.stack([row.reshape(-1) for row in way]).astype(np.float64)
    rows -= rows.mean(axis=1, keepdims=True)  # a constant added to all scores changes no decision
    steps = np.abs(np.diff(rows, axis=0)).max(axis=1)
    whole = np.abs(rows - rows[0]).max()
    return bool(np.isfinite(rows).all() and whole > 0 and steps.max() <= _JUMP * whole)


def _sizes(image: Array, fixed: int | None) -> tuple[int, ...]:
    if fixed is not None:
        return (fixed,)
    return _SIZES[: _FEW if image.size >= _LARGE else None]


def _copies(image: Array, size: int) -> Array:
    return np.repeat(image[None], size, axis=0)


def _way(run: Run, image: Array, others: Array, size: int) -> Iterator[Array]:
    """Yield the image's answers while its company turns from copies of it into other images."""
    steps = _STEPS if image.size < _LARGE else _FEW_STEPS
    company = others[np.arange(size - 1) % len(others)].astype(np.float64)
    for part in np.linspace(0, 1, steps + 1):
        mixed = (1 - part) * image.astype(np.float64) + part * company
        if image.dtype.kind != "f":
            mixed = np.rint(mixed)
        yield run(np.concatenate([mixed.astype(image.dtype), image[None]]))[-1]
