"""Profiles keep their rows, and arrays their bytes, on the way through JSON."""

import base64
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scanner.results import (
    Array,
    ByChannel,
    ByClass,
    ByImage,
    ByLayer,
    ChannelRow,
    ClassRow,
    Contest,
    Grant,
    Input,
    LayerRow,
    Move,
    Moves,
    Stages,
)
from scanner.values import from_json, to_json

ROWS = tuple(ClassRow(class_id=c, figure=float(c), course=(None, float(c))) for c in (2, 5))


@given(st.lists(st.floats(width=32, allow_nan=False), min_size=1, max_size=6))
def test_an_array_keeps_its_values(values: list[float]) -> None:
    raw = np.array(values, "<f4").tobytes()
    array = from_json(Array, json.loads(json.dumps(to_json(Array.packed(raw, [len(values)])))))
    assert array.shape == (len(values),)
    assert np.frombuffer(base64.b64decode(array.data), "<f4").tolist() == values


def test_a_row_is_found_by_its_class() -> None:
    profile = ByClass(classes=10, rows=ROWS)
    assert profile.row(5) is ROWS[1]
    assert profile.row(3) is None
    assert profile.row(None) is None


@pytest.mark.parametrize(
    ("granted", "dropped"), [(None, False), ((2, 5), False), ((5,), True)],
    ids=["no contest", "all to the end", "one dropped"],
)  # fmt: skip
def test_whether_a_contest_dropped_classes(granted: tuple[int, ...] | None, dropped: bool) -> None:
    contest = None if granted is None else Contest(
        planned=100, round=25, finalists=1,
        granted=tuple(Grant(class_id=c, steps=100) for c in granted),
    )  # fmt: skip
    found = ByClass(classes=6, rows=ROWS, contest=contest)
    assert (found.dropped_some, found.chose) == (dropped, dropped)


@pytest.mark.parametrize(
    ("stages", "chose"),
    [(None, False), (Stages(images=8), False), (Stages(images=8, foremost=(5,)), True)],
)
def test_whether_a_search_in_stages_chose_classes(stages: Stages | None, chose: bool) -> None:
    granted = tuple(Grant(class_id=row.class_id, steps=100) for row in ROWS)
    contest = Contest(planned=100, round=25, finalists=1, granted=granted, stages=stages)
    found = ByClass(classes=6, rows=ROWS, contest=contest)
    assert (found.dropped_some, found.chose, found.stages) == (False, chose, stages)
    if stages is not None:
        assert stages.classes == (*stages.foremost, *stages.controls)


@pytest.mark.parametrize(
    "profile",
    [
        ByClass(
            classes=6,
            rows=ROWS,
            unreached=784.0,
            contest=Contest(planned=50, round=25, finalists=2, left_out=(1,)),
        ),
        ByLayer(
            rows=(
                LayerRow(
                    layer="relu", operator="Relu", channels=2, peak_mean=1.0, peak_max=2.0,
                    mean=0.5, quantiles=(0.0, 1.0), channel=1, channel_peak=2.0, channel_z=1.0,
                ),
            )
        ),
        ByChannel(
            rows=(
                ChannelRow(
                    layer="conv", operator="Conv", channels=4, channel=0, norm=2.0, median=1.0,
                    z=3.0,
                ),
            )
        ),
        ByImage(maxima=(1.0, 2.5)),
    ],
    ids=lambda profile: type(profile).__name__,
)  # fmt: skip
def test_a_profile_survives_json(profile: ByClass | ByLayer | ByChannel | ByImage) -> None:
    assert from_json(type(profile), json.loads(json.dumps(to_json(profile)))) == profile


PIXEL = Array.packed(np.ones((1, 1, 1), "<f4").tobytes(), (1, 1, 1))


def test_an_input_of_a_result_without_classes_is_read() -> None:
    """As versions wrote it that kept no classes."""
    old = {"image": to_json(PIXEL), "low": 0.0, "high": 1.0}
    read = from_json(Input, old)
    assert (read.original, read.class_before, read.class_after, read.success) == (None,) * 4


@pytest.mark.parametrize(
    "more",
    [
        {"class_after": -1},
        {"class_without": 2**31},
        {"success": 1.5},
        {"original": to_json(Array.packed(bytes(8), (1, 1, 2)))},
    ],
)
def test_an_input_that_cannot_be_is_refused(more: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"."):
        from_json(Input, {"image": to_json(PIXEL), "low": 0.0, "high": 1.0, **more})


@pytest.mark.parametrize(
    ("figures", "target", "problem"),
    [
        (((None, 0.5), (0.1,)), 1, "not square"),
        (((None, 0.5), (0.1, None)), 2, "does not have"),
    ],
)
def test_moves_are_between_classes_that_there_are(
    figures: tuple[tuple[float | None, ...], ...], target: int, problem: str
) -> None:
    move = Move(
        source=0, target=target, stamp="a patch", details={}, turned=5, images=5, strayed=0,
        others=20, success=1.0, steady=1.0,
    )  # fmt: skip
    with pytest.raises(ValueError, match=problem):
        Moves(figures=figures, foremost=(move,))


def test_moves_keep_their_figures_on_the_way_through_json() -> None:
    moves = Moves(figures=((None, 0.5), (-0.25, None)))
    found = from_json(Moves, json.loads(json.dumps(to_json(moves))))
    assert found == moves
    assert (found.figure(0, 1), found.figure(1, 0), found.figure(1, 1)) == (0.5, -0.25, None)
