"""Laws of outliers, margins and the gamma law."""

import math

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from scanner.instruments import statistics
from scanner.instruments.statistics import (
    class_margins,
    fit_gamma,
    gamma_survival,
    median,
    quantile,
    robust_z,
    softmax,
)

SAMPLES = hnp.arrays(np.float64, st.integers(2, 60), elements=st.floats(-100, 100))


@given(
    sample=hnp.arrays(np.float64, st.integers(1, 60), elements=st.floats(-100, 100)),
    share=st.floats(0, 1),
)
def test_quantiles_are_those_of_numpy(sample: npt.NDArray[np.float64], share: float) -> None:
    assert quantile(sample, share) == pytest.approx(np.quantile(sample, share), abs=1e-12)
    assert median(sample) == pytest.approx(np.median(sample), abs=1e-12)


def test_quantiles_of_what_is_not_finite() -> None:
    assert median([1, 2, math.inf]) == 2
    assert median([1, math.inf, math.inf, math.inf]) == math.inf
    assert math.isnan(median([1, math.nan, 3]))


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


def test_probabilities_add_up() -> None:
    assert np.allclose(softmax(np.array([[1000.0, 0.0], [1, 1]], np.float32)).sum(axis=1), 1)


def test_a_lead_is_over_the_best_of_the_others() -> None:
    scores = np.array([[1.0, 4.0, 2.0], [5.0, 3.0, 0.0]])
    assert statistics.leads(scores).tolist() == [2.0, 2.0]
    assert statistics.lead_of(1, scores).tolist() == [2.0, -2.0]
    assert statistics.lead_of(np.array([2, 0]), scores).tolist() == [-2.0, 2.0]
