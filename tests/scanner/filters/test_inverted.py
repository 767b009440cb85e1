"""Found triggers: only for their class, and only of the model's own shape."""

import dataclasses

import numpy as np
import pytest
import scenes

from scanner.errors import UsageError
from scanner.filters.inverted import Inverted
from scanner.results import Array


def test_an_input_of_another_class_has_no_trigger() -> None:
    each = Inverted(scenes.scene(scenes.corner()))
    candidate = dataclasses.replace(scenes.candidate(scenes.stamped(1)[0]), class_id=0)
    assert each.read(candidate).statistic == 0.0


def test_an_input_of_the_class_without_its_trigger_does_nothing_elsewhere() -> None:
    each = Inverted(scenes.scene(scenes.corner()))
    honest = next(
        candidate
        for image in scenes.clean(8)
        if (candidate := scenes.candidate(image)).class_id == scenes.TARGET
    )
    assert each.read(honest).statistic < 0.3


@pytest.mark.parametrize("shape", [(1, 9, 9), (2, 8, 8), (1, 1, 8, 8)])
def test_a_mask_of_another_shape_is_refused(shape: tuple[int, ...]) -> None:
    mask = Array.packed(np.zeros(shape, "<f4").tobytes(), shape)
    wrong = dataclasses.replace(scenes.corner(), mask=mask)
    with pytest.raises(UsageError, match="a trigger's mask is of shape"):
        Inverted(scenes.scene(wrong))
