"""Stamps that turn one class alone: which are found, on how many images, and how many it takes."""

from pathlib import Path
from typing import Any

import models
import numpy as np
import onnx
import pytest
import triggered
from hypothesis import given
from hypothesis import strategies as st

from scanner.errors import UnsupportedModelError
from scanner.instruments import moves, stamps
from scanner.instruments.answers import Answers
from scanner.instruments.moves import Search
from scanner.instruments.patches import Effort, Patches
from scanner.modelfile.model import open_model
from scanner.results import Moves

SPAN = (0.0, 1.0)
EFFORTS = Patches.selective
SOURCE, TARGET = 2, 3


def nothing(*_: object) -> None:
    """Take no note of the progress."""


def planted(**variant: Any) -> onnx.ModelProto:
    return triggered.shifting(planted=1.2, alone=SOURCE, **variant)


def search(model: onnx.ModelProto, folder: Path, count: int = 40) -> Search:
    path = models.save(model, folder / "model.onnx")
    answers = Answers(open_model(path), triggered.QUICK)
    with np.load(triggered.banded(folder, answers.shape, count)) as file:
        images = (file["images"] / 255).astype(np.float32)
    return Search(Patches(), answers, images, SPAN)


def found(one: Search, effort: Effort = EFFORTS[0]) -> Moves:
    result = one.run(effort, nothing)
    assert result is not None
    return result


@pytest.mark.parametrize("level", range(len(EFFORTS)))
@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 8, 8), (8, 8, 3), (8, 8)])
def test_the_corner_that_moves_one_class_is_found(
    level: int, shape: tuple[int, ...], tmp_path: Path
) -> None:
    result = found(search(planted(shape=shape), tmp_path), EFFORTS[level])
    first = result.foremost[0]
    assert (first.source, first.target) == (SOURCE, TARGET)
    assert (first.turned, first.images, first.strayed, first.others) == (10, 10, 0, 30)
    assert (first.success, first.steady) == (1.0, 1.0)
    assert "patch of 1x1 pixels at row " in first.stamp
    assert first.input is not None
    assert (first.input.class_before, first.input.class_after) == (SOURCE, TARGET)
    figures = np.array(result.figures, float)
    assert figures[SOURCE, TARGET] == 1.0
    figures[SOURCE, TARGET] = np.nan
    assert np.nanmax(figures) < 0.5
    assert np.isnan(np.diag(figures)).all()


@pytest.mark.parametrize("model", [triggered.shifting(), triggered.shifting(planted=4)])
def test_no_class_is_moved_alone_by_a_clean_network_or_one_that_moves_all(
    model: onnx.ModelProto, tmp_path: Path
) -> None:
    result = found(search(model, tmp_path))
    assert max(figure for row in result.figures for figure in row if figure is not None) < 0.5


def test_many_pairs_are_kept_and_three_have_pictures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(moves, "_HIGH", -1.0)
    one = search(planted(), tmp_path)
    foremost = found(one).foremost
    assert len(foremost) == moves._FOREMOST < triggered.BANDS * (triggered.BANDS - 1)
    assert [move.input is not None for move in foremost] == [True] * 3 + [False] * 7
    assert len(one.seen) == 3


def test_of_two_patches_that_do_the_same_the_smaller_one_is_taken(tmp_path: Path) -> None:
    model = triggered.shifting(planted=0.3, alone=SOURCE, shape=(1, 32, 32))
    one = search(model, tmp_path)
    first = found(one, EFFORTS[0]._replace(closely=50)).foremost[0]
    assert (first.turned, first.strayed) == (first.images, 0)
    assert "patch of 2x2 pixels" in first.stamp, "half of an eighth of each side"


def test_what_answers_no_number_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedModelError, match="'logits' is not a finite number"):
        search(triggered.classifier(nan=True), tmp_path)


def test_an_answer_under_a_stamp_that_is_no_number_is_of_no_class() -> None:
    logits = np.array([[0.0, 1.0], [np.nan, 0.0], [0.0, np.inf]])
    assert moves._classes(logits).tolist() == [1, -1, -1]


def test_a_class_of_few_images_is_no_source(tmp_path: Path) -> None:
    one = search(planted(), tmp_path)
    own = one._own
    one._own = np.where((own == SOURCE) & (np.cumsum(own == SOURCE) >= moves.FEWEST), 0, own)
    result = found(one)
    assert result.figures[SOURCE] == (None,) * triggered.BANDS
    assert result.figure(0, TARGET) is not None


