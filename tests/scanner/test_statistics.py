"""Laws of the paired interval."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from scanner.statistics import paired_difference

SAMPLES = hnp.arrays(np.float64, st.integers(2, 60), elements=st.floats(-100, 100))


@given(sample=SAMPLES, shift=st.floats(-50, 50), seed=st.integers(0, 1000))
def test_a_constant_shift_is_found_exactly(sample: np.ndarray, shift: float, seed: int) -> None:  # type: ignore[type-arg]
    found = paired_difference(sample + shift, sample, np.random.default_rng(seed))
    np.testing.assert_allclose([found.mean, found.low, found.high], shift, atol=1e-9)


@given(sample=SAMPLES, seed=st.integers(0, 1000))
def test_the_interval_holds_the_mean_and_turns_with_the_sign(sample: np.ndarray, seed: int) -> None:  # type: ignore[type-arg]
    zero = np.zeros_like(sample)
    found = paired_difference(sample, zero, np.random.default_rng(seed))
    turned = paired_difference(zero, sample, np.random.default_rng(seed))
    assert found.low <= found.mean + 1e-9
    assert found.mean - 1e-9 <= found.high
    np.testing.assert_allclose([turned.low, turned.high], [-found.high, -found.low], atol=1e-9)


def test_coverage_is_near_nominal() -> None:
    generator = np.random.default_rng(0)
    hits = 0
    for _ in range(300):
        sample = generator.normal(1, 1, 40)
        found = paired_difference(sample, np.zeros(40), generator)
        hits += found.low <= 1 <= found.high
    assert 0.90 <= hits / 300 <= 0.98
