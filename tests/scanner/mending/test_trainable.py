"""Gradient steps on a file's weights bring its loss down."""

import dataclasses

import models
import numpy as np
import onnx
import planting
import pytest
from mended import SETTINGS, opened
from onnx import helper, numpy_helper

from scanner.errors import NoGradientError, UnsupportedModelError
from scanner.mending import trainable as trainable_module
from scanner.mending.trainable import tensors, trainable

IMAGES = np.random.default_rng(0).random((16, 1, models.SIDE, models.SIDE), dtype=np.float32)


@pytest.mark.parametrize("model", [models.plain(), planting.deep(), models.half()])
def test_steps_bring_the_loss_down(model: onnx.ModelProto) -> None:
    student = trainable(opened(model), SETTINGS)
    classes = 4 if len(student.values) > 3 else models.CLASSES
    wanted = np.eye(classes, dtype=np.float32)[np.arange(16) % 2]
    losses = [student.descend(IMAGES, wanted, 0.05) for _ in range(40)]
    assert losses[-1] < 0.9 * losses[0]


def _behind(*sizes: int) -> onnx.ModelProto:
    """Return a network whose logits have further axes of size 1."""
    model = models.plain()
    shape = numpy_helper.from_array(np.array([0, -1, *sizes]), "shape")
    model.graph.initializer.append(shape)
    model.graph.node.append(helper.make_node("Reshape", ["logits", "shape"], ["scores"]))
    model.graph.output[0].name = "scores"
    return model


@pytest.mark.parametrize("size", [1, 3, 16, 20])
def test_a_fixed_batch_learns_what_an_open_one_learns(size: int) -> None:
    wanted = np.eye(models.CLASSES, dtype=np.float32)[np.arange(16) % 2]
    fixed = models.plain(input_shape=(size, 1, models.SIDE, models.SIDE))
    one, other = (trainable(opened(model), SETTINGS) for model in (models.plain(), fixed))
    for _ in range(3):
        losses = [student.descend(IMAGES, wanted, 0.01) for student in (one, other)]
        assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    for name, value in one.values.items():
        np.testing.assert_allclose(other.values[name], value, atol=1e-5)


def test_logits_with_further_axes_of_one() -> None:
    wanted = np.eye(models.CLASSES, dtype=np.float32)[np.arange(16) % 2]
    one, other = (trainable(opened(m), SETTINGS) for m in (models.plain(), _behind(1, 1)))
    for _ in range(3):
        losses = [student.descend(IMAGES, wanted, 0.01) for student in (one, other)]
        assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_quantised_weights_are_refused() -> None:
    with pytest.raises(UnsupportedModelError, match="quantised"):
        trainable(opened(models.quantised()), SETTINGS)


def test_tensors_are_named_once() -> None:
    from scanner.graph.surgery.parameters import layers  # noqa: PLC0415 - for this test alone

    assert tensors([*layers(models.plain()), *layers(models.plain())]) == [
        "kernel", "bias", "dense",
    ]  # fmt: skip


def test_heavy_weights_take_longer_steps() -> None:
    """A step of Adam from rest is as long as the rate; here per tensor, on its mean square."""
    student = trainable(opened(models.plain()), SETTINGS)
    heavy, light = student.values["dense"], student.values["kernel"]
    heavy *= 1.2 / np.sqrt(np.square(heavy).mean())
    light *= 0.01 / np.sqrt(np.square(light).mean())
    before = {name: value.copy() for name, value in student.values.items()}
    student = dataclasses.replace(student)  # the paces are chosen when it is made
    student.descend(IMAGES, np.eye(models.CLASSES, dtype=np.float32)[np.arange(16) % 2], 1e-3)
    for name, length in (("dense", 1e-2), ("kernel", 1e-3)):
        moved = np.sqrt(np.square(student.values[name] - before[name]).mean())
        assert moved == pytest.approx(length, rel=1e-3)


def test_of_too_many_weights_the_last_learn(monkeypatch: pytest.MonkeyPatch) -> None:
    everything = trainable(opened(planting.deep()), SETTINGS).values
    last = [value for value in everything.values() if value.ndim > 1][-1]
    monkeypatch.setattr(trainable_module, "MOST_WEIGHTS", last.size)
    found = trainable(opened(planting.deep()), SETTINGS).values
    assert 0 < len(found) < len(everything)
    assert list(found) == list(everything)[-len(found) :]
    monkeypatch.setattr(trainable_module, "MOST_WEIGHTS", 1)
    with pytest.raises(NoGradientError, match="the last layer alone"):
        trainable(opened(planting.deep()), SETTINGS)
