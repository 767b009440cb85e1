"""Profiles by class: figures on their scale, differences, leads."""

import dataclasses
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scanner.judging import by_class
from scanner.results import ByClass, ClassRow, Contest, Grant, Scale

PLAIN = Scale()
SMALL = Scale(small_is_suspicious=True, added=1.0)
FIGURES = st.lists(st.floats(0.1, 1000), min_size=3, max_size=8)


def profile(*figures: float | None, unreached: float | None = None) -> ByClass:
    rows = tuple(
        ClassRow(class_id=index, figure=figure, course=(figure,))
        for index, figure in enumerate(figures)
    )
    return ByClass(classes=len(figures), rows=rows, unreached=unreached)


def test_differences_by_hand() -> None:
    """Of a pair of references, masks + 1 are averaged geometrically."""
    suspect, references = profile(1, 3, 7), [profile(1, 3, 1), profile(7, 3, 7)]
    rows = by_class.differences(suspect, references, SMALL)
    assert [row.reference for row in rows] == pytest.approx([3, 3, 3])
    expected = [math.log(4 / 2), 0, math.log(4 / 8)]
    assert [row.difference for row in rows] == pytest.approx(expected)
    assert [row.above for row in rows] == pytest.approx(expected)  # their median is 0
    assert rows[0].references == (1, 7)


@given(figures=FIGURES, factor=st.floats(0.5, 2))
def test_what_all_classes_share_is_taken_off(figures: list[float], factor: float) -> None:
    scale = Scale(added=0.0)
    other = profile(*[figure * factor for figure in figures])
    rows = by_class.differences(profile(*figures), [other], scale)
    assert [row.difference for row in rows] == pytest.approx([-math.log(factor)] * len(figures))
    assert [row.above for row in rows] == pytest.approx([0.0] * len(figures), abs=1e-9)


@given(figures=FIGURES, other=FIGURES, scale=st.sampled_from([PLAIN, SMALL, Scale(added=0.1)]))
def test_a_reference_counts_the_same_however_often_it_is_named(
    figures: list[float], other: list[float], scale: Scale
) -> None:
    size = min(len(figures), len(other))
    suspect, reference = profile(*figures[:size]), profile(*other[:size])
    once = by_class.differences(suspect, [reference], scale)
    thrice = by_class.differences(suspect, [reference] * 3, scale)
    assert [r.above for r in once] == pytest.approx([r.above for r in thrice], abs=1e-9)


def test_a_search_that_reached_nothing_says_nothing() -> None:
    reference, failed = profile(5, 5, 5), profile(None, 2, 3, unreached=9)
    left = by_class.differences(failed, [reference], PLAIN)
    assert [row.class_id for row in left] == [1, 2]
    assert [row.class_id for row in by_class.differences(reference, [failed], PLAIN)] == [1, 2]


def test_a_class_that_was_not_dropped_and_has_no_figure_was_not_reached() -> None:
    contest = Contest(
        planned=100,
        round=25,
        finalists=2,
        granted=(Grant(class_id=1, steps=100), Grant(class_id=2, steps=100)),
    )
    searched = dataclasses.replace(profile(None, None, 3, unreached=9), contest=contest)
    assert by_class.not_reached(searched) == (1,)
    assert by_class.not_reached(profile(None, 2, 3)) == ()  # nothing was searched


def test_a_class_that_a_contest_gave_up_counts_as_unreached() -> None:
    granted = (Grant(class_id=1, steps=100), Grant(class_id=2, steps=100))
    contest = Contest(planned=100, round=25, finalists=2, granted=granted)
    gave_up = dataclasses.replace(profile(None, 2, 3, unreached=9), contest=contest)
    counted = by_class.differences(gave_up, [profile(5, 5, 5)], PLAIN)
    assert [(row.class_id, row.suspect) for row in counted] == [(0, 9), (1, 2), (2, 3)]


@pytest.mark.parametrize(
    ("figures", "expected"),
    [
        ((1, 2, 9), {0: -1, 1: 0, 2: 7}),
        ((1, 3, None, 9), {0: -2, 1: 0, 3: 6}),
        ((1, None, 9), {}),
        ((None,) * 3, {}),
        ((4, 1), {0: 3, 1: 0}),
        ((4, None), {}),
    ],
    ids=[
        "all reached",
        "one not reached",
        "two of three reached",
        "none reached",
        "two classes",
        "one of two reached",
    ],
)
def test_how_far_classes_lie_above_the_median_of_their_own_model(
    figures: tuple[float | None, ...], expected: dict[int, float]
) -> None:
    suspect = profile(*figures)
    assert by_class.ahead(suspect, PLAIN) == expected
    rows = by_class.alone(suspect, PLAIN)
    assert {row.class_id: row.ahead for row in rows if row.ahead is not None} == expected