@pytest.mark.parametrize("count", [1, 12, 16])
def test_where_no_class_has_enough_images_nothing_is_searched(count: int, tmp_path: Path) -> None:
    """Of 16 there are three of each class that are shown, and one is held back."""
    assert search(planted(), tmp_path, count).run(EFFORTS[0], nothing) is None


@given(st.lists(st.integers(0, 5), min_size=1, max_size=60))
def test_images_are_shown_or_held_back_and_never_both(classes: list[int]) -> None:
    own = np.array(classes, np.int64)
    shown, held = moves._divided(own)
    assert not {*shown} & {*held}
    counts, back = (np.bincount(own[places], minlength=6) for places in (shown, held))
    of_each = np.bincount(own, minlength=6)
    assert (counts <= moves.MOST).all()
    assert ((of_each < 2) | (back >= 1)).all()
    assert ((of_each < moves.FEWEST + 1) | (counts >= moves.FEWEST)).all()
    assert (back <= moves.MOST // 2).all()


def test_a_stamp_is_tried_on_what_did_not_choose_it(tmp_path: Path) -> None:
    one = search(planted(), tmp_path)
    of_it = one._held_own == SOURCE
    one._held[of_it] = one._held[one._held_own == 0][: of_it.sum()]  # no stamp turns these
    first = found(one).foremost[0]
    assert (first.source, first.target) == (SOURCE, TARGET)
    assert (first.success, first.images - first.turned) == (0.0, of_it.sum())


@pytest.mark.parametrize("level", range(len(EFFORTS)))
def test_no_more_images_are_run_than_was_said(
    level: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = search(planted(), tmp_path)
    expected = one.runs(EFFORTS[level])
    seen = triggered.counted(monkeypatch)
    one.run(EFFORTS[level], nothing)
    assert expected / 3 < sum(seen) <= expected


def test_less_is_tried_with_less_effort_and_nothing_without_enough_images(tmp_path: Path) -> None:
    colours = planted(shape=(3, 8, 8))
    runs = [search(colours, tmp_path).runs(effort) for effort in EFFORTS]
    assert runs == sorted({*runs}, reverse=True)
    assert search(planted(), tmp_path, 12).runs(EFFORTS[0]) == 0


def test_of_many_pairs_the_promising_ones_are_looked_at_closely(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the others do on a few images is their figure."""
    one = search(planted(), tmp_path)
    whole, most = found(one), one.runs(EFFORTS[0])
    monkeypatch.setattr(moves, "_FOREMOST", 1)
    monkeypatch.setattr(moves, "_ROOM", 1)
    seen = triggered.counted(monkeypatch)
    first = found(one)
    assert sum(seen) < one.runs(EFFORTS[0]) * 1.1 < most
    assert first.foremost == whole.foremost
    known = [[figure is not None for figure in row] for row in first.figures]
    assert known == [[figure is not None for figure in row] for row in whole.figures]
    images = sum(seen)
    again = one.run(EFFORTS[0], nothing, [(0, 1)])
    assert again is not None
    assert again.foremost == first.foremost
    assert sum(seen) > 2 * images, "a pair that stands out in the suspect is one more"


def test_how_many_are_stamped_together_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = search(planted(), tmp_path)
    expected = one.run(EFFORTS[0], nothing)
    for name in ("_AT_ONCE", "_ELEMENTS"):
        with monkeypatch.context() as patched:
            patched.setattr(stamps, name, 1)
            assert one.run(EFFORTS[0], nothing) == expected


def test_the_progress_goes_to_its_end(tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    search(planted(), tmp_path).run(EFFORTS[0], lambda done, total, *_: told.append((done, total)))
    assert told == sorted(told)
    assert told[-1][0] == told[-1][1]


@given(st.permutations(range(triggered.BANDS)))
def test_the_order_of_the_classes_changes_nothing(order: list[int]) -> None:
    """A network whose logits change their places is the same network."""
    import tempfile  # noqa: PLC0415

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        plain = found(search(planted(), folder))
        model = planted()
        (last,) = [node for node in model.graph.node if "logits" in node.output]
        last.output[0] = "unordered"
        model.graph.initializer.append(onnx.numpy_helper.from_array(np.array(order), "order"))
        model.graph.node.append(
            onnx.helper.make_node("Gather", ["unordered", "order"], ["logits"], axis=1)
        )
        moved = found(search(model, folder))
    expected = np.array(plain.figures, float)[np.ix_(order, order)]
    assert np.allclose(np.array(moved.figures, float), expected, equal_nan=True)
