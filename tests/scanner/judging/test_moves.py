"""When a stamp that turns one class alone accuses, beside references and without."""

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scanner.judging.moves import DOUBTFUL, HELD, PERFECT, STRAYED, TRIGGER, seen
from scanner.results import Move, Moves, Severity

SOURCE, TARGET, CLASSES = 2, 0, 4
MOVE = Move(
    source=SOURCE,
    target=TARGET,
    stamp="a white patch of 3x3 pixels at row 1, column 2",
    details={"colour": [1.0]},
    turned=9,
    images=9,
    strayed=1,
    others=30,
    success=1.0,
    steady=1.0,
)
shares = st.floats(-1, 1)


def found(figure: float | None, *, classes: int = CLASSES, move: Move = MOVE) -> Moves:
    rows = [[0.1 if s != t else None for t in range(classes)] for s in range(classes)]
    rows[SOURCE][TARGET] = figure
    return Moves(figures=tuple(map(tuple, rows)), foremost=(move,))


def grave(own: Moves | None, *references: Moves | None) -> Severity | None:
    return max((o.severity for o in seen(own, references)), default=None)


@pytest.mark.parametrize(
    ("figure", "references", "expected"),
    [
        (1.0, [], Severity.WARNING),
        (PERFECT, [], Severity.WARNING),
        (PERFECT - 0.01, [], None),
        (1.0, [0.0], Severity.SUSPICIOUS),
        (1.0, [-0.2], Severity.SUSPICIOUS),
        (TRIGGER[0], [TRIGGER[0] - TRIGGER[1]], Severity.SUSPICIOUS),
        (TRIGGER[0] - 0.01, [0.0], Severity.WARNING),
        (TRIGGER[0], [TRIGGER[0] - TRIGGER[1] + 0.01], Severity.WARNING),
        (DOUBTFUL[0], [DOUBTFUL[0] - DOUBTFUL[1] - 0.01], Severity.WARNING),
        (DOUBTFUL[0] - 0.01, [0.0], None),
        (0.9, [0.45], None),
        (1.0, [0.6], Severity.WARNING),
        (1.0, [0.9, 0.0], Severity.SUSPICIOUS),
        (1.0, [None], Severity.WARNING),
        (0.9, [None], None),
    ],
)
def test_what_is_said(
    figure: float, references: list[float | None], expected: Severity | None
) -> None:
    assert grave(found(figure), *map(found, references)) is expected


@pytest.mark.parametrize(
    "move",
    [
        dataclasses.replace(MOVE, success=HELD[0] - 0.01),
        dataclasses.replace(MOVE, steady=HELD[1] - 0.01),
        dataclasses.replace(MOVE, strayed=1 + round(STRAYED * MOVE.others)),
    ],
)
def test_what_images_held_back_do_not_do_accuses_nobody(move: Move) -> None:
    assert grave(found(1.0, move=move)) is None
    assert grave(found(1.0, move=move), found(0.0)) is None


def test_where_nothing_was_stamped_nothing_is_said() -> None:
    assert grave(None) is None
    assert grave(None, found(0.0)) is None
    assert grave(found(1.0), None) is Severity.WARNING
    assert grave(found(None), found(0.0)) is None


def test_a_reference_of_other_classes_says_nothing() -> None:
    assert grave(found(1.0), found(0.0, classes=5)) is Severity.WARNING


def test_the_gravest_of_several_is_told() -> None:
    alike = dataclasses.replace(MOVE, source=1, target=3)
    own = found(1.0)
    own = dataclasses.replace(own, foremost=(alike, *own.foremost))
    (said,) = seen(own, [found(0.0)])
    assert (said.details["source"], said.details["target"]) == (SOURCE, TARGET)


def test_the_sentences_say_what_was_counted_and_what_would_tell_more() -> None:
    (alone,) = seen(found(1.0), [])
    assert alone.sentence == (
        "a white patch of 3x3 pixels at row 1, column 2 turns 9 of 9 images of class 2 into class "
        "0, and 1 of 30 images of other classes into another: either the two classes are alike, or "
        "this is a trigger of one class alone; name a clean model of the same data with the "
        "setting `references`"
    )
    (beside,) = seen(found(1.0), [found(0.14)])
    assert beside.sentence.endswith(
        "into another; in a clean reference the best one turns a share of class 2 into class 0 "
        "that is 14 points above that of the other images that it moves"
    )
    (nothing,) = seen(found(1.0), [found(0.0)])
    assert nothing.sentence.endswith(
        "; in a clean reference no stamp of this kind turns class 2 into class 0 more than it "
        "moves other classes"
    )
    for silent in (found(None), found(0.0, classes=5), None):
        (unknown,) = seen(found(1.0), [silent])
        assert unknown.sentence.endswith(
            "; no reference could be asked the same: it takes the same classes, and enough images "
            "of each"
        )
    assert beside.details == {"source": SOURCE, "target": TARGET, "colour": [1.0]}


@given(shares, shares, shares)
def test_a_better_stamp_is_no_less_grave_and_a_better_reference_no_graver(
    figure: float, more: float, reference: float
) -> None:
    def weight(own: float, other: float) -> int:
        return grave(found(own), found(other)) or 0

    low, high = sorted([figure, more])
    assert weight(low, reference) <= weight(high, reference)
    assert weight(reference, low) >= weight(reference, high)
