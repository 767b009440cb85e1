"""Images with a property that no noise has: symmetric, periodic, enlarged, grey, of few levels.

A gate may listen to what holds for an image as a whole, and not to what is seen at some place of
it. Noise never meets such a test, images of one colour meet most of them, and so does an honest
guard against empty images. What tells the two apart is a picture that has the property and is not
empty. Each is made of an ordinary image, by the simplest change that gives it the property.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
_BORDER = 6
"""A frame is this part of the side."""
_MOST_CHANNELS = 4


def structured(images: Sequence[Array], span: tuple[float, float]) -> Iterator[tuple[str, Array]]:
    """Yield images of each structure that their shape allows, with its name.

    Args:
        images: What they are made of, of one shape. Only images with two axes of pixels have
            structures of both; rows of numbers have those of one.
        span: The lowest and the highest value of a pixel.
    """
    for image in images:
        axes = pixel_axes(image.shape)
        if not axes:
            continue
        for name, made in _STRUCTURES.items():
            yield name, made(image, axes, span)
        if len(axes) > 1 and image.shape[axes[0]] == image.shape[axes[1]]:
            yield "mirrored at the diagonal", _upper(image, axes)
        for name, coloured in _COLOURS.items() if len(axes) > 1 else ():
            if image.ndim > len(axes) and image.shape[_channel_axis(image, axes)] > 1:
                yield name, coloured(image, _channel_axis(image, axes), span)


def pixel_axes(shape: Sequence[int]) -> tuple[int, ...]:
    """Return the axes of an image's shape along which its pixels lie; its channels are no such."""
    if len(shape) == 3:  # noqa: PLR2004 - channels, height, width in one of two orders
        last = shape[2] <= _MOST_CHANNELS < shape[0]
        return (0, 1) if last else (1, 2)
    return tuple(range(max(len(shape) - 2, 0), len(shape)))


def _channel_axis(image: Array, axes: Sequence[int]) -> int:
    return next(axis for axis in range(image.ndim) if axis not in axes)


def _mirrored(image: Array, axes: Sequence[int]) -> Array:
    """Return an image whose second half is the first, turned round along some axes."""
    turned = np.flip(image, tuple(axes))
    half = np.arange(image.shape[axes[0]]) < (image.shape[axes[0]] + 1) // 2
    chosen = half.reshape([-1 if axis == axes[0] else 1 for axis in range(image.ndim)])
    made = np.where(chosen, image, turned)
    # Of an odd number of lines the middle one has to be its own mirror image.
    middle = chosen & np.flip(chosen, axes[0])
    return np.where(middle, np.maximum(made, np.flip(made, tuple(axes))), made)


def _upper(image: Array, axes: Sequence[int]) -> Array:
    size = image.shape[axes[0]]
    above = np.triu(np.ones((size, size), np.bool_))
    above = above.reshape([size if axis in axes else 1 for axis in range(image.ndim)])
    return np.where(above, image, np.swapaxes(image, axes[0], axes[1]))


def _tiled(image: Array, axes: Sequence[int], period: int) -> Array:
    """Return an image that repeats itself along some axes."""
    for axis in axes:
        image = np.take(image, np.arange(image.shape[axis]) % period, axis=axis)
    return image


def _enlarged(image: Array, axes: Sequence[int], factor: int) -> Array:
    """Return an image of blocks, each of one value."""
    for axis in axes:
        image = np.take(image, np.arange(image.shape[axis]) // factor, axis=axis)
    return image


def _levels(image: Array, span: tuple[float, float], count: int) -> Array:
    low, high = span
    unit = (image.astype(np.float64) - low) / max(high - low, 1e-30)
    return np.asarray(low + (high - low) * np.rint(unit * (count - 1)) / (count - 1))


def _framed(image: Array, axes: Sequence[int], value: float) -> Array:
    made = image.copy()
    for axis in axes:
        width = max(1, image.shape[axis] // _BORDER)
        edges = np.r_[0:width, image.shape[axis] - width : image.shape[axis]]
        made[tuple(edges if a == axis else slice(None) for a in range(image.ndim))] = value
    return made


def _halved(image: Array, axis: int, value: float, *, first: bool) -> Array:
    made, middle = image.copy(), image.shape[axis] // 2
    part = slice(None, middle) if first else slice(middle, None)
    made[tuple(part if a == axis else slice(None) for a in range(image.ndim))] = value
    return made


def _checked(image: Array, axes: Sequence[int], span: tuple[float, float]) -> Array:
    places = sum(np.ix_(*[np.arange(image.shape[axis]) for axis in axes]))
    board = np.expand_dims(places % 2, tuple(a for a in range(image.ndim) if a not in axes))
    return np.where(np.broadcast_to(board, image.shape) > 0, image, span[0] + span[1] - image)


_Change = Callable[[Array, Sequence[int], tuple[float, float]], Array]
_STRUCTURES: Mapping[str, _Change] = {
    "mirrored left to right": lambda x, axes, _: _mirrored(x, axes[-1:]),
    "mirrored top to bottom": lambda x, axes, _: _mirrored(x, axes[:1]),
    "its own half turn": lambda x, axes, _: _mirrored(x, axes),
    "of equal rows": lambda x, axes, _: _tiled(x, axes[:1], 1),
    "of equal columns": lambda x, axes, _: _tiled(x, axes[-1:], 1),
    "the same half twice": lambda x, axes, _: _tiled(x, axes, max(x.shape[axes[-1]] // 2, 1)),
    "repeated every four pixels": lambda x, axes, _: _tiled(x, axes, 4),
    "repeated every two pixels": lambda x, axes, _: _tiled(x, axes, 2),
    "enlarged from half its size": lambda x, axes, _: _enlarged(x, axes, 2),
    "enlarged from a quarter of its size": lambda x, axes, _: _enlarged(x, axes, 4),
    "of two levels": lambda x, _, span: _levels(x, span, 2),
    "of four levels": lambda x, _, span: _levels(x, span, 4),
    "in a dark frame": lambda x, axes, span: _framed(x, axes, span[0]),
    "in a bright frame": lambda x, axes, span: _framed(x, axes, span[1]),
    "dark on the left": lambda x, axes, span: _halved(x, axes[-1], span[0], first=True),
    "dark at the bottom": lambda x, axes, span: _halved(x, axes[0], span[0], first=False),
    "inverted at every second pixel": _checked,
    "in ascending order": lambda x, axes, _: np.sort(np.sort(x, axis=axes[-1]), axis=axes[0]),
}
_Colouring = Callable[[Array, int, tuple[float, float]], Array]
_COLOURS: Mapping[str, _Colouring] = {
    "grey": lambda x, axis, _: np.repeat(np.take(x, [0], axis), x.shape[axis], axis),
    "of one channel": lambda x, axis, span: np.where(
        np.arange(x.shape[axis]).reshape([-1 if a == axis else 1 for a in range(x.ndim)]) == 0,
        x,
        span[0],
    ),
}
