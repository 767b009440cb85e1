"""Arrays as pictures: layouts, ranges, and a single pixel that stays in sight."""

import io

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from scanner.report.pictures import floats, picture
from scanner.results import Array


def packed(values: npt.NDArray[np.float32]) -> Array:
    return Array.packed(values.astype("<f4").tobytes(), values.shape)


def decoded(data: bytes) -> npt.NDArray[np.uint8]:
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image)


def random(*shape: int) -> npt.NDArray[np.float32]:
    return np.random.default_rng(0).random(shape, dtype=np.float32)


def test_values_come_back() -> None:
    values = random(2, 3)
    shape, found = floats(packed(values))
    assert shape == (2, 3)
    np.testing.assert_array_equal(found, values.ravel())


@pytest.mark.parametrize(
    ("shape", "axes"),
    [((5, 4), (0, 1)), ((3, 5, 4), (1, 2, 0)), ((5, 4, 3), (0, 1, 2))],
    ids=["(H, W)", "(C, H, W)", "(H, W, C)"],
)
def test_a_png_shows_the_image(shape: tuple[int, ...], axes: tuple[int, ...]) -> None:
    values = random(*shape)
    expected = np.rint(values.transpose(axes) * 255)
    np.testing.assert_array_equal(decoded(picture(packed(values)).png()), expected)


def test_one_channel_is_grey_wherever_it_stands() -> None:
    values = random(5, 4)
    for shape in ((1, 5, 4), (5, 4, 1)):
        again = picture(packed(values.reshape(shape))).png()
        np.testing.assert_array_equal(decoded(again), np.rint(values * 255))


def test_of_many_channels_the_first_is_shown() -> None:
    values = random(8, 5, 4)
    shown = decoded(picture(packed(values)).png())
    np.testing.assert_array_equal(shown, np.rint(values[0] * 255))


def test_a_vector_becomes_one_row() -> None:
    drawn = picture(packed(random(7)))
    assert (drawn.width, drawn.height, drawn.channels) == (7, 1, 1)


def test_the_range_is_black_to_white_and_what_exceeds_it_is_cut_off() -> None:
    values = np.array([[-9, -1, 0, 1, 9]], np.float32)
    shown = decoded(picture(packed(values), -1, 1).png())
    assert shown.tolist() == [[0, 0, 128, 255, 255]]


def test_an_empty_range_divides_nothing_by_zero() -> None:
    assert list(picture(packed(np.ones((1, 2), np.float32)), 1, 1).values) == [0, 0]


@given(
    side=st.sampled_from([1, 5, 28, 33, 64, 100]),
    row=st.integers(0, 99),
    column=st.integers(0, 99),
)
def test_a_single_pixel_stays_in_sight(side: int, row: int, column: int) -> None:
    values = np.zeros((side, side), np.float32)
    values[row % side, column % side] = 1
    lines = picture(packed(values)).blocks(32)
    assert "".join(lines).count("█") == 1
    assert {len(line) for line in lines} == {len(lines[0])}
    assert len(lines[0]) <= 32


def test_shades_grow_with_the_value() -> None:
    values = np.repeat(np.array([[0, 0.25, 0.5, 0.75, 1]], np.float32), 2, axis=0)
    assert picture(packed(values)).blocks(32) == [" ░▒▓█"]


def test_cells_are_two_pixels_one_above_the_other() -> None:
    values = np.zeros((3, 3, 2), np.float32)
    values[:, 0, 0] = (1, 0, 0.2)
    values[:, 1, 1] = (0, 0.4, 0)
    red, green, black = (255, 0, 51), (0, 102, 0), (0, 0, 0)
    cells = picture(packed(values)).cells(32)
    assert cells == [[(red, black), (black, green)], [(black, black), (black, black)]]
    grey = picture(packed(np.full((2, 1), 0.2, np.float32))).cells(32)
    assert grey == [[((51, 51, 51), (51, 51, 51))]]


@pytest.mark.parametrize("widest", [1, 7, 32])
def test_cells_fit(widest: int) -> None:
    values = np.zeros((50, 40), np.float32)
    values[17, 23] = 1
    cells = picture(packed(values)).cells(widest)
    assert {len(line) for line in cells} == {len(cells[0])}
    assert len(cells[0]) <= widest
    assert sum(colour == (255, 255, 255) for line in cells for pair in line for colour in pair) == 1


def test_a_png_is_enlarged_by_whole_pixels() -> None:
    values = np.array([[0, 1, 0.2]], np.float32)
    with Image.open(io.BytesIO(picture(packed(values)).png(7))) as shown:
        assert np.asarray(shown).tolist() == 3 * [[0, 0, 0, 255, 255, 255, 51, 51, 51]]