def test_classes_are_compared_after_equally_many_rounds() -> None:
    """The time ended in the second round, before the last class had its turn."""
    courses = ((80.0, 20.0), (70.0, 20.0), (40.0,))
    rows = tuple(
        ClassRow(class_id=index, figure=course[-1], course=course, finished=False)
        for index, course in enumerate(courses)
    )
    contest = Contest(planned=100, round=25, finalists=3)
    ahead = by_class.ahead(ByClass(classes=3, rows=rows, contest=contest), SMALL)
    assert max(ahead, key=lambda class_id: ahead[class_id]) == 2
    done = dataclasses.replace(contest, planned=50)
    finished = tuple(dataclasses.replace(row, finished=True) for row in rows)
    at_the_end = by_class.ahead(ByClass(classes=3, rows=finished, contest=done), SMALL)
    assert at_the_end[2] < 0


def test_nothing_is_said_of_a_model_of_which_only_some_classes_were_searched() -> None:
    assert by_class.ahead(ByClass(classes=4, rows=profile(1, 2, 9).rows), PLAIN) == {}


def test_without_a_reference_there_is_no_difference() -> None:
    suspect = profile(1, None)
    assert by_class.differences(suspect, [], PLAIN) == []
    rows = by_class.alone(suspect, PLAIN)
    assert [(row.class_id, row.suspect, row.above) for row in rows] == [
        (0, 1, None),
        (1, None, None),
    ]


@pytest.mark.parametrize(("scale", "expected"), [(PLAIN, 2), (SMALL, 1)])
def test_the_foremost_class(scale: Scale, expected: int) -> None:
    assert by_class.foremost(profile(4, 1, 9, None), scale) == expected


def test_where_no_class_was_reached_none_is_foremost() -> None:
    assert by_class.foremost(profile(None, None), PLAIN) is None


def test_the_lead_is_over_the_next_class() -> None:
    lead = by_class.leading(profile(7, 1, 3), SMALL)
    assert lead is not None
    assert lead.class_id == 1
    assert lead.distance == pytest.approx(math.log(4 / 2))


@pytest.mark.parametrize(
    "figures", [(1, 2), (1, 2, None), (None, None, None)], ids=["two", "one missing", "none"]
)
def test_no_class_leads(figures: tuple[float | None, ...]) -> None:
    assert by_class.leading(profile(*figures), PLAIN) is None


def test_no_class_leads_where_only_some_were_searched() -> None:
    rows = profile(1, 2, 9).rows
    assert by_class.leading(ByClass(classes=4, rows=rows), PLAIN) is None
    assert by_class.leading(ByClass(classes=3, rows=rows), PLAIN) is not None


def test_nearness_is_taken_off_a_lead() -> None:
    rows = tuple(
        ClassRow(class_id=index, figure=figure, course=(figure,), nearness=nearness)
        for index, (figure, nearness) in enumerate([(9.0, 3.0), (5.0, 0.0), (1.0, 0.0)])
    )
    near = ByClass(classes=3, rows=rows)
    plain, eased = by_class.leading(near, PLAIN), by_class.leading(near, Scale(ease=2.0))
    assert plain is not None
    assert (plain.class_id, plain.distance) == (0, 4)
    assert eased is not None
    assert (eased.class_id, eased.distance) == (1, 2)  # 9 - 2 * 3 = 3, less than 5


def searched(*courses: tuple[float, ...], finalists: int, granted: tuple[int, ...]) -> ByClass:
    rows = tuple(
        ClassRow(class_id=index, figure=course[-1], course=course, finished=False)
        for index, course in enumerate(courses)
    )
    contest = Contest(
        planned=30, round=10, finalists=finalists,
        granted=tuple(Grant(class_id=c, steps=10 * len(courses[c])) for c in granted),
    )  # fmt: skip
    return ByClass(classes=len(courses), rows=rows, contest=contest)


def test_dropped_classes_do_not_stand_side_by_side() -> None:
    profile = searched((9, 8, 7), (6, 5), (4,), finalists=1, granted=(0, 1))
    found = by_class.side_by_side(profile)
    assert found is not None
    assert [(row.class_id, figure) for row, figure in found] == [(0, 8), (1, 5)]


def test_classes_are_compared_after_as_many_rounds_unless_both_contests_ended() -> None:
    ended = searched((9, 8, 7), (6, 5), finalists=1, granted=(0,))
    cut_short = searched((3, 2), (1,), finalists=1, granted=(0, 1))
    other = searched((9,), (8, 7, 3), finalists=1, granted=(1,))
    assert list(by_class.class_by_class(ended, [other])) == [(0, 7, [9]), (1, 5, [3])]
    assert list(by_class.class_by_class(ended, [cut_short])) == [(0, 8, [2]), (1, 6, [1])]


@given(one=st.floats(0, 1e6), two=st.floats(0, 1e6))
def test_suspicion_keeps_or_turns_the_order(one: float, two: float) -> None:
    low, high = sorted((one, two))
    for added in (None, 0.5):
        large, small = Scale(added=added), Scale(small_is_suspicious=True, added=added)
        assert by_class.suspicion(low, large) <= by_class.suspicion(high, large)
        assert by_class.suspicion(high, small) <= by_class.suspicion(low, small)


def test_a_negative_figure_has_a_logarithm_all_the_same() -> None:
    assert by_class.suspicion(-3.0, Scale(added=1.0)) == 0.0
