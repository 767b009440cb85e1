"""Logits by the whole file."""

from pathlib import Path

import models
import numpy as np
import pytest
import triggered

from scanner.errors import NoLogitsError
from scanner.instruments.answers import Answers
from scanner.modelfile.model import open_model
from scanner.settings import Device, Settings

SETTINGS = Settings(device=Device.CPU)


def test_images_are_answered_in_batches_as_alone(tmp_path: Path) -> None:
    path = models.save(models.plain(), tmp_path / "model.onnx")
    answers = Answers(open_model(path), SETTINGS)
    images = np.random.default_rng(0).random((70, *answers.shape), np.float32)
    logits = answers.logits(images)
    assert logits.shape == (70, models.CLASSES)
    assert np.allclose(logits[-1:], answers.logits(images[-1:]), atol=1e-5)
    assert answers.classes(images).tolist() == logits.argmax(axis=1).tolist()


def test_one_class_is_no_classifier(tmp_path: Path) -> None:
    path = models.save(triggered.classifier(classes=1), tmp_path / "model.onnx")
    answers = Answers(open_model(path), SETTINGS)
    with pytest.raises(NoLogitsError, match="two or more classes"):
        answers.logits(np.zeros((2, *answers.shape), np.float32))
