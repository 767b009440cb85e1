"""A search is as large as the time allows: fewer images, fewer classes, never classes in turn."""

import dataclasses
import sys
from pathlib import Path

import numpy as np
import pytest
import triggered
from hypothesis import given
from hypothesis import strategies as st

from scanner.detectors.mm_bd import MmBd
from scanner.detectors.neural_cleanse import NeuralCleanse
from scanner.errors import NoRoomError, NoTimeError
from scanner.graph.gradient.backward import Objective
from scanner.instruments import memory, shortlist, stages
from scanner.instruments.detector import Subject
from scanner.instruments.differentiable import differentiable
from scanner.instruments.pace import Pace
from scanner.instruments.stages import LONGER, SHORT, SLACK, Demand, outlined
from scanner.limits import MIB, Limits
from scanner.results import ByClass, Measurement, Stages
from scanner.settings import Effort, Settings

EFFORT = Effort(images=32, steps=100, restarts=1, seconds=60)
CLASSES = 20


def demand(classes: int = 10, images: int = 32, seconds: float = 60) -> Demand:
    effort = dataclasses.replace(EFFORT, seconds=seconds)
    return Demand(classes=classes, images=images, least=8, effort=effort)


DEMANDS = st.builds(demand, st.integers(2, 2000), st.integers(1, 64), st.floats(1, 1000))


@given(DEMANDS, st.floats(1e-7, 10))
def test_a_search_fits_unless_a_single_class_does_not(wanted: Demand, each: float) -> None:
    found = outlined(wanted, each)
    assert 1 <= found.classes <= wanted.classes
    assert min(wanted.least, wanted.images) <= found.images <= wanted.images
    assert found.staged == ((found.images, found.classes) != (wanted.images, wanted.classes)) or (
        found.staged and wanted.images <= wanted.least
    )
    allowed = wanted.effort.seconds * (LONGER if found.staged else SLACK)
    if found.classes > 1:
        assert found.seconds <= allowed * 1.0001
    if found.classes < wanted.classes:
        assert found.classes <= SHORT


@given(DEMANDS, st.floats(1e-7, 10), st.floats(1, 100))
def test_a_slower_machine_never_searches_more(wanted: Demand, each: float, times: float) -> None:
    quick, slow = outlined(wanted, each), outlined(wanted, each * times)
    assert slow.classes <= quick.classes
    assert slow.staged >= quick.staged


@pytest.mark.parametrize(
    ("each", "classes", "images"),
    [(1e-4, 10, 32), (0.0023, 10, 32), (0.0024, 10, 16), (0.0046, 10, 16), (0.0047, 6, 16),
     (0.0078, 6, 16), (0.0079, 6, 8), (0.0115, 6, 8), (0.092, 2, 8), (1.0, 1, 8)],
)  # fmt: skip
def test_ten_classes_at_some_paces(each: float, classes: int, images: int) -> None:
    found = outlined(demand(), each)
    assert (found.classes, found.images) == (classes, images)


