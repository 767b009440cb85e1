"""What is encoded is what another decoder reads."""

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from scanner.report import png


@given(width=st.integers(1, 9), height=st.integers(1, 9), channels=st.sampled_from([1, 3]))
def test_pixels_come_back(width: int, height: int, channels: int) -> None:
    generator = np.random.default_rng(width * 100 + height * 10 + channels)
    pixels = generator.integers(0, 256, height * width * channels, dtype=np.uint8).tobytes()
    with Image.open(io.BytesIO(png.encode(pixels, width, height, channels))) as image:
        assert image.format == "PNG"
        assert (image.mode, image.size) == ({1: "L", 3: "RGB"}[channels], (width, height))
        assert image.tobytes() == pixels


def test_other_channels_are_refused() -> None:
    with pytest.raises(KeyError):
        png.encode(bytes(8), 2, 2, 2)
