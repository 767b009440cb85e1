"""Height and width in every layout; windows that miss nothing; the running mean."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scanner.instruments.plane import Plane


@pytest.mark.parametrize(
    ("shape", "size"),
    [
        ((1, 28, 20), (28, 20)),
        ((3, 32, 16), (32, 16)),
        ((32, 16, 3), (32, 16)),
        ((28, 20), (28, 20)),
        ((784,), (28, 28)),
        ((10,), (1, 10)),
    ],
)
def test_height_and_width(shape: tuple[int, ...], size: tuple[int, int]) -> None:
    plane = Plane.of(shape)
    assert (plane.height, plane.width) == size
    assert plane.view(np.zeros((2, *shape))).shape == (2, *plane.seen)


@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 6))
def test_windows_cover_every_pixel_and_stay_inside(height: int, width: int, share: int) -> None:
    plane, covered = Plane.of((1, height, width)), np.zeros((1, height, width), bool)
    for window in plane.windows(share):
        assert window.top + window.height <= height
        assert window.left + window.width <= width
        covered[plane.inside(window)] = True
    assert covered.all()


@given(st.integers(4, 12), st.integers(0, 100))
def test_a_square_of_half_a_window_lies_in_one_wholly(side: int, seed: int) -> None:
    length = 4 * side
    top, left = np.random.default_rng(seed).integers(0, length - side // 2, 2)
    small = side // 2
    assert any(
        w.top <= top and top + small <= w.top + w.height
        and w.left <= left and left + small <= w.left + w.width
        for w in Plane.of((1, length, length)).windows(4)
    )  # fmt: skip


@pytest.mark.parametrize("shape", [(1, 6, 5), (6, 5, 3), (36,)])
def test_the_running_mean_is_that_of_a_square(shape: tuple[int, ...]) -> None:
    plane = Plane.of(shape)
    images = np.random.default_rng(0).random((2, *shape), dtype=np.float32)
    seen = plane.view(images)
    around = [(0, 0)] * seen.ndim
    around[plane.rows + 1] = around[plane.columns + 1] = (1, 1)
    padded = np.pad(seen, around, mode="edge")
    shifted = [
        np.roll(padded, (dy, dx), (plane.rows + 1, plane.columns + 1))
        for dy in (-1, 0, 1)
        for dx in (-1, 0, 1)
    ]
    cut = [slice(None)] * seen.ndim
    cut[plane.rows + 1] = cut[plane.columns + 1] = slice(1, -1)
    wanted = np.mean(shifted, axis=0)[tuple(cut)].reshape(images.shape)
    assert np.allclose(plane.smoothed(images, 3), wanted, atol=1e-6)
