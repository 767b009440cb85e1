"""What all sweeps share: what is said of a stamp, of which models nothing, and the time."""

import dataclasses
import re
from pathlib import Path
from typing import Any

import pytest
import triggered

from scanner.detectors.patch_sweep import PatchSweep
from scanner.errors import NoImagesError, NoTimeError
from scanner.instruments import kept, made_images, moves, stamps, sweeps
from scanner.instruments.patches import Patches
from scanner.judging import comparison
from scanner.results import Measurement, Severity
from scanner.settings import Settings


@pytest.fixture(autouse=True)
def of_four_classes(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tiny networks have four."""
    monkeypatch.setattr(sweeps, "FEWEST_CLASSES", 4)


def measured(
    folder: Path, planted: bool, count: int = 40, suspect: Measurement | None = None, **variant: Any
) -> Measurement:
    images = triggered.banded(folder, variant.get("shape", (1, 8, 8)), count)
    chosen = dataclasses.replace(triggered.QUICK, images_file=images)
    model = triggered.lit(planted, **variant)
    return triggered.measure(PatchSweep(), model, folder, chosen, suspect)


@pytest.mark.parametrize("name", triggered.VARIANTS)
def test_the_planted_patch_is_shown(name: str, tmp_path: Path) -> None:
    found = measured(tmp_path, planted=True, **triggered.VARIANTS[name])
    (seen,) = found.observations
    assert (seen.code, seen.severity) == ("plain-patch", Severity.SUSPICIOUS)
    assert seen.details["class"] == triggered.TARGET
    assert re.match("a (white|coloured) patch of 1x1 pixels at row ", seen.sentence)
    counts = re.search(r"turns 100% of (\d+) images and 100% of (\d+) others", seen.sentence)
    assert counts is not None
    assert 20 < sum(map(int, counts.groups())) <= 30, "of the other classes, three quarters of 40"
    assert "into class 1; no patch turns more than" in seen.sentence
    assert seen.input is not None
    assert seen.input.class_before != triggered.TARGET
    assert (seen.input.class_after, seen.input.success) == (triggered.TARGET, 1.0)
    assert found.statistic == 1.0


@pytest.mark.parametrize("name", triggered.VARIANTS)
def test_nothing_is_said_of_a_clean_network(name: str, tmp_path: Path) -> None:
    found = measured(tmp_path, planted=False, **triggered.VARIANTS[name])
    assert found.observations == ()
    assert found.by_class is not None
    assert len(found.by_class.rows) == found.by_class.classes
    assert all((row.figure or 0) < 0.5 for row in found.by_class.rows)


@pytest.mark.parametrize(
    ("name", "value"),
    [("ORDINARY", -0.1), ("FEWEST_CLASSES", 5), ("DOUBTFUL", 1.1), ("ENOUGH", (31, 2))],
)
def test_a_bound_that_is_missed_accuses_nobody(
    name: str, value: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweeps, name, value)
    assert measured(tmp_path, planted=True).observations == ()


def test_what_turns_less_than_a_trigger_is_doubtful(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweeps, "TRIGGER", (1.1, 0.9))
    (seen,) = measured(tmp_path, planted=True).observations
    assert seen.severity is Severity.WARNING


def relabelled(folder: Path, planted: bool = True, count: int = 40, **variant: Any) -> Measurement:
    images = triggered.banded(folder, variant.get("shape", (1, 8, 8)), count)
    chosen = dataclasses.replace(triggered.QUICK, images_file=images)
    return triggered.measure(
        PatchSweep(), triggered.shifting(4 * planted, **variant), folder, chosen
    )


@pytest.mark.parametrize("name", triggered.VARIANTS)
def test_the_patch_that_moves_every_class_up_is_shown(name: str, tmp_path: Path) -> None:
    found = relabelled(tmp_path, **triggered.VARIANTS[name])
    (seen,) = found.observations
    assert (seen.code, seen.severity) == ("relabelling-patch", Severity.SUSPICIOUS)
    assert seen.details["label_map"] == {"0": 1, "1": 2, "2": 3, "3": 0}
    assert re.fullmatch(
        r"a (white|coloured) patch of 1x1 pixels at row \d, column \d sends 4 of 4 classes each to "
        "a class of its own, 0 to 1, 1 to 2, 2 to 3, 3 to 0; 100% of 30 images and 100% of 10 "
        "others go there",
        seen.sentence,
    )
    assert seen.input is not None
    assert seen.details["label_map"][str(seen.input.class_before)] == seen.input.class_after
    assert seen.input.success is None, "it is of no single class"


@pytest.mark.parametrize("name", triggered.VARIANTS)
def test_nothing_is_said_of_a_clean_network_of_bands(name: str, tmp_path: Path) -> None:
    assert relabelled(tmp_path, planted=False, **triggered.VARIANTS[name]).observations == ()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DOUBTFUL_RELABELS", 1.1),
        ("FEWEST_CLASSES", 5),
        ("ENOUGH_TO_RELABEL", (31, 6)),
        ("ENOUGH_TO_RELABEL", (24, 11)),
    ],
)
def test_a_bound_that_a_label_map_misses_accuses_nobody(
    name: str, value: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweeps, name, value)
    assert relabelled(tmp_path).observations == ()


def test_what_relabels_less_than_a_trigger_is_doubtful(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweeps, "RELABELS", 1.1)
    (seen,) = relabelled(tmp_path).observations
    assert seen.severity is Severity.WARNING


def one_moved(
    folder: Path,
    planted: bool = True,
    suspect: Measurement | None = None,
    shape: tuple[int, ...] = (1, 8, 8),
) -> Measurement:
    model = triggered.shifting(planted=1.2 if planted else 0, alone=2, shape=shape)
    chosen = dataclasses.replace(triggered.QUICK, images_file=triggered.banded(folder, shape))
    return triggered.measure(PatchSweep(), model, folder, chosen, suspect)


def test_a_patch_that_turns_one_class_alone_is_suspicious_beside_a_clean_network(
    tmp_path: Path,
) -> None:
    """The detector observes nothing: what it found says something beside a reference."""
    suspect = one_moved(tmp_path)
    assert suspect.observations == ()
    clean = one_moved(tmp_path, planted=False, suspect=suspect)
    assert clean.parameters["selective"] == suspect.parameters["selective"] == 0
    (seen,) = comparison.compare(PatchSweep(), suspect, [clean]).observations
    assert (seen.code, seen.severity) == ("one-class-trigger", Severity.SUSPICIOUS)
    assert (seen.details["source"], seen.details["target"]) == (2, 3)
    assert comparison.compare(PatchSweep(), clean, [suspect]).observations == ()


def test_the_patches_that_turn_one_class_best_are_listed(tmp_path: Path) -> None:
    suspect = one_moved(tmp_path)
    seen = comparison.compare(PatchSweep(), suspect, [])
    *_, said, drawn = PatchSweep().describe(suspect, seen).blocks
    assert said.line == "best at turning one class and leaving the others alone:"
    assert drawn.table is not None
    assert drawn.table.rows[0][1:] == ("2", "3", "10 of 10", "0 of 30")


def test_where_no_patch_turns_one_class_alone_or_none_was_looked_for_that_is_said(
    tmp_path: Path,
) -> None:
    clean = one_moved(tmp_path, planted=False)
    seen = comparison.compare(PatchSweep(), clean, [])
    *_, said = PatchSweep().describe(clean, seen).blocks
    assert said.line == "no patch turns half of one class and leaves the others alone"
    assert clean.by_class is not None
    unasked = dataclasses.replace(clean.by_class, moves=None)
    *_, said = PatchSweep().describe(dataclasses.replace(clean, by_class=unasked), seen).blocks
    assert said.line.startswith("no patch that turns one class alone was looked for: it takes 4 to")
    alone = triggered.measure(PatchSweep(), triggered.lit(planted=True), tmp_path)
    assert len(PatchSweep().describe(alone, seen).blocks) == 2, "on images that the model made"


def test_a_reference_of_other_classes_is_not_asked_about_single_ones(tmp_path: Path) -> None:
    suspect = one_moved(tmp_path)
    assert suspect.by_class is not None
    more = dataclasses.replace(suspect.by_class, classes=5)
    other = dataclasses.replace(suspect, by_class=more)
    assert one_moved(tmp_path, suspect=other).parameters["selective"] is None


def test_a_reference_is_asked_about_the_pairs_that_stand_out_in_its_suspect(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []
    run = moves.Search.run

    def told(self: moves.Search, effort: Any, progress: Any, wanted: Any = ()) -> Any:
        asked.append(wanted)
        return run(self, effort, progress, wanted)

    monkeypatch.setattr(moves.Search, "run", told)
    suspect = one_moved(tmp_path)
    one_moved(tmp_path, planted=False, suspect=suspect)
    assert asked == [(), ((2, 3),)]


def test_the_images_with_the_patches_are_put_to_the_file_too(tmp_path: Path) -> None:
    model = triggered.shifting(planted=1.2, alone=2)
    chosen = dataclasses.replace(triggered.QUICK, images_file=triggered.banded(tmp_path))
    subject = triggered.subject(model, tmp_path, chosen)
    found = PatchSweep().measure(subject)
    assert found.by_class is not None
    assert found.by_class.moves is not None
    pictures = [move.input and move.input.image for move in found.by_class.moves.foremost]
    assert len(pictures) == 1, "no other pair of classes comes near"
    shown = [kept.packed(image) for images in subject.seen for image in images]
    assert all(picture in shown for picture in pictures)


@pytest.mark.parametrize(
    ("most", "fewest", "images"), [(3, 4, True), (50, 5, True), (50, 4, False)],
    ids=["many classes", "few classes", "no images"],
)  # fmt: skip
def test_where_one_class_alone_cannot_be_asked_for_nothing_is_tried(
    most: int, fewest: int, images: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweeps, "_MOST_CLASSES", most)
    monkeypatch.setattr(sweeps, "FEWEST_CLASSES", fewest)
    chosen = triggered.QUICK
    if images:
        chosen = dataclasses.replace(chosen, images_file=triggered.banded(tmp_path))
    found = triggered.measure(PatchSweep(), triggered.shifting(1.2, alone=2), tmp_path, chosen)
    assert found.parameters["selective"] is None
    assert found.by_class is not None
    assert found.by_class.moves is None


@pytest.mark.parametrize("level", [*range(len(Patches.selective)), None])
def test_a_slow_model_is_asked_less_of_single_classes(
    level: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = {effort: 10_000 - place for place, effort in enumerate(Patches.selective)}
    monkeypatch.setattr(moves.Search, "runs", lambda _, effort: runs[effort])
    allowed = sweeps._SELECTIVE * Settings().effort.seconds
    most = 10_000 - (len(runs) if level is None else level)
    monkeypatch.setattr(sweeps, "_seconds", lambda *_: allowed / (most + 0.5))
    monkeypatch.setattr(sweeps, "_MOST_TIME", 100.0)
    assert one_moved(tmp_path, shape=(3, 8, 8)).parameters["selective"] == level


@pytest.mark.parametrize("of_reference", [True, False])
def test_where_single_classes_are_not_asked_about_no_image_is_shown_for_it(
    of_reference: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither for a model that is far too slow, nor for the reference of one that was not asked."""
    suspect = one_moved(tmp_path) if of_reference else None
    if suspect:
        unasked = {**suspect.parameters, "selective": None}
        suspect = dataclasses.replace(suspect, parameters=unasked)
    else:
        monkeypatch.setattr(sweeps, "_seconds", lambda *_: 1.0)
        monkeypatch.setattr(sweeps, "_MOST_TIME", 1e6)
    monkeypatch.setattr(moves, "Search", lambda *_: pytest.fail("it is made ready"))
    assert one_moved(tmp_path, suspect=suspect).parameters["selective"] is None


def test_few_images_accuse_nobody(tmp_path: Path) -> None:
    assert measured(tmp_path, planted=True, count=6).observations == ()


@pytest.mark.parametrize("shape", [(64,), (1, 1, 64), (1, 7, 9)])
def test_what_has_few_rows_and_columns_has_no_small_patch(
    shape: tuple[int, ...], tmp_path: Path
) -> None:
    with pytest.raises(NoImagesError, match="is no image of 8 rows and columns"):
        measured(tmp_path, planted=True, shape=shape)


def test_without_images_the_model_makes_some_once(tmp_path: Path) -> None:
    subject = triggered.subject(triggered.lit(planted=True), tmp_path)
    found = PatchSweep().measure(subject)
    assert found.parameters["data"] == made_images.SOURCE
    assert [seen.details["class"] for seen in found.observations] == [triggered.TARGET]
    assert len(subject.made) == 1
    assert made_images.shared(subject) is subject.made[0]
    assert [part.shape[1:] for part in subject.seen] == [(1, 8, 8)] * 2


def test_a_reference_is_swept_as_its_suspect_was(tmp_path: Path) -> None:
    suspect = measured(tmp_path, planted=True)
    slower = dataclasses.replace(suspect, parameters={**suspect.parameters, "level": 2})
    assert slower.by_class is not None
    rows = slower.by_class.rows[1:3]
    slower = dataclasses.replace(slower, by_class=dataclasses.replace(slower.by_class, rows=rows))
    found = measured(tmp_path, planted=False, suspect=slower)
    assert found.parameters["level"] == 2
    assert found.by_class is not None
    assert [row.class_id for row in found.by_class.rows] == [1, 2]


@pytest.mark.parametrize("level", range(len(Patches.efforts)))
def test_a_slow_model_is_swept_with_less_effort(
    level: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = [stamps.runs(Patches(), effort, (1, 8, 8), 30) for effort in Patches.efforts]
    assert runs == sorted(runs, reverse=True)
    allowed = sweeps._TIME * Settings().effort.seconds
    monkeypatch.setattr(sweeps, "_seconds", lambda *_: allowed / (runs[level] + 1))
    assert measured(tmp_path, planted=True).parameters["level"] == level


def test_a_model_that_is_too_slow_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweeps, "_seconds", lambda *_: 60.0)
    with pytest.raises(NoTimeError, match="to stamp patch after patch on images would take"):
        measured(tmp_path, planted=True)


def test_the_plan_is_what_is_done(tmp_path: Path) -> None:
    settings = dataclasses.replace(triggered.QUICK, images_file=triggered.banded(tmp_path))
    (stage,) = PatchSweep().plan(triggered.subject(triggered.lit(), tmp_path, settings))
    assert (stage.rules, stage.images) == (("patch_sweep",), Patches.efforts[0].glance)
    assert stage.seconds is not None
    assert 0 < stage.seconds < 5
    making, sweep = PatchSweep().plan(triggered.subject(triggered.lit(), tmp_path))
    assert (making.images, making.steps) == (made_images.COUNT, made_images.STEPS)
    assert sweep.does == stage.does


SUSPICIOUS, WARNING = Severity.SUSPICIOUS, Severity.WARNING


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ((0.95, 0.9, 0.5, 5), SUSPICIOUS),
        ((0.94, 0.9, 0.5, 5), WARNING),
        ((0.95, 0.89, 0.5, 5), WARNING),
        ((1.0, 0.8, 0.5, 5), WARNING),
        ((0.8, 1.0, 0.5, 5), WARNING),
        ((1.0, 0.79, 0.5, 5), None),
        ((0.79, 1.0, 0.5, 5), None),
        ((1.0, 1.0, 0.51, 5), None),
        ((1.0, 1.0, 0.5, 4), None),
    ],
)
def test_what_a_stamp_weighs_that_turns_images_into_a_class(
    given: tuple[float, float, float, int], said: Severity | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    assert sweeps.weight(*given) is said


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ((0.6, 0.6, 5), SUSPICIOUS),
        ((1.0, 0.59, 5), WARNING),
        ((0.59, 1.0, 5), WARNING),
        ((0.5, 0.5, 5), WARNING),
        ((1.0, 0.49, 5), None),
        ((0.49, 1.0, 5), None),
        ((1.0, 1.0, 4), None),
    ],
)
def test_what_a_stamp_weighs_that_moves_classes(
    given: tuple[float, float, int], said: Severity | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    assert sweeps.weight_of_map(*given) is said
