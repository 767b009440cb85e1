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
    assert len(found[1].found) >= 2  # one search from anywhere, one from what was found first


def test_stamped_images_are_to_be_answered_as_without_the_stamp() -> None:
    teacher = scorer(opened(models.plain()), SETTINGS)
    course = unlearning._Course(IMAGES, teacher, [1])
    pattern = np.full(IMAGES.shape[1:], 9.0, np.float32)
    course.add([[Found(np.full_like(pattern, 0.1), pattern, 6.4)]])
    shown, wanted = course.batch(np.random.default_rng(0))
    stamped = shown.min(axis=(1, 2, 3)) > 0.8
    assert stamped.sum() == unlearning._BATCH
    right = teacher.probabilities(IMAGES)
    assert all(np.isclose(right, row, atol=1e-5).all(axis=1).any() for row in wanted[stamped])


def test_images_of_the_target_are_shown_more_often() -> None:
    teacher = scorer(opened(models.plain()), SETTINGS)
    classes = teacher.classes(IMAGES)
    target = min(set(classes.tolist()), key=classes.tolist().count)
    usual = unlearning._Course(IMAGES, teacher, [models.CLASSES + 1])
    often = unlearning._Course(IMAGES, teacher, [target])
    nothing = Found(np.zeros(IMAGES.shape[1:], np.float32), IMAGES[0], 0.0)
    shares = []
    for course in (usual, often):
        course.add([[nothing]])
        batches = [course.batch(np.random.default_rng(seed))[1] for seed in range(8)]
        wanted = np.concatenate([batch[: unlearning._KEPT] for batch in batches])
        shares.append((wanted.argmax(axis=1) == target).mean())
    assert shares[1] >= shares[0]


def test_steps_are_shorter_through_many_layers_and_end_in_nothing() -> None:
    last = unlearning.ROUNDS * unlearning._STEPS
    assert unlearning.rate(0, 0) == unlearning.rate(0, 8) == 2 * unlearning.rate(0, 16) > 0
    assert unlearning.rate(last, 8) == pytest.approx(0)
