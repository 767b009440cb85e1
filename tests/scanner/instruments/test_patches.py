"""Small patches at every place: where they go, what they do, and how many images they take."""

from typing import Any

import numpy as np
import numpy.typing as npt
from hypothesis import given
from hypothesis import strategies as st

from scanner.instruments import patches
from scanner.instruments.patches import PART, Patch, Patches
from scanner.instruments.plane import Plane
from scanner.results import Region

SPAN = (0.0, 1.0)


@given(
    shape=st.sampled_from([(3, 9, 11), (9, 11, 3), (9, 11)]),
    top=st.integers(0, 6),
    left=st.integers(0, 8),
)
def test_a_stamp_changes_what_it_covers_and_nothing_else(
    shape: tuple[int, ...], top: int, left: int
) -> None:
    images = np.full((2, *shape), 0.5, np.float32)
    colour = (0.25,) if len(shape) == 2 else (0.0, 0.25, 1.0)
    patch = Patch(Region(top=top, left=left, height=3, width=2), colour)
    stamped = patch.stamped(images)
    assert (images == 0.5).all()
    planes = _planes(stamped)
    inside = planes[:, top : top + 3, left : left + 2]
    assert np.array_equal(inside, np.broadcast_to(colour, inside.shape))
    planes[:, top : top + 3, left : left + 2] = 0.5
    assert (planes == 0.5).all()


def _planes(images: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return images with their channels last."""
    if images.ndim == 3:
        return images[..., None].copy()
    return np.moveaxis(images, 1, -1).copy() if images.shape[1] == 3 else images.copy()


@given(height=st.integers(8, 70), width=st.integers(8, 70))
def test_each_patch_half_as_large_lies_in_one_of_the_first_round(height: int, width: int) -> None:
    """So that the first round finds a trigger of that size, wherever it is."""
    shape = (1, height, width)
    windows = patches._regions(Plane.of(shape), Patches.efforts[0])
    for side, start, size in (("top", "height", height), ("left", "width", width)):
        covered = {(getattr(w, side), getattr(w, start)) for w in windows}
        small = max(1, round(size / PART) // 2)
        for place in range(size - small + 1):
            assert any(s <= place and place + small <= s + extent for s, extent in covered)


def test_colours_are_told() -> None:
    candidates = Patches().candidates((3, 8, 8), (-1.0, 2.0), Patches.efforts[0])
    told = {patch.colour: patch.described().split(" patch ") for patch in candidates}
    assert told[-1.0, -1.0, -1.0][0] == "a black"
    assert told[2.0, 2.0, 2.0][0] == "a white"
    assert told[-1.0, 2.0, 2.0] == ["a coloured", "of 1x1 pixels at row 7, column 7"]


def test_around_a_patch_there_are_smaller_ones() -> None:
    patch = Patch(Region(top=8, left=16, height=4, width=4), (1.0,), "white")
    near = [*Patches().near(patch, (1, 32, 32))]
    assert {(one.region.height, one.region.width) for one in near} == {(4, 4), (3, 3), (2, 2)}
    assert {(one.colour, one.look) for one in near} == {((1.0,), "white")}
    assert min(one.region.left for one in near) == 15
    assert max(one.region.left + one.region.width for one in near) == 21


@given(height=st.integers(8, 70), width=st.integers(8, 70))
def test_no_patch_has_more_neighbours_than_one_in_the_middle(height: int, width: int) -> None:
    shape = (1, height, width)
    near = [
        len([*Patches().near(patch, shape)])
        for patch in Patches().candidates(shape, (0.0, 1.0), Patches.efforts[-1])
    ]
    assert max(near) <= Patches().most_near(shape)
