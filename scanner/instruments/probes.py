"""What we show the model: seeded noise images, generated batch by batch, or the user's own.

A generator's stream does not depend on how it is cut into batches, so the images equal those of a
single call `numpy.random.default_rng(seed).random((images, *shape), dtype=float32)`, and memory
does not grow with their number.
"""

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from scanner.errors import UnsupportedModelError, UsageError
from scanner.instruments import image_files
from scanner.modelfile.model import Model
from scanner.settings import Noise, Settings
from scanner.values import frozen

DEFAULT_RANGE = (0.0, 1.0)
_ELEMENTS_PER_BATCH = (
    1_200_000  # eight 3 x 224 x 224 images: larger batches cost memory and gain no speed
)
_IMAGES_PER_BATCH = 64
_SCALES = 6  # block counts 1/32, 1/16, ... 1 of the side
CHANNELS = 4  # an axis no longer than this is one of channels
_GRID = 4  # values along each axis of low-frequency noise
_VARIED = 48  # images of each of two families
_NOISE_TO_REPAIR = 240
_LEAST = 2  # images of the user's: one to show, one to hold back
_SIGMAS = 4  # the range holds four standard deviations of Gaussian noise


def image_shape(model: Model, settings: Settings) -> tuple[int, ...]:
    """Return the shape of one input image, without the batch axis.

    Raises:
        UnsupportedModelError: The model has no input, or several.
        UsageError: A size is left open and `input_shape` is not given, or contradicts the model.
    """
    inputs = model.identity.inputs
    if len(inputs) != 1:
        names = ", ".join(repr(i.name) for i in inputs) or "none"
        raise UnsupportedModelError(
            f"{model.identity.path!r} has {len(inputs)} required inputs ({names}), and one image "
            "input is needed",
            remedy="export it with one input, the others as initialisers (constants)",
        )
    declared, given = inputs[0].shape[1:], settings.input_shape
    if given is None:
        if not inputs[0].shape or not all(isinstance(d, int) and d > 0 for d in declared):
            raise UsageError(
                f"the input {inputs[0].name!r} of {model.identity.path!r} has open sizes: "
                f"{_written(inputs[0].shape)}",
                remedy="give the setting `input_shape` the shape of one image, such as 3,224,224",
            )
        return tuple(int(d) for d in declared)
    open_or_equal = (isinstance(d, str) or d == g for d, g in zip(declared, given, strict=False))
    if inputs[0].shape and not (len(declared) == len(given) and all(open_or_equal)):
        raise UsageError(
            f"the setting `input_shape` of {','.join(map(str, given))} does not fit the input "
            f"{inputs[0].name!r} of {model.identity.path!r}, which is {_written(inputs[0].shape)}",
            remedy="give the sizes after the batch axis",
        )
    return given


def input_range(dtype: np.dtype[np.generic], settings: Settings) -> tuple[float, float]:
    """Return the lowest and highest value of a valid input.

    Raises:
        UsageError: The input is a wide integer or a boolean, for which no range can be guessed, and
            none is given.
    """
    if settings.input_range is not None:
        return settings.input_range
    span = DEFAULT_RANGE if dtype.kind == "f" else bytes_range(dtype)
    if span is not None:
        return span
    raise UsageError(
        f"the model's input is of type {dtype}, for which no range of values can be assumed",
        remedy="give its lowest and highest value with the setting `input_range`",
    )


def bytes_range(dtype: np.dtype[np.generic]) -> tuple[float, float] | None:
    """Return an integer type's own range, if it is one of bytes."""
    if dtype.kind not in "iu" or dtype.itemsize != 1:
        return None
    return (0.0, 255.0) if dtype.kind == "u" else (-128.0, 127.0)


def images_span(settings: Settings) -> tuple[float, float] | None:
    """Return the lowest and highest value of the user's images.

    None where they tell no range: bytes fit every range, and so do the files of a folder.

    Raises:
        UsageError: They cannot be read.
    """
    if settings.images_file is None:
        return None
    images = image_files.from_file(Path(settings.images_file))
    if images.dtype.kind != "f" or not images.size or not np.isfinite(images).all():
        return None
    return float(images.min()), float(images.max())


