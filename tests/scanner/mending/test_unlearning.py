"""Rounds of unlearning: what they yield, and what a batch is made of."""

import models
import numpy as np
import pytest
from mended import SETTINGS, opened

from scanner.graph.surgery import parameters
from scanner.mending import unlearning
from scanner.mending.forward import scorer
from scanner.mending.triggers import Found
from scanner.modelfile.model import Model

IMAGES = np.random.default_rng(0).random((8, 1, models.SIDE, models.SIDE), dtype=np.float32)


def _rebuilt(values: dict[str, unlearning.Floats]) -> Model:
    return opened(parameters.replaced(models.plain(), values))


def test_each_round_yields_other_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unlearning, "ROUNDS", 2)
    monkeypatch.setattr(unlearning, "_STEPS", 3)
    model = opened(models.plain())
    found = list(unlearning.rounds(model, SETTINGS, IMAGES, [1], _rebuilt, scorer(model, SETTINGS)))
    assert len(found) == 2
    assert set(found[0].values) == {"kernel", "bias", "dense"}
    assert not np.array_equal(found[0].values["dense"], found[1].values["dense"])


def test_stamped_images_are_to_be_answered_as_without_the_stamp() -> None:
    teacher = scorer(opened(models.plain()), SETTINGS)
    pattern = np.full(IMAGES.shape[1:], 2.0, np.float32)
    group = [Found(np.ones_like(pattern), pattern, 64.0)]
    shown, wanted = unlearning._batch(IMAGES, [group], teacher, np.random.default_rng(0))
    stamped = (shown == 2.0).all(axis=(1, 2, 3))
    assert stamped.sum() == unlearning._BATCH
    right = teacher.probabilities(IMAGES)
    assert all(np.isclose(right, row, atol=1e-5).all(axis=1).any() for row in wanted[stamped])


def test_a_shift_keeps_the_channels() -> None:
    image = np.stack([np.zeros((8, 8)), np.ones((8, 8)), np.ones((8, 8))]).astype(np.float32)
    assert np.array_equal(unlearning._shifted(image, np.random.default_rng(0)), image)
