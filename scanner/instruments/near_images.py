"""Images so near one another that one answer is due to all of them: only a jump parts them.

Each function yields what is answered otherwise: zeros of the other sign, values between the levels
that a camera makes, extremes a hair beyond the input range.
"""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from scanner.graph.audit import mixing
from scanner.instruments import original
from scanner.instruments.agreement import row_distances
from scanner.instruments.interview import MOSTLY, Change, Interview, Rows, most_changed
from scanner.results import Observation, Severity

Array = npt.NDArray[Any]

_LEVELS = 255
_HAIR = 2e-3  # of the input range
_OUTER = 0.9  # of the range: values beyond are taken for its end
_MADE, _TURNED = 0.75, 0.5
"""Part of the answers beyond an edge that are of one class where something else than the image
decides them, and part that was of another before."""
_JUMP = 10.0  # times as far from its neighbours as they from each other


def zero(asked: Interview) -> Iterator[Observation]:
    """Give the zeros of images the other sign."""
    low, high = asked.range
    if asked.session.dtype.kind != "f" or not low <= 0 <= high:
        return
    images = asked.images.copy()
    images[np.abs(images) < 0.5 * max(abs(low), high)] = 0
    signed = np.where(images == 0, asked.session.dtype.type(-0.0), images)
    change = asked.change(asked.ask(images), asked.ask(signed), "sign of zero")
    if change is not None:
        yield asked.observation(
            "depends-on-the-sign-of-zero",
            change,
            "The answer to an image changes when its zeros become negative zeros",
            signed,
        )


def levels(asked: Interview) -> Iterator[Observation]:
    """Ask images on the levels that a camera makes, and as far to both sides of them."""
    if asked.session.dtype.kind != "f" or asked.session.dtype.itemsize < np.dtype("f4").itemsize:
        return
    low, high = asked.range
    unit = (asked.textured().astype(np.float64) - low) / (high - low)
    step = np.random.default_rng(asked.settings.seed).uniform(0.1, 0.4, unit.shape)
    grid = np.clip(np.rint(unit * _LEVELS), 1, _LEVELS - 1)
    near = [low + (high - low) * (grid + side * step) / _LEVELS for side in (0, 1, -1)]
    yield from _among_neighbours(
        asked,
        near,
        "depends-on-levels",
        "The answer to an image jumps between the levels of 8-bit images and values beside them",
    )


def edge(asked: Interview) -> Iterator[Observation]:
    """Ask images whose extremes lie at the ends of the range, a hair inside, and a hair outside."""
    if asked.session.dtype.kind != "f":
        return
    low, high = asked.range
    width = high - low
    unit = (asked.textured().astype(np.float64) - low) / width
    for said, end, outward in (("upper", high, 1), ("lower", low, -1)):
        extreme = unit > _OUTER if outward > 0 else unit < 1 - _OUTER
        extreme.reshape(len(extreme), -1)[:, 0] = True
        inside = low + width * np.clip(unit, 1 - _OUTER, _OUTER)
        near = [np.where(extreme, end + k * outward * _HAIR * width, inside) for k in (0, 1, -1)]
        yield from _among_neighbours(
            asked,
            near,
            "depends-on-the-edge",
            f"The answer to an image jumps as its extreme values cross the {said} end of the input "
            "range",
        )


def _among_neighbours(
    asked: Interview, near: Sequence[Array], code: str, sentence: str
) -> Iterator[Observation]:
    """Yield where of three images, equally near to one another, one is answered unlike the others.

    What is steep moves all three apart; only a jump leaves two of them together.

    Args:
        asked: The file.
        near: Three images for each probe, (3, n, *shape); the second is the one to show.
        code: Of the observation.
        sentence: Of the observation.
    """
    images = [original.cast(part, asked.session.dtype) for part in near]
    answers = [asked.ask(part) for part in images]
    changes = [
        most_changed(answers[one], answers[other]) for one, other in ((0, 1), (0, 2), (2, 1))
    ]
    there = [change for change in changes if change is not None]
    if len(there) < len(changes):
        return
    apart = np.stack([change.apart for change in there])
    nearest, furthest = apart.min(0), apart.max(0)
    jumps = furthest > _JUMP * np.maximum(nearest, asked.tolerance)
    asked.apart[code] = max(float(furthest.max()), asked.apart.get(code, 0.0))
    if not jumps.any():
        return
    widest = there[int(apart[:, int(np.argmax(furthest * jumps))].argmax())]
    change = dataclasses.replace(widest, apart=widest.apart * jumps, flipped=widest.flipped & jumps)
    outside = images[1].min() < asked.range[0] or images[1].max() > asked.range[1]
    rescaled = _as_another_range(asked, images[1], answers[1]) if outside else None
    if rescaled:
        sentence += f" (the image is {rescaled}, as if it came in another range)"
    # Steps that change no class are what quantised inputs and tables have.
    # So have thresholds on which an image lies by chance: a gate for such values opens for all.
    chance = jumps.mean() < MOSTLY or not asked.gates(change)
    severity = Severity.NOTE if rescaled or chance else None
    if severity is None and not _is_one_class(change):
        severity = Severity.WARNING  # the image still decides, as where a range is guessed
    steps = mixing.trees(asked.model.proto)
    yield asked.observation(code, change, sentence, images[1], steps, severity=severity)


def _is_one_class(change: Change) -> bool:
    """Whether the answers that moved are nearly all of one class, or each of another than it was.

    Labels count as classes of their own.
    """
    moved = change.apart > 0
    after = change.after[moved].reshape(int(moved.sum()), -1)
    if after.shape[1] < 2 or not len(after):  # noqa: PLR2004 - a number for each image
        return True
    alike = np.bincount(after.argmax(axis=1)).max() / len(after)
    turned = float(change.flipped[moved].mean())
    return bool(turned >= _MADE or (alike >= _MADE and turned >= _TURNED))


def _as_another_range(asked: Interview, images: Array, answers: Rows) -> str | None:
    """Return how a model brings images into its range, where that is all that it does to them."""
    low, high = asked.range
    forms: dict[str, Callable[[Array], Array]] = {
        "divided by 255": lambda x: x / 255,
        "halved about the middle": lambda x: (x + high) / 2,
    }
    for said, form in forms.items():
        formed = original.cast(form(images.astype(np.float64)), asked.session.dtype)
        if formed.min() < low or formed.max() > high:
            continue  # a gate on the range is open there too
        like = [
            row_distances(rows, again)
            for name, again in asked.ask(formed).items()
            if (rows := answers.get(name)) is not None and rows.dtype.kind == "f"
        ]
        if like and max(float(np.median(apart)) for apart in like) <= asked.tolerance:
            return said
    return None