def noise_batches(
    shape: tuple[int, ...],
    dtype: np.dtype[np.generic],
    settings: Settings,
    batch: int | None = None,
) -> Iterator[npt.NDArray[np.generic]]:
    """Yield `settings.images` noise images in batches of shape (n, *shape).

    Uniform noise fills the input range. Gaussian noise is centred on its middle with a standard
    deviation of a quarter of its width, clipped to it. Constant noise is one uniform colour per
    image. Low-frequency noise is a uniform 4 x 4 grid, interpolated linearly. Shuffled noise is one
    of the user's images with its pixels in random order. Integer inputs get the same noise,
    rounded.

    Args:
        shape: Of one image.
        dtype: Of the model's input.
        settings: Noise family, count, seed and range.
        batch: Images per batch; None chooses by size. The last batch may be smaller.

    Raises:
        UsageError: Shuffled noise is asked for and there are no images, or they do not fit the
            input.
    """
    generator = np.random.default_rng(settings.seed)
    low, high = input_range(dtype, settings)
    batch = batch or batch_size(shape)
    pool = user_images(settings, shape, (low, high)) if settings.noise is Noise.SHUFFLED else None
    for start in range(0, settings.images, batch):
        count = min(batch, settings.images - start)
        if pool is None:
            yield _scaled(_unit_noise(settings.noise, (count, *shape), generator), low, high, dtype)
        else:
            yield rounded(_shuffled(pool, count, generator), dtype)


