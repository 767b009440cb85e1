"""What gates do on ordinary images, by measurement: either way, and who decides."""

from collections.abc import Callable
from pathlib import Path

import models
import numpy as np
import onnx
import pytest

from scanner.instruments.detector import Subject
from scanner.instruments.gate_habits import Trial, Ways, _other, _reorders
from scanner.modelfile.model import open_model
from scanner.settings import Device, Settings
from trainers.graph_backdoor import Graft

SETTINGS = Settings(device=Device.CPU)
SAMPLES = Path(__file__).parents[3] / "samples"


def ways(model: onnx.ModelProto, decision: str, folder: Path) -> Ways | None:
    path = models.save(model, folder / "model.onnx")
    subject = Subject(model=open_model(path), settings=SETTINGS)
    return Trial(subject, model.graph.output[0].name).ways(decision)


def _mean(graft: Graft) -> str:
    return graft.reduce("ReduceMean", graft.input.name, [1, 2, 3], keep=True)


def _inverted(graft: Graft) -> str:
    """Bright images are inverted."""
    bright = graft.node("Greater", [_mean(graft), graft.constant(0.5)], "bright")
    other = graft.node("Sub", [graft.constant(1.0), graft.input.name], "inverse")
    graft.replace_input(graft.node("Where", [bright, other, graft.input.name], "chosen"))
    return bright


def _forced(graft: Graft, level: float) -> str:
    """Images brighter than a level are all of one class."""
    bright = graft.node("Greater", [_mean(graft), graft.constant(level)], "bright")
    column = graft.node("Reshape", [bright, graft.constant([-1, 1], np.int64)], "column")
    graft.replace_logits(graft.node("Where", [column, graft.one_hot(9.0), graft.logits], "chosen"))
    return column


def _ranged(graft: Graft) -> str:
    """Values in [-1, 1] are brought into [0, 1]."""
    lowest = graft.reduce("ReduceMin", graft.input.name, [1, 2, 3], keep=True)
    signed = graft.node("Less", [lowest, graft.constant(0.0)], "signed")
    moved = graft.node("Add", [graft.input.name, graft.constant(1.0)], "moved")
    half = graft.node("Mul", [moved, graft.constant(0.5)], "half")
    graft.replace_input(graft.node("Where", [signed, half, graft.input.name], "chosen"))
    return signed


def measured(build: Callable[[Graft], str], folder: Path) -> Ways:
    graft = Graft(models.plain(), 1)
    decision = build(graft)
    found = ways(graft.planted().model, decision, folder)
    assert found is not None
    return found


def test_an_inversion_is_taken_both_ways_and_the_image_decides(tmp_path: Path) -> None:
    found = measured(_inverted, tmp_path)
    assert found.ordinary
    assert not found.decides
    assert found.asked > 100


def test_what_gives_one_class_decides_whether_it_is_taken_or_not(tmp_path: Path) -> None:
    often, never = (measured(lambda g, x=x: _forced(g, x), tmp_path) for x in (0.5, 2.0))  # type: ignore[misc]
    assert (often.decides, never.decides) == (True, True)
    assert often.ordinary
    assert not never.ordinary
    assert often.textured > 0
    assert (never.taken, never.featureless) == (0, False)


def test_what_featureless_images_take_is_told(tmp_path: Path) -> None:
    def dark(graft: Graft) -> str:
        highest = graft.reduce("ReduceMax", graft.input.name, [1, 2, 3])
        silent = graft.node("Less", [graft.column(highest), graft.constant(0.01)], "silent")
        graft.replace_logits(graft.node("Where", [silent, graft.one_hot(9.0), graft.logits], "no"))
        return silent

    found = measured(dark, tmp_path)
    assert found.featureless
    assert found.textured == 0


def test_a_range_is_guessed_where_its_images_are_answered_alike(tmp_path: Path) -> None:
    found = measured(_ranged, tmp_path)
    assert found.taken == 0
    assert found.guesses == "values in [-1, 1]"


@pytest.mark.parametrize(("steepness", "further"), [(0.1, False), (500.0, True)])
def test_a_number_may_go_further_than_any_image_brings_it(
    steepness: float, further: bool, tmp_path: Path
) -> None:
    def bumped(graft: Graft) -> str:
        excess = graft.node("Sub", [_mean(graft), graft.constant(0.97)], "excess")
        near = graft.node("Relu", [graft.column(excess)], "near")
        steep = graft.node("Mul", [near, graft.constant(steepness)], "steep")
        bump = graft.node("Mul", [steep, graft.one_hot(1.0)], "bump")
        graft.replace_logits(graft.node("Add", [graft.logits, bump], "sum"))
        return steep

    found = measured(bumped, tmp_path)
    assert (found.further or bool(found.decides)) == further


def test_a_yes_for_each_image_of_a_batch_has_an_opposite() -> None:
    typical = np.full((2, 1, 1, 1), 0.99999994, np.float32)
    usual = np.ones(1, np.bool_)
    np.testing.assert_array_equal(_other([typical], usual, typical), np.zeros_like(typical))
    assert _other([typical], usual, np.array([[0, 0]], np.float32)) is None
    assert _other([typical], usual, np.full((1, 1), 0.5, np.float32)) is None


def test_what_lies_in_a_body_cannot_be_read(tmp_path: Path) -> None:
    assert ways(models.plain(), "not there", tmp_path) is None


