"""Searches for triggers: small patches, and patterns over the whole image."""

import models
import numpy as np
from mended import SETTINGS, clean, opened

from scanner.instruments.differentiable import Differentiable
from scanner.mending import triggers

IMAGES = np.random.default_rng(0).random((8, 1, models.SIDE, models.SIDE), dtype=np.float32)


def _searched() -> Differentiable:
    return triggers.differentiated(opened(models.plain(planted=True)), SETTINGS)


def test_what_turns_fewer_images_may_be_smaller() -> None:
    found = [
        triggers.smallest(
            _searched(), IMAGES, 1, np.random.default_rng(0), real=True, success=share
        ).size
        for share in (1.0, 0.2)
    ]
    assert found[1] <= found[0]


def test_a_search_from_a_trigger_stays_near_it() -> None:
    first = triggers.smallest(_searched(), IMAGES, 1, np.random.default_rng(0), real=True)
    again = triggers.smallest(
        _searched(), IMAGES, 1, np.random.default_rng(1), real=True, start=first, steps=1
    )
    held = first.mask > 0.5
    assert held.any() == (again.mask[held] > 0.3).any()


def test_a_pattern_is_the_faintest_of_those_that_work() -> None:
    model = triggers.differentiated(opened(clean()), SETTINGS)
    images = np.random.default_rng(0).random((16, *model.shape), dtype=np.float32)
    found = triggers.faintest(model, images, 1, np.random.default_rng(0), (0.001, 0.99))
    assert found is not None
    assert found.is_blended
    assert found.mask.flat[0] > 0.9
    assert (model.predict(found.stamped(images)) == 1).mean() >= 0.9


def test_there_may_be_no_pattern() -> None:
    assert triggers.faintest(_searched(), IMAGES, 1, np.random.default_rng(0), ()) is None
