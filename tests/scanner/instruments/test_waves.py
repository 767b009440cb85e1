"""Faint sinusoids: what they change, which there are, and what is said of them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scanner.instruments.waves import AMPLITUDE, MOST, SHORTEST, Wave, Waves

SHAPES = [(3, 12, 16), (12, 16, 3), (12, 16)]
SPAN = (-1.0, 3.0)


@given(
    shape=st.sampled_from(SHAPES),
    periods=st.integers(1, 4),
    down=st.booleans(),
    phase=st.floats(0, 1, exclude_max=True),
)
def test_a_wave_goes_in_one_direction_and_averages_to_nothing(
    shape: tuple[int, ...], periods: int, down: bool, phase: float
) -> None:
    images = np.ones((2, *shape), np.float32)
    stamped = Wave(periods, down, phase, *SPAN).stamped(images)
    assert (images == 1).all()
    assert stamped.dtype == np.float32
    assert stamped.shape == images.shape
    added = stamped - images
    planes = np.moveaxis(added, -1, 1) if shape[-1] == 3 else added
    planes = planes.reshape(-1, 12, 16)
    assert (planes == planes[0]).all()
    profile = planes[0] if not down else planes[0].T
    assert (profile == profile[0]).all(), "it is the same along the other direction"
    height = AMPLITUDE * (SPAN[1] - SPAN[0])
    assert profile[0].mean() == pytest.approx(0, abs=1e-6)
    assert np.sqrt((profile[0] ** 2).mean()) == pytest.approx(height / np.sqrt(2), rel=1e-4)
    spectrum = np.abs(np.fft.rfft(profile[0]))
    assert spectrum.argmax() == periods


def test_a_wave_stays_within_the_range() -> None:
    images = np.array([0.0, 1.0], np.float32)[:, None, None, None] * np.ones((1, 8, 8), np.float32)
    stamped = Wave(1, False, 0.25, 0.0, 1.0).stamped(images)
    assert (stamped.min(), stamped.max()) == (0.0, 1.0)


@pytest.mark.parametrize("shape", SHAPES)
def test_all_waves_are_different_and_none_is_too_fine(shape: tuple[int, ...]) -> None:
    waves = Waves().candidates(shape, SPAN, Waves.efforts[0])
    images = np.ones((1, *shape), np.float32)
    assert len({wave.stamped(images).round(4).tobytes() for wave in waves}) == len(waves)
    assert max(wave.periods for wave in waves if wave.down) == 12 // SHORTEST
    assert max(wave.periods for wave in waves if not wave.down) == 16 // SHORTEST
    large = Waves().candidates((3, 224, 224), SPAN, Waves.efforts[0])
    assert {wave.periods for wave in large} == {*range(1, MOST + 1)}


def test_what_is_near_a_wave_begins_a_little_earlier_or_later() -> None:
    wave = Wave(2, True, 0.0, *SPAN)
    near = [*Waves().near(wave, (1, 12, 16))]
    assert near[0] == wave
    assert [other.phase for other in near[1:]] == [0.875, 0.125]
    assert len(near) == Waves().most_near((1, 12, 16))


def test_a_wave_is_told() -> None:
    assert Wave(1, True, 0.0, *SPAN).described() == (
        "a wave of one period from top to bottom (amplitude 11% of the range)"
    )
    wave = Wave(6, False, 0.25, *SPAN)
    assert wave.described() == (
        "a wave of 6 periods from left to right (amplitude 11% of the range)"
    )
    assert wave.details == {
        "periods": 6,
        "direction": "across",
        "phase": 0.25,
        "amplitude": pytest.approx(4 * 28 / 255),
    }
