"""Hosts in turn of their classes, and others."""

import numpy as np
import scenes
from hypothesis import given
from hypothesis import strategies as st

from scanner.instruments.scene import alternating


def test_classes_take_turns() -> None:
    classes = np.array([2, 2, 2, 0, 0, 1])
    assert classes[alternating(classes)].tolist() == [2, 0, 1, 2, 0, 2]


@given(st.lists(st.integers(0, 4), max_size=30))
def test_each_image_has_one_place(classes: list[int]) -> None:
    order = alternating(np.array(classes, np.int64))
    assert sorted(order.tolist()) == list(range(len(classes)))


def test_strangers_are_of_other_classes() -> None:
    scene = scenes.scene()
    others = scene.others(scenes.TARGET, 5)
    assert len(others) == 5
    assert scenes.TARGET not in scene.classes[others]
