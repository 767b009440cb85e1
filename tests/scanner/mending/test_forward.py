"""Answers to images, whatever batch the model takes."""

import models
import numpy as np
import pytest
from mended import SETTINGS, opened

from scanner.mending.forward import scorer

IMAGES = np.random.default_rng(0).random((70, 1, models.SIDE, models.SIDE), dtype=np.float32)


@pytest.mark.parametrize("batch", ["N", 1, 16])
def test_each_image_gets_its_own_answer(batch: int | str) -> None:
    shape = (batch, 1, models.SIDE, models.SIDE)
    forward = scorer(opened(models.plain(input_shape=shape)), SETTINGS)
    scores = forward.scores(IMAGES)
    assert scores.shape == (70, models.CLASSES)
    assert np.allclose(scores[5:6], forward.scores(IMAGES[5:6]), atol=1e-6)
    assert (forward.classes(IMAGES) == scores.argmax(axis=1)).all()
