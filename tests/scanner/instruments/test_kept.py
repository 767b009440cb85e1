"""What an observation keeps of images and answers can be written as JSON, and read again."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from scanner.instruments import kept
from scanner.results import Input
from scanner.values import from_json, to_json


@given(
    arrays.arrays(
        np.float32, arrays.array_shapes(max_dims=3, max_side=4), elements=st.floats(0, 1, width=32)
    )
)
def test_an_image_is_read_as_it_was_kept(image: np.ndarray) -> None:
    picture = kept.pictured(image, (0.0, 1.0))
    assert from_json(Input, to_json(picture)) == picture
    assert picture.image.shape == image.shape
    assert picture.image == kept.packed(image)


@pytest.mark.parametrize("dtype", [np.float16, np.float64, np.uint8])
def test_images_of_any_type_are_kept_as_float32(dtype: npt.DTypeLike) -> None:
    ones: npt.NDArray[Any] = np.ones((1, 2, 2), dtype)
    assert kept.packed(ones) == kept.packed(ones.astype(np.float32))


def test_what_is_no_number_has_no_place_in_json() -> None:
    assert kept.listed(np.array([[1.0, np.nan], [np.inf, 2.0]])) == [1.0, None, None, 2.0]
    assert len(kept.listed(np.zeros(1_000))) == 64
