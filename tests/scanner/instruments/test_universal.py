"""The search for one small change of all images, on a classifier where it is known."""

import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import triggered

from scanner.detectors.universal_perturbation import Perturbation
from scanner.errors import NoImagesError
from scanner.graph.gradient.backward import Objective
from scanner.instruments import made_images, universal
from scanner.instruments.differentiable import Differentiable, differentiable
from scanner.instruments.universal import Search, root_mean_square
from scanner.results import ClassRow
from scanner.settings import Effort, Settings

EFFORT = Effort(images=32, steps=60, restarts=1, seconds=60)


def settings(folder: Path, count: int = 40, **changes: Any) -> Settings:
    images = triggered.banded(folder, count=count)
    return dataclasses.replace(triggered.QUICK, images_file=images, **changes)


def searched(folder: Path, planted: bool, **changes: Any) -> universal.Searched:
    chosen = settings(folder, **changes)
    subject = triggered.subject(triggered.lit(planted), folder, chosen)
    return universal.search(subject, Perturbation)


def row(found: universal.Searched, class_id: int) -> ClassRow:
    own = found.profile.row(class_id)
    assert own is not None
    return own


def loaded(folder: Path) -> Differentiable:
    subject = triggered.subject(triggered.lit(planted=True), folder, settings(folder))
    return differentiable(subject, Objective.CROSS_ENTROPY)


def search(folder: Path, target: int = triggered.TARGET, seed: int = 0) -> Search:
    with np.load(triggered.banded(folder)) as file:
        images = file["images"].astype(np.float32) / 255
    generator = np.random.default_rng(seed)
    return Search(loaded(folder), images, target, Perturbation, EFFORT, generator)


def test_a_plan_without_images_begins_with_making_them(tmp_path: Path) -> None:
    subject = triggered.subject(triggered.lit(), tmp_path, triggered.QUICK)
    making, searching = universal.planned("r", subject, makes_images=True)
    assert (making.images, making.steps) == (made_images.COUNT, made_images.STEPS)
    assert (searching.classes, searching.images) == (triggered.BANDS, universal.BATCH)
    assert universal.planned("r", subject) == ()


def test_a_plan_with_images_searches_on_them(tmp_path: Path) -> None:
    subject = triggered.subject(triggered.lit(), tmp_path, settings(tmp_path))
    (searching,) = universal.planned("r", subject)
    assert searching.steps == round(subject.settings.effort.steps * universal.STEPS)


def test_the_planted_class_takes_far_less_and_the_others_what_they_did(tmp_path: Path) -> None:
    planted, clean = (searched(tmp_path, p) for p in (True, False))
    assert planted.best.target == triggered.TARGET
    for class_id in range(triggered.BANDS):
        own, other = (row(found, class_id).figure for found in (planted, clean))
        assert own is not None
        assert other is not None
        if class_id == triggered.TARGET:
            assert own < 0.02
            assert other > 0.1
        else:
            assert own == pytest.approx(other, rel=0.01)


def test_an_image_that_it_turns_is_shown(tmp_path: Path) -> None:
    shown = searched(tmp_path, planted=True).shown
    assert shown is not None
    assert shown.class_before != shown.class_after == triggered.TARGET
    assert shown.original is not None
    assert (
        shown.success == row(searched(tmp_path, planted=True), triggered.TARGET).figures["success"]
    )


def test_every_step_has_the_radius_and_only_success_shrinks_it(tmp_path: Path) -> None:
    one = search(tmp_path)
    before, known = one.change.first, math.inf
    while not one.finished:
        one.step()
        radius = root_mean_square(one.change.parameters)
        shrunk, grown = (1 - universal.STRIDE) * before, (1 + universal.STRIDE) * before
        assert radius == pytest.approx(shrunk, rel=1e-4) or radius == pytest.approx(grown, rel=1e-4)
        assert one.size <= known
        before, known = radius, one.size
    assert one.steps == EFFORT.steps
    assert one.found
    assert one.figure == one.size == root_mean_square(one.smallest.parameters)


def test_what_was_found_works(tmp_path: Path) -> None:
    one = search(tmp_path)
    while not one.finished:
        one.step()
    with np.load(triggered.banded(tmp_path)) as file:
        changed = one.smallest.applied(file["images"].astype(np.float32) / 255)
    assert (one.model.predict(changed) == triggered.TARGET).mean() > 0.7
    assert 0 <= changed.min() <= changed.max() <= 1


def test_before_anything_worked_there_is_no_figure(tmp_path: Path) -> None:
    one = search(tmp_path)
    assert (one.figure, one.found, one.finished) == (None, False, False)
    assert one.rank == (math.inf, math.inf)


def test_the_same_seed_gives_the_same_result(tmp_path: Path) -> None:
    first, second, other = (searched(tmp_path, True, seed=seed).profile for seed in (0, 0, 1))
    assert first == second
    assert other != first


def test_everything_that_influenced_the_numbers_is_recorded(tmp_path: Path) -> None:
    found = searched(tmp_path, planted=True).parameters
    assert found["data"] == f"40 images of {tmp_path / 'bands-40.npz'}"
    named = [found[name] for name in ("images", "held_back", "steps", "batch", "seed")]
    assert named == [30, 10, 60, 16, 0]


def test_only_the_classes_that_are_asked_for(tmp_path: Path) -> None:
    rows = searched(tmp_path, True, classes=(1, 3)).profile.rows
    assert [one.class_id for one in rows] == [1, 3]


@pytest.mark.parametrize("count", [3, 6])
def test_a_handful_of_images(count: int, tmp_path: Path) -> None:
    found = searched(tmp_path, True, count=count)
    assert found.parameters["held_back"] == 1
    assert found.best.target == triggered.TARGET


def test_without_images_it_says_what_it_needs(tmp_path: Path) -> None:
    subject = triggered.subject(triggered.lit(), tmp_path)
    with pytest.raises(NoImagesError, match=r"it needs clean images .* the setting `images_file`"):
        universal.search(subject, Perturbation)


def test_without_images_the_model_may_make_them(tmp_path: Path) -> None:
    subject = triggered.subject(triggered.lit(planted=True), tmp_path)
    found = universal.search(subject, Perturbation, makes_images=True)
    assert found.best.target == triggered.TARGET
    assert found.parameters["data"] == made_images.SOURCE
    assert found.parameters["images"] >= made_images.FEWEST


def test_a_class_that_all_images_are_of_is_unknown(tmp_path: Path) -> None:
    """Nothing need be added to turn them: such a class would stand out in every model."""
    with np.load(triggered.banded(tmp_path)) as file:
        np.savez(tmp_path / "one.npz", images=file["images"][2 :: triggered.BANDS])
    chosen = dataclasses.replace(triggered.QUICK, images_file=str(tmp_path / "one.npz"))
    subject = triggered.subject(triggered.lit(), tmp_path, chosen)
    figures = [one.figure for one in universal.search(subject, Perturbation).profile.rows]
    assert [figure is None for figure in figures] == [False, False, True, False]
