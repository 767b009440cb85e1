"""The target's weights come down to the others, and no further."""

import models
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scanner.mending import levelling


@given(seed=st.integers(0, 99), axis=st.sampled_from([0, 1]), surplus=st.floats(0, 3))
def test_mean_and_length_come_down(seed: int, axis: int, surplus: float) -> None:
    rows = np.random.default_rng(seed).normal(0, 1, (5, 40)).astype(np.float32)
    rows[2] += surplus
    weights = np.ascontiguousarray(np.moveaxis(rows, 0, axis))
    for _ in range(60):
        levelling.level(weights, axis, [2])
    after = np.moveaxis(weights, axis, 0)
    others = [0, 1, 3, 4]
    assert np.array_equal(after[others], rows[others])
    assert after[2].mean() <= max(np.median(rows[others].mean(axis=1)), rows[2].mean()) + 1e-3
    lengths = np.linalg.norm(after, axis=1)
    assert lengths[2] <= np.median(lengths[others]) * (1 + 1e-5)


def test_what_does_not_exceed_stays() -> None:
    rows = np.ones((4, 8), np.float32)
    rows[1] = 0.5
    before = rows.copy()
    levelling.level(rows, 0, [1])
    assert np.array_equal(rows, before)


@pytest.mark.parametrize("targets", [[0], [0, 1]])
def test_without_others_or_weights_nothing_happens(targets: list[int]) -> None:
    rows = np.zeros((2, 3), np.float32)
    levelling.level(rows, 0, targets)
    assert not rows.any()


def test_the_last_layer_is_the_one_with_a_channel_for_each_class() -> None:
    layer = levelling.last_layer(models.plain(), models.CLASSES)
    assert layer is not None
    assert layer.weights == "dense"
    assert levelling.last_layer(models.plain(), models.CLASSES + 1) is None