def slow(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    """Let a step be so slow that little of a search fits; it is not, so nothing is cut short."""
    monkeypatch.setattr("scanner.instruments.pace.measured", lambda *_, **__: Pace(seconds=seconds))


@pytest.mark.parametrize(
    ("lag", "left", "expected"),
    [(None, 0.0, 60), (0.5, 600, 60), (0.5, 105, 60), (1.0, 105, 30), (5.0, 105, 6)],
)
def test_on_a_busy_machine_a_search_is_over_before_its_time_is(
    lag: float | None, left: float, expected: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("scanner.sandbox.deadline.left", lambda _share: left)
    assert stages._hurried(demand(), lag, 0.25).effort.seconds == pytest.approx(expected)


@pytest.mark.parametrize(("lag", "left"), [(None, 0.0), (1.0, 101.0), (2.0, 201.0)])
def test_a_search_begins_where_a_round_of_one_class_fits(
    lag: float | None, left: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("scanner.sandbox.deadline.left", lambda _share: left)
    stages._check_time(demand(), Pace(seconds=0.5, lag=lag), 0.25)
    if lag is None:
        return
    with pytest.raises(NoTimeError, match="too short for 25 gradient steps of one class"):
        stages._check_time(demand(), Pace(seconds=0.51, lag=lag), 0.25)


@pytest.mark.parametrize(("most", "expected"), [(None, 4), (7, 1)])
def test_where_memory_counts_classes_are_searched_one_at_a_time(
    most: int | None, expected: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "scanner.instruments.pace.measured", lambda *_, **__: Pace(seconds=1e-6, most=most)
    )
    subject = dataclasses.replace(classifier(tmp_path), at_once=4)
    model = differentiable(subject, Objective.MARGIN)
    found = stages.arranged(subject, model, np.zeros((2, *model.shape), np.float32), demand())
    assert found.at_once == expected


def profile(measurement: Measurement) -> ByClass:
    assert measurement.by_class is not None
    return measurement.by_class


def classifier(tmp_path: Path, *, planted: bool = False, seed: int = 0) -> Subject:
    folder = tmp_path / f"{planted}-{seed}"
    folder.mkdir()
    made = triggered.classifier(planted, classes=CLASSES, seed=seed)
    return triggered.subject(made, folder)


def test_what_stands_out_is_searched_with_as_many_controls(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow(monkeypatch, 0.0125)
    subject = classifier(tmp_path, planted=True)
    measured = NeuralCleanse().measure(subject)
    found = profile(measured).stages
    assert found is not None
    assert (len(found.foremost), len(found.controls), found.images) == (3, 3, 8)
    assert triggered.TARGET in found.foremost
    assert not {*found.foremost} & {*found.controls}
    assert [row.class_id for row in profile(measured).rows] == list(found.classes)
    assert measured.parameters["stages"] == [8, 3, 3]
    assert measured.parameters["batch"] == 8
    # The other search is about the same classes.
    other = profile(MmBd().measure(subject)).stages
    assert other is not None
    assert other.foremost == found.foremost


def test_a_reference_does_as_the_suspect_did(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow(monkeypatch, 0.0125)
    suspect = NeuralCleanse().measure(classifier(tmp_path, planted=True))
    slow(monkeypatch, 0.0)
    reference = dataclasses.replace(classifier(tmp_path, seed=1), suspect=suspect)
    measured = NeuralCleanse().measure(reference)
    own, theirs = profile(suspect).stages, profile(measured).stages
    assert own is not None
    assert theirs is not None
    assert measured.parameters["stages"] == suspect.parameters["stages"]
    assert own.classes == theirs.classes
    assert {row.class_id for row in profile(measured).rows} == {*theirs.classes}


def test_a_reference_of_a_whole_search_is_searched_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    suspect = MmBd().measure(classifier(tmp_path, planted=True))
    slow(monkeypatch, 1.0)
    reference = dataclasses.replace(classifier(tmp_path, seed=1), suspect=suspect)
    found = MmBd().measure(reference)
    assert profile(found).stages is None
    assert "stages" not in found.parameters
    assert found.parameters.keys() == suspect.parameters.keys()


def test_who_names_classes_has_chosen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slow(monkeypatch, 0.05)
    named = dataclasses.replace(triggered.QUICK, classes=(2, 5))
    subject = dataclasses.replace(classifier(tmp_path), settings=named)
    measured = NeuralCleanse().measure(subject)
    assert profile(measured).stages == Stages(images=8)
    assert [row.class_id for row in profile(measured).rows] == [2, 5]
    (search,) = NeuralCleanse().plan(subject)
    assert (search.classes, search.images) == (2, 8)
    assert search.does == "search all classes, on fewer images than usual"
    assert search.seconds == pytest.approx(2 * 100 * 8 * 0.05)


def test_the_plan_is_what_is_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slow(monkeypatch, 0.0125)
    subject = classifier(tmp_path, planted=True)
    ranking, search = NeuralCleanse().plan(subject)
    assert ranking.does.startswith("rank all classes without a search")
    assert (ranking.classes, search.classes, search.images, search.steps) == (CLASSES, 6, 8, 100)
    assert search.does == "search the 3 that stand out, and 3 drawn at random"
    assert search.seconds == pytest.approx(6 * 100 * 8 * 0.0125)
    (other,) = MmBd().plan(subject)
    assert other.does.startswith("search the 3 that stand out"), "it is ranked once"


def test_the_plan_of_a_small_model(tmp_path: Path) -> None:
    (search,) = NeuralCleanse().plan(classifier(tmp_path))
    assert (search.does, search.classes, search.images) == ("search all classes", CLASSES, 32)
    assert (search.memory is None) == (sys.platform != "linux")


@pytest.mark.parametrize(("own", "expected"), [(80, 180), (50, 164)])
def test_a_ranking_takes_graphs_and_images_besides(
    own: int, expected: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They lie beside the gradient graph, not beside its steps of 64 small images."""
    slow(monkeypatch, 0.0125)
    seen = Pace(seconds=0.0125, need=memory.Need(held=100 * MIB, highest=0, each=MIB))
    monkeypatch.setattr("scanner.instruments.pace.measured", lambda *_, **__: seen)
    beside = shortlist.beside
    monkeypatch.setattr(shortlist, "beside", lambda *_: own * MIB)
    subject = classifier(tmp_path, planted=True)
    ranking, search = NeuralCleanse().plan(subject)
    assert search.memory == 108 * MIB
    assert ranking.memory == expected * MIB
    assert beside(subject, (1, 8, 8)) == 3 * (len(subject.model.data) + 64 * 4 * 64)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells")
def test_a_ranking_that_does_not_fit_is_planned_no_more_than_it_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow(monkeypatch, 0.0125)
    seen = Pace(seconds=0.0125, need=memory.Need(held=100 * MIB, highest=0, each=MIB))
    monkeypatch.setattr("scanner.instruments.shortlist.beside", lambda *_: 100 * MIB)
    monkeypatch.setattr("scanner.instruments.room.held", lambda: 100 * MIB)
    whole = classifier(tmp_path, planted=True)
    tight = dataclasses.replace(whole.settings, limits=Limits(memory=199 * MIB))
    subject = dataclasses.replace(whole, settings=tight)
    with pytest.raises(NoRoomError, match="200 MiB of memory here, and 199 MiB are allowed"):
        NeuralCleanse().measure(subject)
    monkeypatch.setattr("scanner.instruments.pace.measured", lambda *_, **__: seen)
    with pytest.raises(NoRoomError, match="200 MiB of memory here, and 199 MiB are allowed"):
        NeuralCleanse().plan(subject)


@pytest.mark.parametrize(("most", "bound"), [(None, None), (3, 3), (100, 8)])
def test_no_run_is_larger_than_a_step(most: int | None, bound: int | None, tmp_path: Path) -> None:
    """What looks at all images at once would take more memory than what was predicted."""
    model = differentiable(classifier(tmp_path), Objective.CROSS_ENTROPY)
    assert stages._bounded(model, most, 8).most == bound


def test_threads_have_time_of_their_own() -> None:
    one, two = (
        stages.demanded(
            Subject(model=None, settings=Settings(threads=n, classes=(0,))),  # type: ignore[arg-type] # not looked at
            type("Model", (), {"classes": 3, "fixed_batch": None})(),
            4,
            EFFORT,
            1,
        )
        for n in (1, 2)
    )
    assert 2 * one.effort.seconds == two.effort.seconds


@pytest.mark.parametrize(("fixed", "least"), [(None, 2), (16, 16), (64, 32)])
def test_a_step_is_not_made_smaller_than_a_fixed_batch(fixed: int | None, least: int) -> None:
    demand = stages.demanded(
        Subject(model=None, settings=Settings(classes=(0,))),  # type: ignore[arg-type] # not looked at
        type("Model", (), {"classes": 3, "fixed_batch": fixed})(),
        32,
        EFFORT,
        2,
    )
    assert demand.least == least


def test_a_search_that_counts_as_full_gets_its_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow(monkeypatch, 0.0)
    subject = classifier(tmp_path)
    model = differentiable(subject, Objective.CROSS_ENTROPY)
    demand = stages.demanded(subject, model, 8, EFFORT, 2)
    images = np.zeros((8, *model.shape), np.float32)
    arranged = stages.arranged(subject, model, images, demand)
    assert arranged.stages is None
    assert arranged.effort.seconds == stages.SLACK * EFFORT.seconds
