"""A second search finds other pixels than the first."""

import models
import numpy as np
from mended import SETTINGS, opened

from scanner.mending import triggers

IMAGES = np.random.default_rng(0).random((8, 1, models.SIDE, models.SIDE), dtype=np.float32)


def test_later_triggers_leave_the_pixels_of_the_first_alone() -> None:
    searched = triggers.differentiated(opened(models.plain(planted=True)), SETTINGS)
    found = triggers.search(searched, IMAGES, 1, (0,), 3, real=True)
    assert found
    for place, trigger in enumerate(found):
        assert trigger.stamped(IMAGES).shape == IMAGES.shape
        for earlier in found[:place]:
            assert not ((earlier.mask > 0.1) & (trigger.mask > 0.1)).any()
