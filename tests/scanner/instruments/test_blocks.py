"""Figures and histograms, against counts made by hand."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scanner.instruments.blocks import figure, histogram

VALUES = st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=30)


@pytest.mark.parametrize(
    ("value", "shown"), [(None, "-"), (0.0, "0.0000"), (1.23456, "1.2346"), (-2, "-2.0000")]
)
def test_a_figure_has_four_decimals(value: float | None, shown: str) -> None:
    assert figure(value) == shown


def test_a_histogram_by_hand() -> None:
    drawn = histogram("S_A", suspect=[0.0, 0.5, 12.0], reference=[6.0, 11.5])
    assert drawn.quantity == "S_A"
    assert drawn.edges == tuple(range(12))
    assert [series.name for series in drawn.series] == ["suspect", "reference"]
    assert drawn.series[0].counts == (2, *[0] * 10, 1)  # the highest value is in the last bin
    assert drawn.series[1].counts == (*[0] * 6, 1, *[0] * 4, 1)


@given(suspect=VALUES, reference=VALUES)
def test_every_value_is_counted_once(suspect: list[float], reference: list[float]) -> None:
    drawn = histogram("x", suspect=suspect, reference=reference)
    assert [sum(series.counts) for series in drawn.series] == [len(suspect), len(reference)]
    assert drawn.edges[0] == min(suspect + reference)
    assert drawn.edges[-1] >= drawn.edges[0]


def test_values_that_are_all_the_same_share_a_bin() -> None:
    (series,) = histogram("x", suspect=[3.0, 3.0]).series
    assert series.counts == (2, *[0] * 11)
