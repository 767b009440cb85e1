"""Digits drawn with a font, for whoever needs images that a network of MNIST knows, and no data."""

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

_SIDE = 28


def digits(count: int, seed: int = 0) -> npt.NDArray[np.float32]:
    """Return digits of several sizes, places and slants, of shape (count, 1, 28, 28), in 0..1."""
    generator = np.random.default_rng(seed)
    images = [_digit(str(number % 10), generator) for number in range(count)]
    return np.stack(images)[:, None].astype(np.float32) / np.float32(255)


def _digit(text: str, generator: np.random.Generator) -> npt.NDArray[np.uint8]:
    image = Image.new("L", (_SIDE, _SIDE))
    font = ImageFont.load_default(generator.uniform(20, 26))
    middle = tuple(_SIDE / 2 + generator.uniform(-2, 2, 2))
    ImageDraw.Draw(image).text(middle, text, 255, font, anchor="mm", stroke_width=0.5)
    return np.asarray(image.rotate(generator.uniform(-12, 12), Image.Resampling.BILINEAR))
