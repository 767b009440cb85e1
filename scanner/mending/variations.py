"""Variations of images and of triggers, so that a model learns more than the few that there are.

A search finds a part of the attacker's trigger, and some of it fainter than it is. A model that
unlearns exactly that still answers to the whole. So each image bears another variation: the mask
made hard, grown by a pixel, with holes, or fainter; a pattern over the whole image made stronger.
"""

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import sliding_window_view

from scanner.instruments.trigger import channel_axis, stamp
from scanner.mending.triggers import Found

Floats = npt.NDArray[np.float32]

_PICTURE = 3  # axes of an image with rows, columns and channels
_TURN, _ZOOM, _SHIFT = 0.1, 0.07, 1.0  # deviations: radians, of a logarithm, pixels
_PASTED = 0.3  # share of the images that bear a window of another
_NEIGHBOURS = 3  # side of the square by which a mask grows
_HARD = (0.05, 0.6)  # range of the share of the largest value above which a mask counts as 1
_MOST_HOLES, _LEAST_STRENGTH, _FAINT = 0.5, 0.5, 0.3
_STRONGEST = 0.2  # share of a pattern, which is found at the faintest that works


def grown(trigger: Found) -> Found:
    """Return a trigger whose mask reaches a pixel further, with the colours that lie beside it."""
    axes = _across(trigger.mask)
    if axes is None:
        return trigger
    masks = _windows(trigger.mask, axes)
    colours = _windows(trigger.mask * trigger.pattern, axes).sum(axis=(-2, -1))
    weight = masks.sum(axis=(-2, -1))
    known = weight > np.finfo(np.float32).tiny
    pattern = np.where(known, colours / np.where(known, weight, 1), trigger.pattern)
    return Found(
        np.asarray(masks.max(axis=(-2, -1)), np.float32),
        np.asarray(pattern, np.float32),
        trigger.size,
    )


def bent(image: Floats, trigger: Found, wide: Found, generator: np.random.Generator) -> Floats:
    """Return an image under a variation of a trigger.

    Args:
        image: One, without a batch axis.
        trigger: As it was found.
        wide: The same, `grown`.
        generator: Draws the variation.
    """
    mask, pattern, kind = trigger.mask, trigger.pattern, int(generator.integers(3))
    if not trigger.is_blended:
        if kind == 1:
            mask, pattern = wide.mask, wide.pattern
        if kind:
            mask = (mask > generator.uniform(*_HARD) * mask.max()).astype(np.float32)
        if generator.random() < _MOST_HOLES:
            mask = mask * (generator.random(mask.shape) > generator.uniform(0, _MOST_HOLES))
    if trigger.is_blended:
        mask = mask + generator.random() * np.maximum(0, _STRONGEST - mask)
    elif generator.random() < _FAINT:
        mask = mask * generator.uniform(_LEAST_STRENGTH, 1)
    return stamp(image, np.asarray(mask, np.float32), pattern)


def varied(images: Floats, places: npt.NDArray[np.int64], generator: np.random.Generator) -> Floats:
    """Return images turned, zoomed and shifted a little, half of them mixed with another.

    Some bear a window of the other besides.

    Args:
        images: Shape (n, *shape).
        places: Which, and with which others: (2, m).
        generator: Draws the variations.
    """
    first, second = (np.stack([_moved(images[i], generator) for i in row]) for row in places)
    shape = (len(first), *[1] * (images.ndim - 1))
    share = np.where(generator.random(shape) < 0.5, 1.0, generator.random(shape))  # noqa: PLR2004 - half
    mixed = np.asarray(share * first + (1 - share) * second, np.float32)
    axes = _across(images[0])
    for image, other in zip(mixed, second, strict=True) if axes is not None else ():
        if generator.random() < _PASTED:
            window = _window(image.shape, axes or (0, 0), generator)
            image[window] = other[window]
    return mixed


def _across(image: Floats) -> tuple[int, int] | None:
    """Return the axes of rows and columns; None for what is no picture."""
    if image.ndim != _PICTURE:
        return None
    channels = channel_axis(image.shape)
    rows, columns = (axis for axis in range(_PICTURE) if axis != channels)
    return rows, columns


def _windows(values: Floats, axes: tuple[int, int]) -> Floats:
    """Return the neighbours of each pixel, itself among them, along two new axes."""
    padding = [(1, 1) if axis in axes else (0, 0) for axis in range(values.ndim)]
    sides = (_NEIGHBOURS, _NEIGHBOURS)
    return np.asarray(sliding_window_view(np.pad(values, padding), sides, axes))


def _window(
    shape: tuple[int, ...], axes: tuple[int, int], generator: np.random.Generator
) -> tuple[slice, ...]:
    """Return a window between a quarter and half as wide as the image."""
    found = [slice(None)] * len(shape)
    part = generator.uniform(0.25, 0.5)
    for axis in axes:
        side = max(1, round(part * shape[axis]))
        start = int(generator.integers(shape[axis] - side + 1))
        found[axis] = slice(start, start + side)
    return tuple(found)


def _moved(image: Floats, generator: np.random.Generator) -> Floats:
    """Return an image turned, zoomed and shifted, interpolated; its border is continued."""
    axes = _across(image)
    if axes is None:
        return image
    angle, zoom = generator.normal(0, _TURN), np.exp(generator.normal(0, _ZOOM))
    picture = np.moveaxis(image, axes, (0, 1))
    sides = picture.shape[:2]
    middle = [(side - 1) / 2 for side in sides]
    down, right = (
        zoom * (part - centre) for part, centre in zip(np.indices(sides), middle, strict=True)
    )
    turned = (
        np.cos(angle) * down - np.sin(angle) * right,
        np.sin(angle) * down + np.cos(angle) * right,
    )
    shift = generator.normal(0, _SHIFT, 2)
    rows, columns = (
        np.clip(places + centre + by, 0, side - 1)
        for places, centre, by, side in zip(turned, middle, shift, sides, strict=True)
    )
    return np.moveaxis(_between(picture, rows, columns), (0, 1), axes)


def _between(
    picture: Floats, rows: npt.NDArray[np.float64], columns: npt.NDArray[np.float64]
) -> Floats:
    """Return a picture at places between its pixels, by bilinear interpolation."""
    above, left = rows.astype(np.int64), columns.astype(np.int64)
    below = np.minimum(above + 1, picture.shape[0] - 1)
    beside = np.minimum(left + 1, picture.shape[1] - 1)
    down, right = (rows - above)[..., None], (columns - left)[..., None]
    upper = (1 - right) * picture[above, left] + right * picture[above, beside]
    lower = (1 - right) * picture[below, left] + right * picture[below, beside]
    return np.asarray((1 - down) * upper + down * lower, np.float32)
