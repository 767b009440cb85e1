"""Ordinary images, habits, forced values and what they do."""

import dataclasses
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from models import SIDE, plain, save

from scanner.errors import WorkerTimeoutError
from scanner.graph.core import flatten
from scanner.instruments import effects, forcing
from scanner.instruments.detector import Subject
from scanner.modelfile.model import open_model
from scanner.settings import Device, Settings
from trainers.graph_backdoor import plant

SHAPE = (1, SIDE, SIDE)
SETTINGS = Settings(device=Device.CPU)
FLOAT = np.dtype(np.float32)


def subject_of(model: onnx.ModelProto, folder: Path) -> Subject:
    return Subject(model=open_model(save(model, folder / "model.onnx")), settings=SETTINGS)


def rig(model: onnx.ModelProto, folder: Path) -> forcing.Rig:
    subject = subject_of(model, folder)
    return forcing.Rig(subject, flatten.flatten(subject.model.proto), SHAPE, "logits")


def test_ordinary_images_are_what_a_camera_makes(tmp_path: Path) -> None:
    images = forcing.ordinary(subject_of(plain(), tmp_path), SHAPE, FLOAT)
    assert images.shape[1:] == SHAPE
    assert 140 <= len(images) <= 250
    assert images.min() == 0
    assert images.max() == 1
    assert np.allclose(images * 255, np.rint(images * 255), atol=1e-4)
    means = images.reshape(len(images), -1).mean(axis=1)
    assert (means < 0.25).mean() > 0.1
    assert (means > 0.7).mean() > 0.05


def test_what_other_detectors_left_is_shown_too(tmp_path: Path) -> None:
    subject = subject_of(plain(), tmp_path)
    few = len(forcing.ordinary(subject, SHAPE, FLOAT))
    subject.seen.append(np.full((5, *SHAPE), 0.2, np.float32))
    assert len(forcing.ordinary(subject, SHAPE, FLOAT)) == few + 5


def test_images_are_in_the_range_of_the_model(tmp_path: Path) -> None:
    subject = subject_of(plain(), tmp_path)
    wide = dataclasses.replace(
        subject, settings=dataclasses.replace(SETTINGS, input_range=(-2.0, 6.0))
    )
    images = forcing.ordinary(wide, SHAPE, FLOAT)
    assert (images.min(), images.max()) == (-2, 6)


def test_a_value_that_stands_still_has_a_habit(tmp_path: Path) -> None:
    model = rig(plant(plain(), "patch-equals", target=1).model, tmp_path)
    names = [n.output[0] for n in model.flat.graph.node if "bool" in n.name]
    found = model.habits([*names, "logits_before"], {})
    assert set(found) == set(names)
    assert all(habit.moved == 0 and not habit.typical.any() for habit in found.values())


def test_what_moves_little_beside_its_reach_stands_still(tmp_path: Path) -> None:
    model = rig(plain(), tmp_path)
    ends = (np.full((1, 3), -1e6, np.float32), np.full((1, 3), 1e6, np.float32))
    assert not model.habits(["logits"], {})
    assert set(model.habits(["logits"], {"logits": ends})) == {"logits"}


def test_a_forced_value_makes_the_answer(tmp_path: Path) -> None:
    planted = plant(plain(), "logit-bump", target=1).model
    model = rig(planted, tmp_path)
    bump = next(n.output[0] for n in planted.graph.node if "bump" in n.name)
    reach, estimated = model.reachable([bump])
    assert not estimated
    low, high = reach[bump]
    assert (low.max(), high.tolist()) == (0, [[0, 1e4, 0]])
    forced = model.forced(bump, low)
    image = model.images[0]
    assert np.array_equal(forced.answer(image, low), model.answer_to(image))
    assert effects.class_of(forced.answer(image, high)) == 1


def test_what_the_answer_follows_is_heard(tmp_path: Path) -> None:
    model = rig(plain(), tmp_path)
    assert model.unheard("flat") is None


def test_the_time_of_a_search_ends(tmp_path: Path) -> None:
    model = rig(plain(), tmp_path)
    model.until = 0
    with pytest.raises(WorkerTimeoutError, match="the time allowed for this search is used up"):
        model.answer_to(model.images[0])


def test_a_fixed_truth_is_not_forced() -> None:
    typical = np.array([False])
    fixed = (typical, typical)
    assert not list(forcing.extremes(typical, fixed, proven=True))
    assert [held.tolist() for held in forcing.extremes(typical, fixed, proven=False)] == [[True]]


@given(st.lists(st.floats(-1e3, 1e3, width=32), min_size=1, max_size=4), st.booleans())
def test_what_is_forced_is_never_what_is_there(numbers: list[float], proven: bool) -> None:
    typical = np.array([numbers], np.float32)
    reach = (typical - 1, typical * np.nan)
    for held in forcing.extremes(typical, reach, proven=proven):
        assert held.shape == typical.shape
        assert held.dtype == typical.dtype
        assert np.isfinite(held).all()
        assert not np.array_equal(held, typical)


def test_a_value_goes_in_as_many_directions_as_numbers_move() -> None:
    typical = np.array([[0, 1, 0]], np.float32)
    assert forcing.directions(typical, np.array([[0, 9, 0]], np.float32)) == 1
    assert forcing.directions(typical, np.array([[5, 9, 0]], np.float32)) == 2
    assert forcing.directions(typical, 3 * typical) == 1
    assert forcing.directions(np.array([False]), np.array([True])) == 1


def test_half_the_way_is_there() -> None:
    typical, held = np.zeros((1, 2), np.float32), np.array([[4, 0]], np.float32)
    assert forcing.reaches(np.array([[2.5, 0]], np.float32), typical, held)
    assert not forcing.reaches(np.array([[1.5, 9]], np.float32), typical, held)
    assert not forcing.reaches(held[0], typical, held)
    assert forcing.reaches(np.array([True]), np.array([False]), np.array([True]))


def test_texture() -> None:
    (grey,) = forcing.plain(SHAPE, (0, 1), 1)
    assert not forcing.is_textured(grey, (0, 1))
    assert forcing.is_textured(np.indices((SIDE, SIDE)).sum(axis=0)[None] % 2, (0, 1))


def test_a_choice_of_one_is_tried_in_every_place() -> None:
    typical = np.array([[0, 3, 0]], np.float32)
    ends = (np.zeros_like(typical), np.full_like(typical, 3))
    tried = list(forcing.extremes(typical, ends, proven=True))
    assert [row.tolist() for row in tried[2:]] == [[[3, 0, 0]], [[0, 0, 3]]]
    other = np.array([[0, 1, 0]], np.float32)
    assert len(list(forcing.extremes(other, ends, proven=True))) == 2


def test_codes_are_forced_to_the_ends_of_their_type() -> None:
    tried = list(forcing.extremes(np.array([128], np.uint8), None, proven=False))
    assert {0, 255} <= {int(value[0]) for value in tried}


def test_bounds_without_numbers_are_none() -> None:
    none = np.zeros(0, np.float32)
    assert forcing._slack(np.ones(1, np.float32), (none, none)) == pytest.approx(1e-6)
