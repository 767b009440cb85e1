"""Variations of images and triggers stay what they are variations of."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scanner.mending import variations
from scanner.mending.triggers import Found

SHAPES = [(1, 8, 8), (3, 8, 6), (8, 8, 3), (20,)]


def _patch(shape: tuple[int, ...]) -> Found:
    mask = np.zeros(shape, np.float32)
    mask[tuple(side // 2 for side in shape)] = 0.8
    return Found(mask, np.full(shape, 0.25, np.float32), 0.8)


@given(shape=st.sampled_from(SHAPES), seed=st.integers(0, 99))
def test_images_keep_their_shape_and_range(shape: tuple[int, ...], seed: int) -> None:
    generator = np.random.default_rng(seed)
    images = generator.random((5, *shape), dtype=np.float32)
    found = variations.varied(images, generator.integers(5, size=(2, 7)), generator)
    assert found.shape == (7, *shape)
    assert found.dtype == np.float32
    assert images.min() - 1e-6 <= found.min() <= found.max() <= images.max() + 1e-6


@pytest.mark.parametrize("shape", SHAPES)
def test_a_grown_mask_covers_the_first_with_its_colours(shape: tuple[int, ...]) -> None:
    first = _patch(shape)
    wide = variations.grown(first)
    assert (wide.mask >= first.mask).all()
    assert np.allclose(wide.pattern, 0.25)
    assert (wide.mask > 0).sum() == (9 if len(shape) == 3 else 1)


@given(shape=st.sampled_from(SHAPES), seed=st.integers(0, 99))
def test_an_image_changes_under_the_grown_mask_alone(shape: tuple[int, ...], seed: int) -> None:
    image, trigger = np.ones(shape, np.float32), _patch(shape)
    wide = variations.grown(trigger)
    bent = variations.bent(image, trigger, wide, np.random.default_rng(seed))
    assert (bent[wide.mask == 0] == 1).all()
    assert (bent >= 0.25).all()


@given(seed=st.integers(0, 99))
def test_a_pattern_is_made_stronger_up_to_a_limit(seed: int) -> None:
    pattern = Found(np.full((1, 8, 8), 0.1, np.float32), np.zeros((1, 8, 8), np.float32), 6.4)
    image = np.ones((1, 8, 8), np.float32)
    bent = variations.bent(image, pattern, pattern, np.random.default_rng(seed))
    assert np.ptp(bent) < 1e-6
    assert 0.8 - 1e-6 <= bent.min() <= 0.9 + 1e-6
