"""A witness answers again for what it measured, and claims no more than that."""

import dataclasses
from pathlib import Path

import models
import numpy as np
import pytest

from scanner.detectors import load
from scanner.instruments.detector import Subject
from scanner.instruments.witness import Witness
from scanner.modelfile.model import open_model
from scanner.settings import Device, Settings

IMAGES = np.random.default_rng(0).random((3, 1, models.SIDE, models.SIDE), dtype=np.float32)


@pytest.mark.parametrize("rule", ["integrity", "overactivation", "layerwise", "head", "mm_bd"])
def test_a_detector_leaves_what_it_measured(rule: str, tmp_path: Path) -> None:
    path = models.save(models.plain(), tmp_path / "model.onnx")
    subject = Subject(model=open_model(path), settings=Settings(images=4, device=Device.CPU))
    load([rule])[0].measure(subject)
    assert subject.witnesses
    for witness in subject.witnesses:
        answers = witness.answer(IMAGES)
        assert set(answers) <= set(witness.values)
        assert all(len(rows) == len(IMAGES) for rows in answers.values())
        if witness.peaks:
            assert all(rows.shape == (len(IMAGES),) for rows in answers.values())
        if witness.scores:
            assert answers[witness.values[-1]].shape == (len(IMAGES), models.CLASSES)


def test_a_witness_cannot_be_changed_afterwards() -> None:
    witness = Witness(name="a graph", values=("logits",), answer=lambda images: {"logits": images})
    assert (witness.peaks, witness.scores, witness.relaxed) == (False, False, False)
    with pytest.raises(dataclasses.FrozenInstanceError):
        witness.relaxed = True  # type: ignore[misc]
