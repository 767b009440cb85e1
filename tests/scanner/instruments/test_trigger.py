"""Triggers to be found: descent by hand, the price of a pixel, the smallest so far, stamps."""

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from scanner.instruments.trigger import (
    BETAS,
    COST_DOWN,
    COST_UP,
    LEARNING_RATE,
    PATIENCE,
    FreeTrigger,
    Price,
    Smallest,
    channel_axis,
    pixels,
    stamp,
)

Array = npt.NDArray[np.float64]
SHAPES = [(3, 4, 4), (1, 5, 5), (5, 5, 3), (6,), (4, 4)]
LOW, HIGH = -1.0, 3.0


def begun(shape: tuple[int, ...]) -> FreeTrigger:
    return FreeTrigger(shape, LOW, HIGH, np.random.default_rng(0))


def slope(of: Callable[[Array], float], at: Array) -> Array:
    """Central differences of a function of an array, element by element."""
    found, step = np.zeros_like(at), 1e-5
    for index in np.ndindex(at.shape):
        moved = np.zeros_like(at)
        moved[index] = step
        found[index] = (of(at + moved) - of(at - moved)) / (2 * step)
    return found


@pytest.mark.parametrize("shape", SHAPES)
def test_descent_is_adam_on_the_slope_of_the_objective(shape: tuple[int, ...]) -> None:
    """The loss is linear in the stamped pixels, so that its gradient there is `weights`."""
    generator = np.random.default_rng(1)
    images, weights = generator.normal(size=(2, 3, *shape)).astype(np.float32)
    trigger, cost = begun(shape), 0.3
    free = [trigger.free_mask.astype(float), trigger.free_pattern.astype(float)]
    moments = [[np.zeros_like(f), np.zeros_like(f)] for f in free]

    def objective(a: Array, b: Array) -> float:
        mask, pattern = (np.tanh(a) + 1) / 2, LOW + (HIGH - LOW) * (np.tanh(b) + 1) / 2
        stamped = (1 - mask) * images + mask * pattern
        return float((weights * stamped).sum() / len(images) + cost * mask.sum())

    for time in range(1, 4):
        trigger.descend(images, weights, cost)
        a, b = free
        slopes = (slope(lambda x: objective(x, b), a), slope(lambda x: objective(a, x), b))  # noqa: B023 - called at once
        for i, (g, m) in enumerate(zip(slopes, moments, strict=True)):
            m[0] = BETAS[0] * m[0] + (1 - BETAS[0]) * g
            m[1] = BETAS[1] * m[1] + (1 - BETAS[1]) * g**2
            mean, square = m[0] / (1 - BETAS[0] ** time), m[1] / (1 - BETAS[1] ** time)
            free[i] -= LEARNING_RATE * mean / (np.sqrt(square) + 1e-8)
    np.testing.assert_allclose(trigger.free_mask, free[0], atol=1e-3)
    np.testing.assert_allclose(trigger.free_pattern, free[1], atol=1e-3)


@given(
    gradient=arrays.arrays(np.float32, (2, 3, 4, 4), elements=st.floats(-1e6, 1e6, width=32)),
    cost=st.floats(0, 1e6),
    steps=st.integers(1, 20),
)
def test_wherever_it_goes_a_trigger_stays_valid(
    gradient: npt.NDArray[np.float32], cost: float, steps: int
) -> None:
    trigger = begun((3, 4, 4))
    images = np.zeros((2, 3, 4, 4), np.float32)
    for _ in range(steps):
        trigger.descend(images, gradient, cost)
    assert 0 <= trigger.mask.sum() <= pixels((3, 4, 4)) == 16
    assert LOW <= trigger.pattern.min() <= trigger.pattern.max() <= HIGH
    stamped = trigger.stamped(images)
    assert LOW <= stamped.min() <= stamped.max() <= HIGH
    assert stamped.dtype == np.float32


