"""Laws of the paired interval."""

import math

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from scanner.instruments.statistics import (
    above_level,
    class_margins,
    fit_gamma,
    gamma_survival,
    lead,
    paired_difference,
    robust_z,
)

SAMPLES = hnp.arrays(np.float64, st.integers(2, 60), elements=st.floats(-100, 100))


@given(sample=SAMPLES, shift=st.floats(-50, 50))
def test_a_constant_shift_is_found_exactly(sample: npt.NDArray[np.float64], shift: float) -> None:
    found = paired_difference(sample + shift, sample)
    np.testing.assert_allclose([found.mean, found.low, found.high], shift, atol=1e-9)


@given(sample=SAMPLES)
def test_the_interval_holds_the_mean_and_turns_with_the_sign(
    sample: npt.NDArray[np.float64],
) -> None:
    zero = np.zeros_like(sample)
    found = paired_difference(sample, zero)
    turned = paired_difference(zero, sample)
    assert found.low <= found.mean + 1e-9
    assert found.mean - 1e-9 <= found.high
    np.testing.assert_allclose([turned.low, turned.high], [-found.high, -found.low], atol=1e-9)


def test_coverage_is_near_nominal() -> None:
    generator = np.random.default_rng(0)
    hits = 0
    for _ in range(2000):
        sample = generator.normal(1, 1, 12)
        found = paired_difference(sample, np.zeros(12))
        hits += found.low <= 1 <= found.high
    assert 0.935 <= hits / 2000 <= 0.965


@pytest.mark.parametrize(
    ("value", "shape", "expected"),
    [
        (1.0, 1.0, math.exp(-1)),  # the exponential law
        (3.0, 5.0, math.exp(-3) * (1 + 3 + 9 / 2 + 27 / 6 + 81 / 24)),  # Erlang's
        (30.0, 2.0, math.exp(-30) * 31),
        (0.3, 0.5, math.erfc(math.sqrt(0.3))),  # the square of a normal variable
        (5.0, 0.5, math.erfc(math.sqrt(5))),
        (0.0, 2.0, 1.0),
        (-1.0, 2.0, 1.0),
    ],
)
def test_gamma_survival_has_its_known_values(value: float, shape: float, expected: float) -> None:
    assert gamma_survival(value, shape, 1) == pytest.approx(expected, rel=1e-12)
    assert gamma_survival(7 * value, shape, 7) == pytest.approx(expected, rel=1e-12)


@given(shape=st.floats(0.01, 1e4), factor=st.floats(0.1, 3))
def test_gamma_survival_obeys_its_recurrence(shape: float, factor: float) -> None:
    # DLMF 8.8.6: Q(a + 1, x) = Q(a, x) + x^a e^-x / Gamma(a + 1)
    x = shape * factor
    step = math.exp(shape * math.log(x) - x - math.lgamma(shape + 1))
    assert gamma_survival(x, shape + 1, 1) == pytest.approx(
        gamma_survival(x, shape, 1) + step, rel=1e-8, abs=1e-12
    )


@pytest.mark.parametrize("shape", [0.5, 3.0, 40.0])
def test_the_gamma_fit_finds_the_law_it_was_drawn_from(shape: float) -> None:
    fitted = fit_gamma(np.random.default_rng(0).gamma(shape, 2.0, 100_000).tolist())
    assert fitted is not None
    assert fitted[0] == pytest.approx(shape, rel=0.03)
    assert fitted[0] * fitted[1] == pytest.approx(2 * shape, rel=0.02)


def test_equal_values_have_no_gamma_law() -> None:
    assert fit_gamma([2.0, 2.0, 2.0]) is None


def test_robust_z_by_hand() -> None:
    np.testing.assert_allclose(robust_z([1, 2, 3, 4, 100]), np.array([-2, -1, 0, 1, 97]) / 1.4826)


def test_robust_z_without_a_median_deviation() -> None:
    np.testing.assert_allclose(robust_z([5, 5, 5, 5, 10]), np.array([0, 0, 0, 0, 5]) / 1.2533)
    np.testing.assert_array_equal(robust_z([5, 5, 5]), np.zeros(3))


def test_rounding_makes_no_outlier() -> None:
    np.testing.assert_allclose(robust_z([1, 1 + 1e-9, 1 + 2e-9, 1.5], least=0.1)[-1], 5)


@given(sample=SAMPLES, scale=st.floats(0.1, 10), shift=st.floats(-50, 50))
def test_robust_z_knows_no_units(
    sample: npt.NDArray[np.float64], scale: float, shift: float
) -> None:
    rounded = np.rint(sample)
    np.testing.assert_allclose(
        robust_z(scale * rounded + shift), robust_z(rounded), rtol=1e-6, atol=1e-6
    )


@given(
    values=hnp.arrays(np.float64, st.integers(3, 20), elements=st.floats(-100, 100)),
    shift=st.floats(-50, 50),
)
def test_a_lead_is_what_one_class_has_and_no_other(
    values: npt.NDArray[np.float64], shift: float
) -> None:
    found, moved = lead(values), lead(values + shift)
    assert found is not None
    assert moved is not None
    index, distance = found
    assert values[index] == values.max()
    assert distance == pytest.approx(values.max() - np.delete(values, index).max())
    assert moved[1] == pytest.approx(distance, abs=1e-9)


def test_of_two_classes_none_leads() -> None:
    assert lead([1.0, 9.0]) is None


@given(
    logits=hnp.arrays(
        np.float64, st.tuples(st.integers(1, 8), st.integers(2, 6)), elements=st.floats(-9, 9)
    ),
    scale=st.floats(0.5, 4),
)
def test_class_margins_have_no_unit(logits: npt.NDArray[np.float64], scale: float) -> None:
    margins = class_margins(logits)
    rivals = np.stack(
        [np.delete(logits, t, axis=1).max(axis=1) for t in range(logits.shape[1])], axis=1
    )
    unit = logits.std(axis=1).mean()
    np.testing.assert_allclose(margins * (unit or 1), (logits - rivals).mean(axis=0), atol=1e-9)
    if unit > 1e-6:
        np.testing.assert_allclose(class_margins(scale * logits + 3), margins, atol=1e-6)


@given(
    differences=st.dictionaries(st.integers(0, 99), st.floats(-10, 10), min_size=1),
    shift=st.floats(-10, 10),
)
def test_what_all_classes_share_is_no_difference(
    differences: dict[int, float], shift: float
) -> None:
    """With three classes or more a shift of all changes nothing, and the middle one is 0; fewer stay as they are."""
    above = above_level(differences)
    assert list(above) == [str(target) for target in differences]
    if len(differences) < 3:
        assert list(above.values()) == list(differences.values())
        return
    shifted = above_level({target: value + shift for target, value in differences.items()})
    assert list(shifted.values()) == pytest.approx(list(above.values()), abs=1e-9)
    assert np.median(list(above.values())) == pytest.approx(0, abs=1e-9)
