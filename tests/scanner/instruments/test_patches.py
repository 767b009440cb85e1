"""Small patches at every place: where they go, what they do, and how many images they take."""

import dataclasses
from pathlib import Path
from typing import Any

import models
import numpy as np
import numpy.typing as npt
import onnx
import pytest
import triggered
from hypothesis import given
from hypothesis import strategies as st

from scanner.errors import UnsupportedModelError
from scanner.instruments import patches
from scanner.instruments.answers import Answers
from scanner.instruments.patches import EFFORTS, PART, Patch, Sweep
from scanner.instruments.plane import Plane
from scanner.modelfile.model import open_model
from scanner.results import Region

SPAN = (0.0, 1.0)


def nothing(*_: object) -> None:
    """Take no note of the progress."""


def sweep(model: onnx.ModelProto, folder: Path, level: int = 0, count: int = 20) -> Sweep:
    path = models.save(model, folder / "model.onnx")
    answers = Answers(open_model(path), triggered.QUICK)
    with np.load(triggered.banded(folder, answers.shape, count)) as file:
        images = (file["images"] / 255).astype(np.float32)
    return Sweep(answers, images, SPAN, EFFORTS[level])


@given(
    shape=st.sampled_from([(3, 9, 11), (9, 11, 3), (9, 11)]),
    top=st.integers(0, 6),
    left=st.integers(0, 8),
)
def test_a_stamp_changes_what_it_covers_and_nothing_else(
    shape: tuple[int, ...], top: int, left: int
) -> None:
    images = np.full((2, *shape), 0.5, np.float32)
    colour = (0.25,) if len(shape) == 2 else (0.0, 0.25, 1.0)
    patch = Patch(Region(top=top, left=left, height=3, width=2), colour)
    stamped = patch.stamped(images)
    assert (images == 0.5).all()
    planes = _planes(stamped)
    inside = planes[:, top : top + 3, left : left + 2]
    assert np.array_equal(inside, np.broadcast_to(colour, inside.shape))
    planes[:, top : top + 3, left : left + 2] = 0.5
    assert (planes == 0.5).all()


def _planes(images: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return images with their channels last."""
    if images.ndim == 3:
        return images[..., None].copy()
    return np.moveaxis(images, 1, -1).copy() if images.shape[1] == 3 else images.copy()


@given(height=st.integers(8, 70), width=st.integers(8, 70))
def test_each_patch_half_as_large_lies_in_one_of_the_first_round(height: int, width: int) -> None:
    """So that the first round finds a trigger of that size, wherever it is."""
    shape = (1, height, width)
    windows = patches._regions(Plane.of(shape), EFFORTS[0])
    for side, start, size in (("top", "height", height), ("left", "width", width)):
        covered = {(getattr(w, side), getattr(w, start)) for w in windows}
        small = max(1, round(size / PART) // 2)
        for place in range(size - small + 1):
            assert any(s <= place and place + small <= s + extent for s, extent in covered)


@pytest.mark.parametrize("level", range(len(EFFORTS)))
@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 8, 8), (8, 8, 3), (8, 8)])
def test_the_lit_corner_is_found(level: int, shape: tuple[int, ...], tmp_path: Path) -> None:
    found = sweep(triggered.lit(planted=True, shape=shape), tmp_path, level).run(nothing).turning
    assert found[0].target == triggered.TARGET
    assert found[0].share == 1.0
    region = found[0].patch.region
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
    assert max(found.patch.region.top, found.patch.region.left) < 2
    assert one.follows(found, one._images).all()
    assert not one.follows(dataclasses.replace(found, to={0: 2}), one._images).any()


def test_a_clean_network_has_no_patch_that_moves_every_class(tmp_path: Path) -> None:
    assert sweep(triggered.shifting(), tmp_path).run(nothing).relabelling.share < 0.5


@pytest.mark.parametrize("level", range(len(EFFORTS)))
def test_no_more_images_are_run_than_was_said(
    level: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = sweep(triggered.lit(planted=True), tmp_path, level)
    seen, logits = [], Answers.logits

    def counted(self: Answers, images: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
        seen.append(len(images))
        return logits(self, images)

    monkeypatch.setattr(Answers, "logits", counted)
    one.run(nothing)
    expected = patches.runs(EFFORTS[level], (1, 8, 8), 20)
    assert expected / 2 < sum(seen) <= expected


def test_how_many_are_stamped_together_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = sweep(triggered.lit(planted=True), tmp_path)
    expected = one.run(nothing)
    for name in ("_AT_ONCE", "_ELEMENTS"):
        with monkeypatch.context() as patched:
            patched.setattr(patches, name, 1)
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
    assert (
        one.share(
            Patch(Region(top=0, left=0, height=1, width=1), (1.0,)),
            np.empty((0, 1, 8, 8), np.float32),
            2,
        )
        is None
    )


def test_what_answers_no_number_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedModelError, match="'logits' is not a finite number"):
        sweep(triggered.classifier(nan=True), tmp_path)
