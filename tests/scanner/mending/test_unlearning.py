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


def test_stamped_images_are_to_be_answered_as_without_the_stamp(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(unlearning.variations, "bent", lambda image, *_: image + np.float32(8))
    teacher = scorer(opened(models.plain()), SETTINGS)
    course = unlearning._Course(IMAGES, teacher, [1])
    course.add([[Found(np.ones_like(IMAGES[0]), IMAGES[0], 6.4)]])
    shown, wanted = course.batch(np.random.default_rng(0))
    stamped = shown.min(axis=(1, 2, 3)) > 4
    assert stamped.sum() == unlearning._BATCH
    right = teacher.probabilities(shown[stamped] - 8)
    assert np.allclose(wanted[stamped], right, atol=1e-4)


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


def test_no_single_class_says_what_is_usual() -> None:
    generator = np.random.default_rng(0)
    assert unlearning._others(2, [1], generator) == []
    for classes, targets in ((3, [1]), (10, [2, 5])):
        others = unlearning._others(classes, targets, generator)
        assert len(others) == min(classes - len(targets), unlearning._OTHERS)
        assert not set(others) & set(targets)