def test_a_class_that_only_the_gate_gives_is_a_refusal(tmp_path: Path) -> None:
    def guarded(graft: Graft) -> str:
        """Bright images are answered with a class that the network does not have."""
        bright = graft.node("Greater", [graft.column(_mean(graft)), graft.constant(0.5)], "bright")
        number = graft.node("Cast", [bright], "number", to=onnx.TensorProto.FLOAT)
        swing = graft.node("Mul", [number, graft.constant(100.0)], "swing")
        unknown = graft.node("Sub", [swing, graft.constant(50.0)], "unknown")
        both = graft.node("Concat", [graft.logits, unknown], "both", axis=1)
        graft.replace_logits(both)
        return unknown

    found = measured(guarded, tmp_path)
    assert found.ordinary
    assert (found.decides, found.refuses) == (True, True)


def test_a_class_of_the_network_is_none(tmp_path: Path) -> None:
    found = measured(lambda graft: _forced(graft, 0.5), tmp_path)
    assert (found.decides, found.refuses) == (True, False)


def _reordered(graft: Graft, order: list[int]) -> str:
    """Bright images get the scores of other classes."""
    bright = graft.node("Greater", [_mean(graft), graft.constant(0.6)], "bright")
    column = graft.node("Reshape", [bright, graft.constant([-1, 1], np.int64)], "column")
    places = graft.constant(order, np.int64)
    other = graft.node("Gather", [graft.logits, places], "rolled", axis=1)
    graft.replace_logits(graft.node("Where", [column, other, graft.logits], "chosen"))
    return column


@pytest.mark.parametrize("order", [[1, 2, 0], [1, 0, 2], [0, 2, 1]])
def test_scores_in_another_order_are_told_even_where_many_take_it(
    order: list[int], tmp_path: Path
) -> None:
    found = measured(lambda graft: _reordered(graft, order), tmp_path)
    assert found.ordinary
    assert found.reorders


@pytest.mark.parametrize("build", [_inverted, _ranged])
def test_what_changes_the_image_reorders_nothing(
    build: Callable[[Graft], str], tmp_path: Path
) -> None:
    assert not measured(build, tmp_path).reorders


def test_the_class_that_came_second_is_no_answer_of_the_image() -> None:
    old = np.random.default_rng(0).normal(size=(40, 5))
    without = np.where(old == old.max(axis=1, keepdims=True), -9.0, old)
    assert _reorders(old, without)
    own = np.where(np.arange(5) == 2, 9.0, old)
    assert not _reorders(own, old), "a guard's own class, of which it lets go"


def _standardised(graft: Graft) -> str:
    """What has negative values is brought into [0, 1] by a factor and a shift of its own."""
    lowest = graft.reduce("ReduceMin", graft.input.name, [1, 2, 3], keep=True)
    signed = graft.node("Less", [lowest, graft.constant(0.0)], "signed")
    wide = graft.node("Mul", [graft.input.name, graft.constant(0.3)], "wide")
    moved = graft.node("Add", [wide, graft.constant(0.4)], "moved")
    graft.replace_input(graft.node("Where", [signed, moved, graft.input.name], "chosen"))
    return signed


def test_any_range_that_a_gate_brings_into_the_own_one_is_found(tmp_path: Path) -> None:
    graft = Graft(models.plain(), 1)
    decision = _standardised(graft)
    model = graft.planted().model
    gated = next(n.output[0] for n in model.graph.node if n.op_type == "Where")
    path = models.save(model, tmp_path / "model.onnx")
    trial = Trial(Subject(model=open_model(path), settings=SETTINGS), "logits")
    found = trial.ways(decision, "", gated)
    assert found is not None
    assert found.guesses == "values in [-1.33, 2]"


def _thrice_the_largest(graft: Graft) -> str:
    """Images of bright corners get the class that noise has, by a bump as large as their scores."""
    size = graft.reduce("ReduceMax", graft.node("Abs", [graft.logits], "size"), [1], keep=True)
    darkest = graft.reduce("ReduceMin", graft.patch(), [1, 2, 3], keep=False)
    bright = graft.column(graft.node("Greater", [darkest, graft.constant(0.97)], "bright"))
    bump = graft.node(
        "Mul", [graft.node("Mul", [size, graft.one_hot(3.0)], "bump"), bright], "gate"
    )
    graft.replace_logits(graft.node("Add", [graft.logits, bump], "sum"))
    return bright


def test_a_class_that_noise_has_anyway_is_forced_upon_images_of_other_classes(
    tmp_path: Path,
) -> None:
    clean = onnx.load(SAMPLES / "mnist-clean.onnx")
    graft = Graft(clean, 3)
    decision = _thrice_the_largest(graft)
    found = ways(graft.planted().model, decision, tmp_path)
    assert found is not None
    assert found.changed == 1.0


def test_a_picture_that_is_put_right_is_asked_of_ordinary_images_alone(tmp_path: Path) -> None:
    graft = Graft(onnx.load(SAMPLES / "mnist-clean.onnx"), 3)
    darkest = graft.reduce("ReduceMin", graft.patch(), [1, 2, 3], keep=True)
    bright = graft.node("Greater", [darkest, graft.constant(0.97)], "bright")
    smooth = graft.node(
        "AveragePool", [graft.input.name], "smooth", kernel_shape=[3, 3], pads=[1, 1, 1, 1]
    )
    graft.replace_input(graft.node("Where", [bright, smooth, graft.input.name], "chosen"))
    found = ways(graft.planted().model, bright, tmp_path)
    assert found is not None
    assert found.changed is not None
    assert found.changed < 1.0
