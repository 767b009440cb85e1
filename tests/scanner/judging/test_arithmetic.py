"""Judging's arithmetic in plain Python, against its laws and against NumPy."""

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from scanner.judging.arithmetic import (
    above_level,
    above_the_rest,
    change_interval,
    lead,
    mean,
    median,
    paired_difference,
    share_interval,
)

SAMPLES = hnp.arrays(np.float64, st.integers(2, 60), elements=st.floats(-100, 100))


@given(sample=SAMPLES, shift=st.floats(-50, 50))
def test_a_constant_shift_is_found_exactly(sample: npt.NDArray[np.float64], shift: float) -> None:
    found = paired_difference((sample + shift).tolist(), sample.tolist())
    np.testing.assert_allclose([found.mean, found.low, found.high], shift, atol=1e-9)


@given(sample=SAMPLES)
def test_the_interval_holds_the_mean_and_turns_with_the_sign(
    sample: npt.NDArray[np.float64],
) -> None:
    zero = np.zeros_like(sample)
    found = paired_difference(sample.tolist(), zero.tolist())
    turned = paired_difference(zero.tolist(), sample.tolist())
    assert found.low <= found.mean + 1e-9
    assert found.mean - 1e-9 <= found.high
    np.testing.assert_allclose([turned.low, turned.high], [-found.high, -found.low], atol=1e-9)


def test_coverage_is_near_nominal() -> None:
    generator = np.random.default_rng(0)
    hits = 0
    for _ in range(2000):
        sample = generator.normal(1, 1, 12)
        found = paired_difference(sample.tolist(), [0.0] * 12)
        hits += found.low <= 1 <= found.high
    assert 0.935 <= hits / 2000 <= 0.965


@given(sample=SAMPLES)
def test_the_numbers_are_numpys(sample: npt.NDArray[np.float64]) -> None:
    values = sample.tolist()
    assert mean(values) == pytest.approx(sample.mean(), rel=1e-12, abs=1e-12)
    assert median(values) == pytest.approx(np.median(sample), rel=1e-12, abs=1e-12)
    found = paired_difference(values, [0.0] * len(values))
    error = sample.std(ddof=1) / np.sqrt(len(sample))
    assert found.high - found.mean == pytest.approx(found.mean - found.low, abs=1e-9)
    assert found.high - found.mean >= 1.95 * error - 1e-9


@given(
    values=hnp.arrays(np.float64, st.integers(3, 20), elements=st.floats(-100, 100)),
    shift=st.floats(-50, 50),
)
def test_a_lead_is_what_one_class_has_and_no_other(
    values: npt.NDArray[np.float64], shift: float
) -> None:
    found, moved = lead(values.tolist()), lead((values + shift).tolist())
    assert found is not None
    assert moved is not None
    index, distance = found
    assert values[index] == values.max()
    assert distance == pytest.approx(values.max() - np.delete(values, index).max())
    assert moved[1] == pytest.approx(distance, abs=1e-9)


def test_of_two_classes_none_leads() -> None:
    assert lead([1.0, 9.0]) is None


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({}, {}),
        ({5: 1.0}, {}),
        ({5: 1.0, 6: 3.0}, {5: 0.0, 6: 2.0}),
        ({0: 1, 1: 2, 2: 9}, {0: -1, 1: 0, 2: 7}),
    ],
)
def test_how_far_values_lie_above_the_rest(
    values: dict[int, float], expected: dict[int, float]
) -> None:
    assert above_the_rest(values) == expected


@given(
    differences=st.dictionaries(st.integers(0, 99), st.floats(-10, 10), min_size=1),
    shift=st.floats(-10, 10),
)
def test_what_all_classes_share_is_no_difference(
    differences: dict[int, float], shift: float
) -> None:
    """With three classes or more, a shift of all changes nothing, and the middle one is 0."""
    above = above_level(differences)
    assert list(above) == list(differences)
    if len(differences) < 3:
        assert list(above.values()) == list(differences.values())
        return
    shifted = above_level({target: value + shift for target, value in differences.items()})
    assert list(shifted.values()) == pytest.approx(list(above.values()), abs=1e-9)
    assert np.median(list(above.values())) == pytest.approx(0, abs=1e-9)


@given(of=st.integers(1, 500), data=st.data())
def test_the_interval_of_a_share_holds_it_and_turns_with_it(of: int, data: st.DataObject) -> None:
    hits = data.draw(st.integers(0, of))
    low, high = share_interval(hits, of)
    assert 0 <= low <= hits / of + 1e-12
    assert hits / of - 1e-12 <= high <= 1
    np.testing.assert_allclose(share_interval(of - hits, of), (1 - high, 1 - low), atol=1e-12)


def test_the_interval_of_a_share_is_wilsons() -> None:
    """10 of 100, as Newcombe (Statistics in Medicine 17, 1998) and many tables have it."""
    np.testing.assert_allclose(share_interval(10, 100), (0.0552, 0.1744), atol=1e-4)
    assert share_interval(0, 0) == (0, 1)


@given(of=st.integers(1, 500), data=st.data())
def test_the_interval_of_a_change_turns_with_its_sign(of: int, data: st.DataObject) -> None:
    lost = data.draw(st.integers(0, of))
    gained = data.draw(st.integers(0, of - lost))
    low, high = change_interval(lost, gained, of)
    assert -1 <= low < high <= 1
    np.testing.assert_allclose(change_interval(gained, lost, of), (-high, -low), atol=1e-12)
    assert low <= (gained - lost) / (of + 2) <= high


@pytest.mark.parametrize("lose", [0.02, 0.12])
def test_the_interval_of_a_change_covers_it(lose: float) -> None:
    generator = np.random.default_rng(0)
    draws = generator.multinomial(100, [lose, 0.06, 0.94 - lose], size=2000)
    found = [change_interval(int(lost), int(gained), 100) for lost, gained, _ in draws]
    hits = np.mean([low <= 0.06 - lose <= high for low, high in found])
    assert 0.93 <= hits <= 0.99
