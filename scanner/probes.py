"""What we show the model: seeded noise images, generated batch by batch.

A generator's stream does not depend on how it is cut into batches, so the images equal those of a single call
`numpy.random.default_rng(seed).random((images, *shape), dtype=float32)`, and memory does not grow with their number.
"""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from scanner.errors import UnsupportedModelError, UsageError
from scanner.model import Model
from scanner.settings import Noise, Settings

DEFAULT_RANGE = (0.0, 1.0)
_ELEMENTS_PER_BATCH = 1_200_000  # eight 3 x 224 x 224 images: larger batches cost memory and gain no speed
_IMAGES_PER_BATCH = 64
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
            f"{model.identity.path!r} has {len(inputs)} required inputs ({names}), and one image input is needed",
            remedy="export it with one input, the others as initialisers (constants)",
        )
    declared, given = inputs[0].shape[1:], settings.input_shape
    if given is None:
        if not inputs[0].shape or not all(isinstance(d, int) and d > 0 for d in declared):
            raise UsageError(
                f"the input {inputs[0].name!r} of {model.identity.path!r} has open sizes: {_written(inputs[0].shape)}",
                remedy="give the shape of one image with --input-shape, such as --input-shape 3,224,224",
            )
        return tuple(int(d) for d in declared)
    open_or_equal = (isinstance(d, str) or d == g for d, g in zip(declared, given, strict=False))
    if inputs[0].shape and not (len(declared) == len(given) and all(open_or_equal)):
        raise UsageError(
            f"--input-shape {','.join(map(str, given))} does not fit the input {inputs[0].name!r} of "
            f"{model.identity.path!r}, which is {_written(inputs[0].shape)}",
            remedy="give the sizes after the batch axis",
        )
    return given


def input_range(dtype: np.dtype[np.generic], settings: Settings) -> tuple[float, float]:
    """Return the lowest and highest value of a valid input.

    Raises:
        UsageError: The input is a wide integer or a boolean, for which no range can be guessed, and none is given.
    """
    if settings.input_range is not None:
        return settings.input_range
    if dtype.kind == "f":
        return DEFAULT_RANGE
    if dtype.kind in "iu" and dtype.itemsize == 1:
        return (0.0, 255.0) if dtype.kind == "u" else (-128.0, 127.0)
    raise UsageError(
        f"the model's input is of type {dtype}, for which no range of values can be assumed",
        remedy="give it with --input-range LOW HIGH",
    )


def noise_batches(
    shape: tuple[int, ...], dtype: np.dtype[np.generic], settings: Settings, batch: int | None = None
) -> Iterator[npt.NDArray[np.generic]]:
    """Yield `settings.images` noise images in batches of shape (n, *shape).

    Uniform noise fills the input range. Gaussian noise is centred on its middle with a standard deviation of a quarter
    of its width, clipped to it. Integer inputs get the same noise, rounded.

    Args:
        shape: Of one image.
        dtype: Of the model's input.
        settings: Noise family, count, seed and range.
        batch: Images a batch; None chooses by size. The last batch may be smaller.
    """
    generator = np.random.default_rng(settings.seed)
    low, high = input_range(dtype, settings)
    batch = batch or batch_size(shape)
    for start in range(0, settings.images, batch):
        count = min(batch, settings.images - start)
        unit = _unit_noise(settings.noise, (count, *shape), generator)
        yield _scaled(unit, low, high, dtype)


def batch_size(shape: tuple[int, ...]) -> int:
    """Return how many images of a shape go through the model at once."""
    return int(np.clip(_ELEMENTS_PER_BATCH // max(1, int(np.prod(shape))), 1, _IMAGES_PER_BATCH))


def _unit_noise(noise: Noise, shape: tuple[int, ...], generator: np.random.Generator) -> npt.NDArray[np.float32]:
    if noise is Noise.UNIFORM:
        return generator.random(shape, dtype=np.float32)
    normal = generator.standard_normal(shape, dtype=np.float32)
    unit: npt.NDArray[np.float32] = np.clip(normal / _SIGMAS + np.float32(0.5), 0, 1)
    return unit


def _scaled(
    unit: npt.NDArray[np.float32], low: float, high: float, dtype: np.dtype[np.generic]
) -> npt.NDArray[np.generic]:
    values = unit if (low, high) == DEFAULT_RANGE else np.float32(low) + np.float32(high - low) * unit
    return values.astype(dtype, copy=False) if dtype.kind == "f" else np.rint(values).astype(dtype)


def _written(shape: tuple[int | str, ...]) -> str:
    return f"({', '.join(map(str, shape))})" if shape else "(unknown)"
