"""Gradient steps on a file's weights bring its loss down."""

import models
import numpy as np
import onnx
import planting
import pytest
from mended import SETTINGS, opened

from scanner.errors import UnsupportedModelError
from scanner.mending.trainable import tensors, trainable

IMAGES = np.random.default_rng(0).random((16, 1, models.SIDE, models.SIDE), dtype=np.float32)


@pytest.mark.parametrize("model", [models.plain(), planting.deep(), models.half()])
def test_steps_bring_the_loss_down(model: onnx.ModelProto) -> None:
    student = trainable(opened(model), SETTINGS)
    classes = 4 if len(student.values) > 3 else models.CLASSES
    wanted = np.eye(classes, dtype=np.float32)[np.arange(16) % 2]
    losses = [student.descend(IMAGES, wanted, 0.05) for _ in range(40)]
    assert losses[-1] < 0.9 * losses[0]


def test_quantised_weights_are_refused() -> None:
    with pytest.raises(UnsupportedModelError, match="quantised"):
        trainable(opened(models.quantised()), SETTINGS)


def test_tensors_are_named_once() -> None:
    from scanner.graph.surgery.parameters import layers  # noqa: PLC0415 - for this test alone

    assert tensors([*layers(models.plain()), *layers(models.plain())]) == [
        "kernel", "bias", "dense",
    ]  # fmt: skip
