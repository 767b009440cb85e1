"""Each structure is there, and the picture is still one."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scanner.instruments import forcing
from scanner.instruments.structured import Array, pixel_axes, structured

SPAN = (-1.0, 3.0)
HELD: dict[str, Callable[[Array], bool]] = {
    "mirrored left to right": lambda x: np.array_equal(x, x[..., ::-1]),
    "mirrored top to bottom": lambda x: np.array_equal(x, x[:, ::-1]),
    "its own half turn": lambda x: np.array_equal(x, x[:, ::-1, ::-1]),
    "mirrored at the diagonal": lambda x: np.array_equal(x, x.swapaxes(1, 2)),
    "of equal rows": lambda x: np.ptp(x, axis=1).max() == 0,
    "of equal columns": lambda x: np.ptp(x, axis=2).max() == 0,
    "the same half twice": lambda x: np.array_equal(
        x[..., : x.shape[2] // 2], x[..., x.shape[2] // 2 : x.shape[2] // 2 * 2]
    ),
    "repeated every four pixels": lambda x: np.array_equal(x[..., 4:], x[..., :-4]),
    "repeated every two pixels": lambda x: np.array_equal(x[:, 2:], x[:, :-2]),
    "enlarged from half its size": lambda x: np.array_equal(
        x[..., 1::2], x[..., : x.shape[2] // 2 * 2 : 2]
    ),
    "of two levels": lambda x: set(np.unique(x)) <= set(SPAN),
    "of four levels": lambda x: len(np.unique(x)) <= 4,
    "in a dark frame": lambda x: bool((x[:, 0] == SPAN[0]).all()),
    "in a bright frame": lambda x: bool((x[..., -1] == SPAN[1]).all()),
    "dark on the left": lambda x: bool((x[..., : x.shape[2] // 2] == SPAN[0]).all()),
    "in ascending order": lambda x: bool((np.diff(x, axis=1) >= 0).all()),
    "grey": lambda x: np.ptp(x, axis=0).max() == 0,
    "of one channel": lambda x: bool((x[1:] == SPAN[0]).all()),
}


def made(side: int, seed: int = 0, channels: int = 3) -> dict[str, Array]:
    image = np.random.default_rng(seed).uniform(*SPAN, (channels, side, side))
    return dict(structured([image], SPAN))


@pytest.mark.parametrize("name", HELD)
@given(side=st.integers(8, 33), seed=st.integers(0, 9))
def test_an_image_has_the_structure_that_it_is_named_after(name: str, side: int, seed: int) -> None:
    image = made(side, seed)[name]
    assert image.shape == (3, side, side)
    assert HELD[name](image)


@pytest.mark.parametrize("side", [8, 28, 32])
def test_none_of_them_is_empty_or_out_of_range(side: int) -> None:
    for name, image in made(side).items():
        assert not forcing.is_featureless(image, SPAN), name
        assert SPAN[0] <= image.min() <= image.max() <= SPAN[1], name


def test_a_grey_image_has_no_colours() -> None:
    assert "grey" not in made(8, channels=1)


@pytest.mark.parametrize(
    ("shape", "axes"),
    [((3, 8, 9), (1, 2)), ((8, 9, 3), (0, 1)), ((1, 8, 8), (1, 2)), ((8, 8), (0, 1)), ((8,), (0,))],
)
def test_pixels_lie_along_the_axes_that_are_no_channels(
    shape: tuple[int, ...], axes: tuple[int, ...]
) -> None:
    assert pixel_axes(shape) == axes


def test_a_row_of_numbers_has_the_structures_of_one_axis() -> None:
    rows = dict(structured([np.arange(8.0)], (0.0, 8.0)))
    assert np.array_equal(rows["mirrored left to right"], [0, 1, 2, 3, 3, 2, 1, 0])
