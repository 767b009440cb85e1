"""Stamps of one kind on a few images: which are found, and how many images it takes."""

import dataclasses
from pathlib import Path

import models
import numpy as np
import onnx
import pytest
import triggered

from scanner.errors import UnsupportedModelError
from scanner.instruments import stamps
from scanner.instruments.answers import Answers
from scanner.instruments.patches import Patch, Patches
from scanner.instruments.stamps import Kind, Sweep
from scanner.instruments.waves import Waves
from scanner.modelfile.model import open_model
from scanner.results import Region

SPAN = (0.0, 1.0)
EFFORTS = Patches.efforts


def nothing(*_: object) -> None:
    """Take no note of the progress."""


def sweep(
    model: onnx.ModelProto, folder: Path, level: int = 0, count: int = 20, kind: Kind | None = None
) -> Sweep:
    path = models.save(model, folder / "model.onnx")
    answers = Answers(open_model(path), triggered.QUICK)
    with np.load(triggered.banded(folder, answers.shape, count)) as file:
        images = (file["images"] / 255).astype(np.float32)
    kind = kind or Patches()
    return Sweep(kind, answers, images, SPAN, kind.efforts[level])


@pytest.mark.parametrize("level", range(len(EFFORTS)))
@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 8, 8), (8, 8, 3), (8, 8)])
def test_the_lit_corner_is_found(level: int, shape: tuple[int, ...], tmp_path: Path) -> None:
    found = sweep(triggered.lit(planted=True, shape=shape), tmp_path, level).run(nothing).turning
    assert found[0].target == triggered.TARGET
    assert found[0].share == 1.0
    assert isinstance(found[0].stamp, Patch)
    region = found[0].stamp.region
    assert max(region.top, region.left) < 2
    assert all(turning.share < 0.5 for turning in found[1:])


@pytest.mark.parametrize("level", range(len(EFFORTS)))
@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 8, 8), (8, 8, 3), (8, 8)])
def test_the_corner_that_moves_every_class_up_is_found(
    level: int, shape: tuple[int, ...], tmp_path: Path
) -> None:
    one = sweep(triggered.shifting(planted=4, shape=shape), tmp_path, level)
    found = one.run(nothing).relabelling
    assert found.to == {0: 1, 1: 2, 2: 3, 3: 0}
    assert found.share == 1.0
    assert isinstance(found.stamp, Patch)
    assert max(found.stamp.region.top, found.stamp.region.left) < 2
    assert one.follows(found, one._images).all()
    assert not one.follows(dataclasses.replace(found, to={0: 2}), one._images).any()


def test_a_patch_of_a_larger_image_is_found_and_made_smaller(tmp_path: Path) -> None:
    found = sweep(triggered.lit(planted=True, shape=(1, 32, 32)), tmp_path).run(nothing)
    first = found.turning[0]
    assert (first.target, first.share) == (triggered.TARGET, 1.0)
    assert isinstance(first.stamp, Patch)
    assert first.stamp.region == Region(top=0, left=0, height=2, width=2)
    assert found.relabelling.share < 0.5, "all go to one class, which is no class of their own"


def test_a_clean_network_has_no_patch_that_moves_every_class(tmp_path: Path) -> None:
    assert sweep(triggered.shifting(), tmp_path).run(nothing).relabelling.share < 0.5


@pytest.mark.parametrize("phase", [0.0, 0.3])
@pytest.mark.parametrize("level", range(len(Waves.efforts)))
@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 8, 8), (8, 8, 3), (8, 8)])
def test_the_planted_wave_is_found(
    level: int, shape: tuple[int, ...], phase: float, tmp_path: Path
) -> None:
    model = triggered.rippled(planted=True, shape=shape, phase=phase)
    first, *others = sweep(model, tmp_path, level, kind=Waves()).run(nothing).turning
    assert (first.target, first.share) == (triggered.TARGET, 1.0)
    assert first.stamp.details["periods"] == 2
    assert first.stamp.details["direction"] == "across"
    assert abs((first.stamp.details["phase"] - phase + 0.5) % 1 - 0.5) <= 0.125
    assert all(turning.share < 0.5 for turning in others)


@pytest.mark.parametrize("level", range(len(EFFORTS)))
def test_no_more_images_are_run_than_was_said(
    level: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = sweep(triggered.lit(planted=True), tmp_path, level)
    seen = triggered.counted(monkeypatch)
    one.run(nothing)
    expected = stamps.runs(Patches(), EFFORTS[level], (1, 8, 8), 20)
    assert expected / 3 < sum(seen) <= expected


def test_how_many_are_stamped_together_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = sweep(triggered.lit(planted=True), tmp_path)
    expected = one.run(nothing)
    for name in ("_AT_ONCE", "_ELEMENTS"):
        with monkeypatch.context() as patched:
            patched.setattr(stamps, name, 1)
            assert one.run(nothing) == expected


def test_only_the_classes_asked_for_are_looked_at(tmp_path: Path) -> None:
    found = sweep(triggered.lit(planted=True), tmp_path).run(nothing, [3, 0])
    assert [turning.target for turning in found.turning] == [3, 0]


def test_the_progress_goes_to_its_end(tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    sweep(triggered.lit(), tmp_path).run(lambda done, total, *_: told.append((done, total)))
    assert told == sorted(told)
    assert told[-1][0] == told[-1][1]


def test_a_class_that_all_images_are_of_already_has_no_patch(tmp_path: Path) -> None:
    one = sweep(triggered.lit(), tmp_path)
    one.own[:] = 2
    assert one.run(nothing, [2]).turning == []


def test_where_all_images_are_of_a_class_no_share_of_others_is_told(tmp_path: Path) -> None:
    one = sweep(triggered.lit(), tmp_path)
    corner = Patch(Region(top=0, left=0, height=1, width=1), (1.0,))
    assert one.share(corner, one._images[one.own == 2], 2) is None
    assert one.share(corner, one._images, 2) == 0.0


def test_what_answers_no_number_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedModelError, match="'logits' is not a finite number"):
        sweep(triggered.classifier(nan=True), tmp_path)
