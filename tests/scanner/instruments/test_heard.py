"""A value that noise moves, and that speaks for one class only."""

from pathlib import Path

import models
import numpy as np
import onnx
import pytest

from scanner.graph.core import flatten
from scanner.instruments import dormancy, forcing
from scanner.instruments.detector import Subject
from scanner.instruments.heard import heard_for_one_class
from scanner.modelfile.model import open_model
from scanner.results import Severity
from scanner.settings import Device, Settings
from trainers.graph_backdoor import Graft
from trainers.graph_backdoor.habits import adopt

SHAPE = (1, models.SIDE, models.SIDE)


def bright_pixel(size: float, level: float = 0.5) -> tuple[Graft, str]:
    """A pixel, beyond a level that much noise exceeds, times a row that is added to the scores."""
    graft = Graft(models.plain(), 1)
    pixel = graft.node("Slice", [graft.input.name, [0, 0], [1, 1], [2, 3]], "pixel")
    flat = graft.node("Reshape", [pixel, [-1, 1]], "flat")
    over = graft.node("Relu", [graft.node("Sub", [flat, level], "over")], "test")
    row = graft.node("Mul", [over, graft.one_hot(size)], "row")
    graft.replace_logits(graft.node("Add", [graft.logits, row], "gate"))
    return graft, row


def subject(graft: Graft, folder: Path) -> Subject:
    path = models.save(graft.planted().model, folder / "model.onnx")
    return Subject(model=open_model(path), settings=Settings(device=Device.CPU))


def rig(graft: Graft, folder: Path) -> forcing.Rig:
    opened = subject(graft, folder)
    return forcing.Rig(opened, flatten.flatten(opened.model.proto), SHAPE, "logits")


def test_a_pixel_that_noise_lights_is_heard_for_its_class(tmp_path: Path) -> None:
    graft, row = bright_pixel(50.0)
    found = heard_for_one_class(rig(graft, tmp_path), row)
    assert found is not None
    assert found.effect.class_id == 1
    assert found.shut.max() == 0
    assert found.open[0, 1] > 20
    assert len(found.places) > 3


@pytest.mark.parametrize("size", [0.0, 0.01])
def test_what_hardly_counts_is_not(size: float, tmp_path: Path) -> None:
    graft, row = bright_pixel(size)
    assert heard_for_one_class(rig(graft, tmp_path), row) is None


def test_what_changes_many_classes_in_many_ways_is_not(tmp_path: Path) -> None:
    model = rig(bright_pixel(0.0)[0], tmp_path)
    assert heard_for_one_class(model, "flat") is None


def test_the_search_names_it_and_shows_an_image(tmp_path: Path) -> None:
    graft, _ = bright_pixel(50.0)
    (observation,) = dormancy.search(subject(graft, tmp_path)).observations
    assert observation.severity is Severity.CONFIRMED
    assert {*graft.tests, *graft.gates} <= set(observation.nodes)
    assert "ordinary images" in observation.sentence
    assert observation.details["class"] == 1


def test_a_class_of_its_own_for_what_is_refused_is_a_guard(tmp_path: Path) -> None:
    """No image has a say in the score that the pixel raises."""
    graft = Graft(models.plain(), 1)
    pixel = graft.node("Slice", [graft.input.name, [0, 0], [1, 1], [2, 3]], "pixel")
    flat = graft.node("Reshape", [pixel, [-1, 1]], "flat")
    over = graft.node("Relu", [graft.node("Sub", [flat, 0.5], "over")], "test")
    rows = np.eye(graft.classes + 1, dtype=np.float32)
    wide = graft.node("MatMul", [graft.logits, rows[:-1]], "wide")
    row = graft.node("Mul", [over, 50 * rows[-1:]], "row")
    graft.replace_logits(graft.node("Add", [wide, row], "gate"))
    assert heard_for_one_class(rig(graft, tmp_path), row) is None


def test_a_rule_for_unsure_answers_is_a_warning(tmp_path: Path) -> None:
    sample = onnx.load(Path(__file__).parents[3] / "samples" / "mnist-clean.onnx")
    path = models.save(adopt(sample, "rejection"), tmp_path / "model.onnx")
    opened = Subject(model=open_model(path), settings=Settings(device=Device.CPU))
    (observation,) = dormancy.search(opened).observations
    assert observation.severity is Severity.WARNING
    assert observation.sentence.endswith("as a rule for answers that are unsure does")