@pytest.mark.parametrize("shape", SHAPES)
def test_a_mask_is_shared_over_channels_and_starts_small(shape: tuple[int, ...]) -> None:
    trigger = begun(shape)
    assert trigger.mask.size == pixels(shape)
    assert trigger.pattern.shape == shape
    assert trigger.mask.max() < 0.05
    np.testing.assert_array_equal(trigger.mask, begun(shape).mask)


def test_the_price_rises_after_successes_and_falls_after_failures() -> None:
    price = Price(first=0.01)
    expected = [(True, 0.01), (True, 0.01 * COST_UP), (False, 0.01 * COST_UP / COST_DOWN)]
    for success, cost in expected:
        before = price.cost
        for _ in range(PATIENCE - 1):
            price.follow(success=success)
        assert price.cost == before
        price.follow(success=success)
        assert price.cost == cost


@given(st.lists(st.booleans(), max_size=60))
def test_the_price_is_nothing_until_successes_come_in_a_row(course: list[bool]) -> None:
    price = Price()
    for success in course:
        price.follow(success=success)
    said = "".join("s" if success else "f" for success in course)
    assert (price.cost > 0) == ("s" * PATIENCE in said)


@given(st.lists(st.tuples(st.floats(0.0625, 1, width=32), st.booleans()), max_size=30))
def test_the_smallest_is_the_smallest_that_worked(course: list[tuple[float, bool]]) -> None:
    smallest, tried = Smallest(), begun((1, 4, 4))
    for share, success in course:
        tried.mask = np.full((1, 4, 4), share, np.float32)
        smallest.follow(tried, success=success)
    sizes = [16 * share for share, success in course if success]
    if not sizes:
        assert (smallest.size, smallest.trigger, smallest.stale) == (math.inf, None, len(course))
        return
    # A gain of less than a thousandth is none.
    assert min(sizes) * (1 - 1e-6) <= smallest.size <= min(sizes) * 1.0011
    assert smallest.trigger is not None
    assert smallest.trigger[0].sum() == pytest.approx(smallest.size)
    assert smallest.stale < len(course)


@pytest.mark.parametrize(
    ("shape", "axis"),
    [
        ((3, 8, 8), 0),
        ((1, 8, 8), 0),
        ((8, 8, 3), 2),
        ((8, 8, 1), 2),
        ((3, 4, 4), 0),
        ((64,), None),
        ((8, 8), None),
    ],
)
def test_the_channel_axis(shape: tuple[int, ...], axis: int | None) -> None:
    assert channel_axis(shape) == axis


@pytest.mark.parametrize(("shape", "count"), [((3, 8, 8), 64), ((8, 6, 3), 48), ((64,), 64)])
def test_pixels_are_counted_without_channels(shape: tuple[int, ...], count: int) -> None:
    assert pixels(shape) == count


def test_a_full_mask_is_the_pattern_and_an_empty_one_the_image() -> None:
    generator = np.random.default_rng(0)
    images, pattern = (generator.random(s, dtype=np.float32) for s in ((4, 1, 8, 8), (1, 8, 8)))
    empty = np.zeros((1, 8, 8), np.float32)
    np.testing.assert_array_equal(stamp(images, empty, pattern), images)
    np.testing.assert_allclose(
        stamp(images, empty + 1, pattern), np.broadcast_to(pattern, images.shape), atol=1e-6
    )


@given(st.floats(0, 1, width=32))
def test_a_stamped_pixel_lies_between_the_image_and_the_pattern(share: float) -> None:
    generator = np.random.default_rng(0)
    images, pattern = (generator.random(s, dtype=np.float32) for s in ((4, 3, 5, 5), (3, 5, 5)))
    stamped = stamp(images, np.full((1, 5, 5), share, np.float32), pattern)
    assert (stamped >= np.minimum(images, pattern) - 1e-6).all()
    assert (stamped <= np.maximum(images, pattern) + 1e-6).all()
