"""The noise is what the documentation says, whatever the batches."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scanner.errors import UsageError
from scanner.instruments import probes
from scanner.settings import Noise, Settings

FLOAT = np.dtype(np.float32)
GENERATED = [noise for noise in Noise if noise is not Noise.SHUFFLED]


def all_of(
    settings: Settings, shape: tuple[int, ...], dtype: np.dtype[np.generic] = FLOAT, batch: int = 7
) -> npt.NDArray[Any]:
    return np.concatenate(list(probes.noise_batches(shape, dtype, settings, batch)))


@given(
    images=st.integers(2, 40),
    batch=st.integers(1, 50),
    seed=st.integers(0, 2**32),
    noise=st.sampled_from(GENERATED),
)
def test_batches_do_not_change_the_images(images: int, batch: int, seed: int, noise: Noise) -> None:
    settings = Settings(images=images, seed=seed, noise=noise)
    shape = (1, 3, 5)
    np.testing.assert_array_equal(
        all_of(settings, shape, batch=batch), all_of(settings, shape, batch=images)
    )


def test_the_default_is_exactly_numpys_generator() -> None:
    expected = np.random.default_rng(3).random((20, 3, 4, 4), dtype=np.float32)
    np.testing.assert_array_equal(all_of(Settings(images=20, seed=3), (3, 4, 4)), expected)


@pytest.mark.parametrize("noise", GENERATED)
def test_noise_stays_in_the_input_range(noise: Noise) -> None:
    images = all_of(Settings(images=2_000, noise=noise, input_range=(-2, 6)), (1, 8, 8))
    assert -2 <= images.min() < -1
    assert 5 < images.max() <= 6
    assert abs(images.mean() - 2) < 0.2  # four standard errors of 2,000 constant images


def test_gaussian_noise_has_a_quarter_of_the_range_as_deviation() -> None:
    images = all_of(Settings(images=200, noise=Noise.GAUSSIAN), (1, 16, 16))
    inside = images[(images > 0) & (images < 1)]
    assert (
        abs(inside.std() - 0.25 * 0.88) < 0.01
    )  # a normal cut at two deviations has 0.88 of its deviation


@pytest.mark.parametrize(("dtype", "low", "high"), [(np.uint8, 0, 255), (np.int8, -128, 127)])
def test_small_integers_get_their_own_range(dtype: type[np.generic], low: int, high: int) -> None:
    images = all_of(Settings(images=50), (1, 16, 16), np.dtype(dtype))
    assert images.dtype == dtype
    assert (images.min(), images.max()) == (low, high)


def test_batches_shrink_for_large_images() -> None:
    assert [probes.batch_size(s) for s in ((1, 8, 8), (3, 224, 224), (3, 4000, 4000))] == [64, 7, 1]


def test_constant_noise_is_one_colour_an_image() -> None:
    images = all_of(Settings(images=5, noise=Noise.CONSTANT), (3, 8, 8))
    assert (np.ptp(images, axis=(2, 3)) == 0).all()
    assert len(np.unique(images)) == 15


def test_low_frequency_noise_passes_through_its_grid() -> None:
    images = all_of(Settings(images=6, noise=Noise.LOW_FREQUENCY), (3, 10, 13))
    grid = np.random.default_rng(0).random((6, 3, 4, 4), dtype=np.float32)
    np.testing.assert_allclose(images[:, :, ::3, ::4], grid, rtol=1e-6)
    np.testing.assert_allclose(
        images[:, :, 0, 2], (grid[:, :, 0, 0] + grid[:, :, 0, 1]) / 2, rtol=1e-6
    )


@pytest.mark.parametrize("dtype", [np.float32, np.uint8])
@pytest.mark.parametrize("shape", [(3, 6, 7), (6, 7, 3)])
def test_shuffled_noise_keeps_every_pixel(
    shape: tuple[int, ...], dtype: type[np.generic], tmp_path: Path
) -> None:
    originals = np.random.default_rng(1).integers(0, 256, (4, *shape), dtype=np.uint8)
    np.save(tmp_path / "images.npy", originals)
    settings = Settings(images=9, noise=Noise.SHUFFLED, images_file=str(tmp_path / "images.npy"))
    images = all_of(settings, shape, np.dtype(dtype))
    np.testing.assert_array_equal(images, all_of(settings, shape, np.dtype(dtype), batch=2))
    codes = np.rint(images * (255 if dtype is np.float32 else 1)).astype(np.uint8)
    axis = 1 if shape[0] == 3 else 3
    pixels = [colours(image, axis - 1) for image in codes]
    known = [colours(image, axis - 1) for image in originals]
    assert all(any((mixed == one).all() for one in known) for mixed in pixels)
    assert not any((image == one).all() for image in codes for one in originals)


def colours(image: npt.NDArray[np.uint8], axis: int) -> npt.NDArray[np.int64]:
    """Return the pixels of an image in an order of their own, (pixels, 3)."""
    return np.array(sorted(np.moveaxis(image, axis, -1).reshape(-1, 3).tolist()))


def test_shuffled_noise_without_images_is_refused() -> None:
    with pytest.raises(UsageError, match="shuffled noise is made of your own images"):
        all_of(Settings(noise=Noise.SHUFFLED), (1, 8, 8))


@pytest.mark.parametrize("low_high", [(0.0, 1.0), (-1.0, 1.0), (0.0, 255.0)])
def test_varied_images_fill_their_range(low_high: tuple[float, float]) -> None:
    images = probes.varied(Settings(input_range=low_high), (3, 8, 8), FLOAT)
    low, high = low_high
    assert images.shape == (96, 3, 8, 8)
    assert low <= images.min() < low + 0.01 * (high - low)
    assert high - 0.01 * (high - low) < images.max() <= high


def test_varied_images_are_the_users_where_there_are_any(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).random((6, 1, 4, 4), np.float32)
    np.save(tmp_path / "images.npy", pixels)
    found = probes.varied(Settings(images_file=str(tmp_path / "images.npy")), (1, 4, 4), FLOAT)
    assert sorted(found.sum(axis=(1, 2, 3))) == pytest.approx(sorted(pixels.sum(axis=(1, 2, 3))))


def test_one_image_many_times_tells_nothing(tmp_path: Path) -> None:
    np.save(tmp_path / "images.npy", np.full((6, 1, 4, 4), 0.5, np.float32))
    with pytest.raises(UsageError, match="holds one image, 6 times; give images that differ"):
        probes.varied(Settings(images_file=str(tmp_path / "images.npy")), (1, 4, 4), FLOAT)


@pytest.mark.parametrize(
    ("name", "expected"),
    [("uint8", (0.0, 255.0)), ("int8", (-128.0, 127.0)), ("int32", None), ("bool", None)],
)
def test_only_bytes_have_a_range_of_their_own(
    name: str, expected: tuple[float, float] | None
) -> None:
    assert probes.bytes_range(np.dtype(name)) == expected
