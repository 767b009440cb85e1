"""Numbers as an observation keeps them: images, classes, and the first numbers of an answer."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from scanner.results import Array as Packed
from scanner.results import Input

Array = npt.NDArray[Any]

_MOST = 64  # numbers of an answer
_LAST_CLASS = 2**31 - 1  # that a result can name
_MOST_CHANGED = 0.5  # of an image, by a change that is tried on others


def packed(values: Array) -> Packed:
    """Return an array as float32."""
    return Packed.packed(values.astype("<f4").tobytes(), values.shape)


@dataclasses.dataclass(frozen=True, slots=True)
class Answered:
    """What a model answers to an image that shows something, and to the one it was made from.

    Attributes:
        after: The answer to the image.
        without: The answer without what it shows.
        original: The image that it was made from, *shape; None where there is none.
        before: The answer to that.
        success: The share of other images that the same change turns into the class.
    """

    after: Array | None = None
    without: Array | None = None
    original: Array | None = None
    before: Array | None = None
    success: float | None = None


def pictured(image: Array, span: tuple[float, float], answered: Answered | None = None) -> Input:
    """Return an image, *shape, with the range (lowest, highest) that reports draw it in."""
    low, high = span
    answered = answered or Answered()
    first = answered.original
    return Input(
        image=packed(np.nan_to_num(image)),
        low=low,
        high=high,
        original=None if first is None else packed(np.nan_to_num(first)),
        class_before=class_in(answered.before),
        class_after=class_in(answered.after),
        class_without=class_in(answered.without),
        success=answered.success,
    )


def class_in(answer: Array | None) -> int | None:
    """Return the class that an answer to one image, or to a batch of it, names; None without one.

    That is the highest of several scores, or a single whole number.
    """
    if answer is None or not answer.size:
        return None
    row = answer[0] if answer.ndim > 1 else answer
    if row.dtype.kind == "f":
        scores = row.size > 1 and row.size == row.shape[0] and bool(np.isfinite(row).all())
        return int(row.argmax()) if scores else None
    number = int(row.reshape(-1)[0]) if row.dtype.kind in "iu" and row.size == 1 else -1
    return number if 0 <= number <= _LAST_CLASS else None


def changed_alike(images: Array, original: Array, image: Array) -> Array | None:
    """Return images with the change that makes one image of another, (n, *shape).

    None where more than half of the image changes: then what is left of the others is too little
    to speak of them.
    """
    mask = original != image
    return np.where(mask, image, images) if 0 < mask.mean() <= _MOST_CHANGED else None


def success(before: Sequence[Array], after: Sequence[Array], target: int | None) -> float | None:
    """Return the share of answers that become a class, of those that are not of it anyway."""
    if target is None:
        return None
    pairs = zip(before, after, strict=True)
    became = [class_in(new) == target for old, new in pairs if class_in(old) != target]
    return sum(became) / len(became) if became else None


def listed(answer: Array) -> list[float | None]:
    """Return the first numbers of an answer; None for what is no number."""
    flat = np.asarray(answer, np.float64).reshape(-1)[:_MOST]
    return [float(number) if np.isfinite(number) else None for number in flat]


def said(answer: Array) -> str:
    """Return an answer in words: its class where it is a row of scores, else its number."""
    flat = np.asarray(answer).reshape(-1)
    if flat.size > 1 and flat.dtype.kind == "f":
        return f"class {int(flat.argmax())}"
    return f"{float(flat[0]):.4g}" if flat.size else "nothing"
