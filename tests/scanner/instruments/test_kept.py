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


@pytest.mark.parametrize(
    ("answer", "named"),
    [
        (np.array([[0.1, 3.0, 2.0]]), 1),
        (np.array([0.1, 3.0, 2.0]), 1),
        (np.array([[[[0.1]], [[3.0]]]]), 1),
        (np.array([[0.1, 3.0], [9.0, 1.0]]), 1),
        (np.array([7]), 7),
        (np.array([[7]]), 7),
        (np.array(7), 7),
        (np.array([-1]), None),
        (np.array([2**40]), None),
        (np.array([0.5]), None),
        (np.array([[0.1, np.nan]]), None),
        (np.zeros((1, 3, 4, 4)), None),
        (np.zeros((0, 3)), None),
        (None, None),
    ],
)
def test_the_class_that_an_answer_names(answer: npt.NDArray[Any] | None, named: int | None) -> None:
    assert kept.class_in(answer) == named


def test_a_change_of_a_part_is_made_to_others_too() -> None:
    others = np.zeros((3, 1, 2, 2))
    original, image = np.full((1, 2, 2), 0.5), np.full((1, 2, 2), 0.5)
    image[0, 1, 1] = 1
    alike = kept.changed_alike(others, original, image)
    assert alike is not None
    np.testing.assert_array_equal(alike, [[[[0, 0], [0, 1]]]] * 3)
    assert kept.changed_alike(others, original, original + 1) is None
    assert kept.changed_alike(others, original, original) is None


def test_success_is_of_those_that_were_of_another_class() -> None:
    before = [np.array([1.0, 0.0]), np.array([1.0, 0.0]), np.array([0.0, 1.0])]
    after = [np.array([0.0, 1.0]), np.array([1.0, 0.0]), np.array([0.0, 1.0])]
    assert kept.success(before, after, 1) == 0.5
    assert kept.success(before[2:], after[2:], 1) is None
    assert kept.success(before, after, None) is None


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (np.array([[0.1, 3, -2]]), "class 1"),
        (np.array([7]), "7"),
        (np.array([0.25]), "0.25"),
        (np.array([]), "nothing"),
    ],
)
def test_an_answer_in_words(answer: np.ndarray, words: str) -> None:
    assert kept.said(answer) == words
