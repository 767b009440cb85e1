"""The noise is what the documentation says, whatever the batches."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scanner import probes
from scanner.settings import Noise, Settings

FLOAT = np.dtype(np.float32)


def all_of(
    settings: Settings, shape: tuple[int, ...], dtype: np.dtype[np.generic] = FLOAT, batch: int = 7
) -> np.ndarray:  # type: ignore[type-arg]
    return np.concatenate(list(probes.noise_batches(shape, dtype, settings, batch)))


@given(images=st.integers(2, 40), batch=st.integers(1, 50), seed=st.integers(0, 2**32), noise=st.sampled_from(Noise))
def test_batches_do_not_change_the_images(images: int, batch: int, seed: int, noise: Noise) -> None:
    settings = Settings(images=images, seed=seed, noise=noise)
    shape = (1, 3, 5)
    np.testing.assert_array_equal(all_of(settings, shape, batch=batch), all_of(settings, shape, batch=images))


def test_the_default_is_exactly_numpys_generator() -> None:
    expected = np.random.default_rng(3).random((20, 3, 4, 4), dtype=np.float32)
    np.testing.assert_array_equal(all_of(Settings(images=20, seed=3), (3, 4, 4)), expected)


@pytest.mark.parametrize("noise", Noise)
def test_noise_stays_in_the_input_range(noise: Noise) -> None:
    images = all_of(Settings(images=50, noise=noise, input_range=(-2, 6)), (1, 8, 8))
    assert -2 <= images.min() < -1
    assert 5 < images.max() <= 6
    assert abs(images.mean() - 2) < 0.1


def test_gaussian_noise_has_a_quarter_of_the_range_as_deviation() -> None:
    images = all_of(Settings(images=200, noise=Noise.GAUSSIAN), (1, 16, 16))
    inside = images[(images > 0) & (images < 1)]
    assert abs(inside.std() - 0.25 * 0.88) < 0.01  # a normal cut at two deviations has 0.88 of its deviation


@pytest.mark.parametrize(("dtype", "low", "high"), [(np.uint8, 0, 255), (np.int8, -128, 127)])
def test_small_integers_get_their_own_range(dtype: type[np.generic], low: int, high: int) -> None:
    images = all_of(Settings(images=50), (1, 16, 16), np.dtype(dtype))
    assert images.dtype == dtype
    assert (images.min(), images.max()) == (low, high)


def test_batches_shrink_for_large_images() -> None:
    assert [probes.batch_size(s) for s in ((1, 8, 8), (3, 224, 224), (3, 4000, 4000))] == [64, 7, 1]
