"""What becomes of a model's answers when something in it is changed."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

MOST_NOTICED = 0.1
"""Share of the images whose answer may change when a dormant value is held where it mostly is."""
_AGREED = 0.9
"""Share of the answers that a decisive value brings into one class, or changes."""
VARIED = 0.25
"""Share of answers that must have been of other classes for one class to mean anything."""
_FAR = 1.5
"""A class leads by far where it leads by this many times the largest ordinary lead."""
_NOTICED = 0.05
"""Of the spread of an image's scores, the part by which they change noticeably."""


@dataclasses.dataclass(frozen=True, slots=True)
class Effect:
    """What a model answers when a value is forced.

    Attributes:
        decisive: Whether the forced value, and not the image, decides the answer.
        class_id: The class of nearly all forced answers; None where they are of several.
        changed: The share of images whose class changed.
        share: The share of images that were answered with that class, or with another than before.
    """

    decisive: bool
    class_id: int | None
    changed: float
    share: float

    @property
    def outcome(self) -> str:
        """What the model answers then, in words."""
        return "another class" if self.class_id is None else f"class {self.class_id}"


def effect(before: Sequence[Array], after: Sequence[Array]) -> Effect:
    """Compare what a model answers to images as they are and while a value is forced.

    One class for nearly all of them is decisive where the images are of several classes otherwise,
    or where it leads by far more than any class did. So is another class for nearly all of them.
    Scores that are all alike, or no numbers, decide nothing.
    """
    spoken = [_is_said(answer) for answer in after]
    if not spoken or np.mean(spoken) < _AGREED:
        return Effect(decisive=False, class_id=None, changed=0.0, share=0.0)
    old, new = (np.array([class_of(a) for a in answers]) for answers in (before, after))
    changed = float((old != new).mean())
    classes, counts = np.unique(new, return_counts=True)
    agreed = counts.max() >= _AGREED * len(new)
    target = int(classes[counts.argmax()]) if agreed else None
    led = min(map(lead, after)) > _FAR * max(map(lead, before))
    other = float((old != target).mean())
    decisive = (agreed and (led or other >= VARIED)) or (
        changed >= _AGREED and _is_mapping(old, new)
    )
    share = float(counts.max() / len(new)) if agreed else changed
    return Effect(decisive=bool(decisive), class_id=target, changed=changed, share=share)


def _is_mapping(old: npt.NDArray[np.int64], new: npt.NDArray[np.int64]) -> bool:
    """Whether each class has become one class."""
    kept = sum(np.unique(new[old == c], return_counts=True)[1].max() for c in np.unique(old))
    return bool(kept >= _AGREED * len(new) and len(np.unique(old)) > 1)


def noticed(before: Sequence[Array], after: Sequence[Array]) -> float:
    """Return the share of images whose answer differs noticeably."""
    return float(np.mean([differ(*pair) for pair in zip(before, after, strict=True)]))


def names_class(answer: Array, batch: int) -> bool:
    """Whether an answer names a class: scores of two or more, or one whole number, per image."""
    each = answer.size // batch
    if answer.dtype.kind in "iu":
        return each == 1
    scores = answer.shape[1] if answer.ndim > 1 else each
    return answer.dtype.kind == "f" and each == scores > 1


def differ_in_class(one: Array, other: Array) -> bool:
    """Whether two answers name different classes, and both name one."""
    return _is_said(one) and _is_said(other) and class_of(one) != class_of(other)


def has_say(answers: Sequence[Array], class_id: int) -> bool:
    """Whether images have a say in a class: a guard has one of its own for what it refuses."""
    scores = [_row(answer) for answer in answers]
    if scores[0].size <= class_id or answers[0].dtype.kind != "f":
        return True
    return len({float(row[class_id]) for row in scores}) > 1


def class_of(answer: Array) -> int:
    """Return the class that an answer to one image names: its highest score, or its number."""
    row = _row(answer)
    return int(row[0]) if row.size == 1 else int(row.argmax())


def _row(answer: Array) -> Array:
    """Return the answer to the first image of a batch, as one row."""
    whole = answer.reshape(1, -1) if answer.ndim < 2 else answer[:1]  # noqa: PLR2004 - (N, classes)
    return np.nan_to_num(whole.reshape(-1).astype(np.float64), posinf=1e300, neginf=-1e300)


def _is_said(answer: Array) -> bool:
    row = _row(answer)
    broken = answer.dtype.kind == "f" and bool(np.isnan(answer).any())
    return not broken and (row.size == 1 or _spread(answer) > 0)


def _spread(answer: Array) -> float:
    return float(np.ptp(_row(answer)))


def lead(answer: Array) -> float:
    """Return by how much the highest score of one image leads the next; 0 of a class number."""
    row = np.sort(_row(answer))
    return float(row[-1] - row[-2]) if row.size > 1 else 0.0


def differ(one: Array, other: Array) -> bool:
    """Whether two answers to one image differ: in class, or noticeably in their scores."""
    if class_of(one) != class_of(other):
        return True
    apart = np.abs(_row(one) - _row(other)).max()
    return bool(apart > _NOTICED * max(_spread(one), 1e-12)) if _row(one).size > 1 else False