def batch_size(shape: tuple[int, ...]) -> int:
    """Return how many images of a shape go through the model at once."""
    return int(np.clip(_ELEMENTS_PER_BATCH // max(1, int(np.prod(shape))), 1, _IMAGES_PER_BATCH))


def _unit_noise(
    noise: Noise, shape: tuple[int, ...], generator: np.random.Generator
) -> npt.NDArray[np.float32]:
    if noise is Noise.UNIFORM:
        return generator.random(shape, dtype=np.float32)
    if noise is Noise.CONSTANT:
        colours = generator.random(
            [size if _holds_channels(size, axis) else 1 for axis, size in enumerate(shape)]
        )
        return np.broadcast_to(colours.astype(np.float32), shape)
    if noise is Noise.LOW_FREQUENCY:
        return _low_frequency(shape, generator)
    normal = generator.standard_normal(shape, dtype=np.float32)
    unit: npt.NDArray[np.float32] = np.clip(normal / _SIGMAS + np.float32(0.5), 0, 1)
    return unit


def _holds_channels(size: int, axis: int) -> bool:
    """Whether an axis of a batch holds the images themselves, or their channels."""
    return axis == 0 or size <= CHANNELS


def _low_frequency(
    shape: tuple[int, ...], generator: np.random.Generator
) -> npt.NDArray[np.float32]:
    """Return grids of few random values, interpolated linearly along each longer axis."""
    coarse = [size if _holds_channels(size, axis) else _GRID for axis, size in enumerate(shape)]
    images = generator.random(coarse, dtype=np.float32)
    for axis, size in enumerate(shape):
        if not _holds_channels(size, axis):
            place = np.linspace(0, _GRID - 1, size)
            near = np.minimum(place.astype(np.int64), _GRID - 2)
            share = (place - near).astype(np.float32).reshape(-1, *[1] * (len(shape) - axis - 1))
            images = (
                np.take(images, near, axis) * (1 - share) + np.take(images, near + 1, axis) * share
            )
    return images


def _shuffled(
    pool: npt.NDArray[np.float32], count: int, generator: np.random.Generator
) -> npt.NDArray[np.float32]:
    """Return images of the pool with pixels in random order, each pixel keeping its channels."""
    pixels = [axis for axis, size in enumerate(pool.shape[1:]) if size > CHANNELS] or list(
        range(pool.ndim - 1)
    )
    images = np.empty((count, *pool.shape[1:]), np.float32)
    for image in images:
        chosen = np.moveaxis(pool[generator.integers(len(pool))], pixels, range(len(pixels)))
        flat = chosen.reshape(-1, *chosen.shape[len(pixels) :])
        order = generator.permutation(len(flat))
        image[...] = np.moveaxis(flat[order].reshape(chosen.shape), range(len(pixels)), pixels)
    return images


def _scaled(
    unit: npt.NDArray[np.float32], low: float, high: float, dtype: np.dtype[np.generic]
) -> npt.NDArray[np.generic]:
    values = (
        unit if (low, high) == DEFAULT_RANGE else np.float32(low) + np.float32(high - low) * unit
    )
    return rounded(values, dtype)


def rounded(
    values: npt.NDArray[np.float32], dtype: np.dtype[np.generic]
) -> npt.NDArray[np.generic]:
    """Return values in a model's type, integers rounded."""
    return values.astype(dtype, copy=False) if dtype.kind == "f" else np.rint(values).astype(dtype)


def _written(shape: tuple[int | str, ...]) -> str:
    return f"({', '.join(map(str, shape))})" if shape else "(unknown)"


@frozen
class Images:
    """Images that a trigger is searched on.

    Attributes:
        shown: Those that the search sees, (n, *shape), float32 in the input's range.
        held_back: Others, to check what it found.
        source: Where they come from, in words.
        labels: Classes of those held back, where they are known.
    """

    shown: npt.NDArray[np.float32]
    held_back: npt.NDArray[np.float32]
    source: str
    labels: npt.NDArray[np.int64] | None = None


def clean_images(settings: Settings, shape: tuple[int, ...], span: tuple[float, float]) -> Images:
    """Return the user's images, or multi-scale noise where there are none.

    At most twice the budget's number are used. Of the user's, a quarter is held back, and one at
    least; of noise, half, so that as many are shown as the budget says.

    Raises:
        UsageError: The images cannot be read, or do not fit the input.
    """
    wanted = 2 * settings.effort.images
    generator = np.random.default_rng(settings.seed)
    if not settings.has_images:
        images = multiscale_noise(wanted, shape, span, generator)
        source, held = "multi-scale noise (no images given)", wanted // 2
    else:
        name = settings.images_file or settings.images_folder
        everything = user_images(settings, shape, span)
        images = generator.permutation(everything)[:wanted]
        source, held = f"{len(images)} images of {name}", max(1, len(images) // 4)
    shown = len(images) - held
    return Images(shown=images[:shown], held_back=images[shown:], source=source)


def repair_images(
    settings: Settings, shape: tuple[int, ...], span: tuple[float, float], most: int
) -> Images:
    """Return up to `most` of the user's images, or noise, two fifths of them held back.

    A repair changes the model by those that it is shown, so it is measured on more of them than a
    search for triggers is.

    Raises:
        UsageError: The images cannot be read, or do not fit the input.
    """
    generator = np.random.default_rng(settings.seed)
    if not settings.has_images:
        noise = multiscale_noise(_NOISE_TO_REPAIR, shape, span, generator)
        held = 2 * len(noise) // 5
        return Images(
            shown=noise[held:],
            held_back=noise[:held],
            source="multi-scale noise (no images given)",
        )
    everything = user_images(settings, shape, span)
    order = generator.permutation(len(everything))[:most]
    held = max(1, 2 * len(order) // 5)
    name = Path(settings.images_file or settings.images_folder or "").name
    labels = _labels(settings, len(everything))
    return Images(
        shown=everything[order[held:]],
        held_back=everything[order[:held]],
        source=f"{len(order)} images of {name}",
        labels=None if labels is None else labels[order[:held]],
    )


def _labels(settings: Settings, count: int) -> npt.NDArray[np.int64] | None:
    """Return the classes of the user's images, where their file holds them.

    Raises:
        UsageError: There are more or fewer than images.
    """
    if settings.images_file is None:
        return None
    labels = image_files.labels_from_file(Path(settings.images_file))
    if labels is not None and len(labels) != count:
        raise UsageError(
            f"{settings.images_file!r} holds {count} images and {len(labels)} labels",
            remedy="give one label for each image",
        )
    return labels


def varied(
    settings: Settings, shape: tuple[int, ...], dtype: np.dtype[np.generic]
) -> npt.NDArray[np.float32]:
    """Return images as unlike one another as we have them, (n, *shape).

    They are the user's; without any, noise of blocks and smooth noise.

    Raises:
        UsageError: The images cannot be read, or do not fit the input.
    """
    span = low, high = input_range(dtype, settings)
    if settings.has_images:
        found = clean_images(settings, shape, span)
        return np.concatenate([found.shown, found.held_back])
    generator = np.random.default_rng(settings.seed)
    blocks = multiscale_noise(_VARIED, shape, span, generator)
    smooth = _low_frequency((_VARIED, *shape), generator)
    return np.concatenate([blocks, (low + (high - low) * smooth).astype(np.float32)])


def multiscale_noise(
    count: int, shape: tuple[int, ...], span: tuple[float, float], generator: np.random.Generator
) -> npt.NDArray[np.float32]:
    """Return noise images of blocks, (count, *shape): from one block per image to single pixels.

    Noise of single pixels alone drives a network to one and the same class; blocks reach others.
    Axes longer than four are blocked, so that channels keep their own values.
    """
    low, high = span
    images = np.empty((count, *shape), np.float32)
    for index in range(count):
        block = 2 ** (index % _SCALES)
        coarse = [
            size if size <= CHANNELS else max(1, -(-size * block // 2 ** (_SCALES - 1)))
            for size in shape
        ]
        image = generator.random(coarse, dtype=np.float32)
        for axis, size in enumerate(shape):
            image = np.take(image, np.arange(size) * image.shape[axis] // size, axis=axis)
        images[index] = low + (high - low) * image
    return images


def user_images(
    settings: Settings, shape: tuple[int, ...], span: tuple[float, float]
) -> npt.NDArray[np.float32]:
    """Return all of the user's images, in the model's layout and range.

    Raises:
        UsageError: There are none, they cannot be read, do not fit the input, or are all the same.
    """
    name = settings.images_file or settings.images_folder
    if name is None:
        raise UsageError(
            "shuffled noise is made of your own images, and none are given",
            remedy="give some with the setting `images_file` or the setting `images_folder`, or "
            "choose another family with the setting `noise`",
        )
    images = fitted(_loaded(settings), shape, span, name)
    if not (images != images[0]).any():
        raise UsageError(
            f"{name!r} holds one image, {len(images)} times", remedy="give images that differ"
        )
    return images


def _loaded(settings: Settings) -> npt.NDArray[np.generic]:
    if settings.images_file is not None:
        return image_files.from_file(Path(settings.images_file))
    return image_files.from_folder(Path(settings.images_folder or ""))


def fitted(
    images: npt.NDArray[np.generic],
    shape: tuple[int, ...],
    span: tuple[float, float],
    name: str,
    least: int = _LEAST,
) -> npt.NDArray[np.float32]:
    """Return images in the model's layout and range.

    Raises:
        UsageError: Their size or their range is another one, or there are fewer than the least.
    """
    arranged = _arranged(images, shape) if images.ndim and images.dtype.kind in "buif" else None
    if arranged is None or len(arranged) < least:
        some = "at least two images" if least == _LEAST else "images"
        raise UsageError(
            f"{name!r} holds {images.dtype} in the shape {images.shape}, and the model takes "
            f"images of {shape}",
            remedy=f"give {some} as an array (n, {', '.join(map(str, shape))})",
        )
    low, high = span
    if images.dtype == np.uint8:
        return (low + (high - low) / 255 * arranged.astype(np.float32)).astype(np.float32)
    values = arranged.astype(np.float32)
    slack = 1e-3 * (high - low)
    if not np.isfinite(values).all():
        raise UsageError(
            f"the images of {name!r} hold NaN or infinity",
            remedy="leave those images out, or save them again",
        )
    if not (low - slack <= values.min() and values.max() <= high + slack):
        raise UsageError(
            f"the images of {name!r} lie in [{values.min():g}, {values.max():g}], outside the "
            f"input range [{low:g}, {high:g}]",
            remedy="scale them, or give the model's own range with the setting `input_range`",
        )
    return np.clip(values, low, high)


def _arranged(
    images: npt.NDArray[np.generic], shape: tuple[int, ...]
) -> npt.NDArray[np.generic] | None:
    """Return images as (n, *shape) where channels have only to be added or moved, else None."""
    if images.ndim == len(shape) == 3:  # noqa: PLR2004 - grey images (n, H, W) for (1, H, W) or (H, W, 1)
        images = images[..., None]
    options = [images]
    if images.ndim == 4:  # noqa: PLR2004 - (n, C, H, W) or (n, H, W, C)
        options += [np.moveaxis(images, -1, 1), np.moveaxis(images, 1, -1)]
    if len(shape) == 1:
        options.append(images.reshape(len(images), math.prod(images.shape[1:])))
    return next((option for option in options if option.shape[1:] == shape), None)
