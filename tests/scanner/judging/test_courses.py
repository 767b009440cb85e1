"""What a suspect chose for its references, and which of them were measured so already."""

import dataclasses

from examples import identity
from hypothesis import given
from hypothesis import strategies as st

from scanner.judging.courses import agrees, choice, repeated, same_course, steps
from scanner.results import (
    Basis,
    ByClass,
    ClassRow,
    Contest,
    Grant,
    InputRange,
    Measurement,
    ModelRecord,
    Stages,
)

GRANTS = st.dictionaries(st.integers(0, 5), st.integers(1, 100), max_size=6)


def searched(granted: dict[int, int], rows: int = 6) -> Measurement:
    return Measurement(
        rule="neural_cleanse",
        statistic=1.0,
        parameters={},
        by_class=ByClass(
            classes=rows,
            rows=tuple(
                ClassRow(class_id=c, figure=1.0, course=(1.0,), finished=False, steps=1)
                for c in range(rows)
            ),
            contest=Contest(
                planned=100,
                round=25,
                finalists=6,
                granted=tuple(Grant(class_id=c, steps=n) for c, n in granted.items()),
            ),
        ),
    )


def record(measurement: Measurement, high: float | None = 1.0) -> ModelRecord:
    return ModelRecord(
        model=identity("a.onnx"),
        measurements=(measurement,),
        skips=(),
        failures=(),
        runtime=None,
        input_range=None
        if high is None
        else InputRange(low=0.0, high=high, basis=Basis.ASSUMED, sentence=""),
    )


@given(GRANTS, GRANTS, st.booleans())
def test_a_reference_agrees_with_whoever_chose_as_it_did(
    one: dict[int, int], other: dict[int, int], few: bool
) -> None:
    first, second = record(searched(one)), record(searched(other))
    assert agrees(first, first, few=few)
    if few:
        assert agrees(first, second, few=True) == (one == other)
        same = choice(first, few=True) == choice(second, few=True)
        assert same == (one == other)


STAGES = st.builds(
    Stages,
    images=st.integers(1, 32),
    foremost=st.just((0, 1)),
    controls=st.sampled_from([(2,), ()]),
)


@given(st.none() | STAGES, st.none() | STAGES)
def test_searches_agree_that_came_in_the_same_stages(
    one: Stages | None, other: Stages | None
) -> None:
    first, second = (staged(searched({0: 100}), stages) for stages in (one, other))
    assert same_course(first, second, few=True) == (one == other)
    for few in (True, False):  # who shares references must be fit by the same ones
        same = choice(record(first), few=few) == choice(record(second), few=few)
        assert same == (one == other)
    assert repeated(first, few=False) == (
        one is not None or repeated(searched({0: 100}), few=False)
    )


def staged(measurement: Measurement, stages: Stages | None) -> Measurement:
    profile = measurement.by_class
    assert profile is not None
    assert profile.contest is not None
    contest = dataclasses.replace(profile.contest, stages=stages)
    return dataclasses.replace(measurement, by_class=dataclasses.replace(profile, contest=contest))


@given(GRANTS)
def test_the_order_of_the_grants_does_not_matter(granted: dict[int, int]) -> None:
    turned = dict(reversed(granted.items()))
    assert steps(searched(granted)) == steps(searched(turned))


def test_one_of_many_chooses_for_itself_where_the_suspect_did() -> None:
    dropped, whole = searched({1: 100, 2: 100}), searched(dict.fromkeys(range(6), 100))
    assert [repeated(m, few=False) for m in (dropped, whole, None)] == [False, True, True]
    assert same_course(whole, dropped, few=False)
    assert not same_course(whole, dropped, few=True)
    (course,) = choice(record(dropped), few=False).courses
    assert course.steps == ()


def test_every_one_of_many_searches_the_classes_that_a_shortlist_chose() -> None:
    """With a shortlist of its own each, no class would be in all of them."""
    few = staged(searched({1: 100, 2: 100}), Stages(images=8, foremost=(1,), controls=(2,)))
    assert repeated(few, few=False)
    (course,) = choice(record(few), few=False).courses
    assert course.steps == ((1, 100), (2, 100))


def test_a_reference_that_was_shown_other_values_does_not_agree() -> None:
    own = searched({1: 100})
    assert not agrees(record(own), record(own, high=255.0), few=True)
    assert not agrees(record(own, high=None), record(own), few=True)
    assert agrees(record(own), record(own, high=None), few=True)
