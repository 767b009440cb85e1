"""The disturbing window: it need not lead to the input's class."""

import dataclasses

import numpy as np
import scenes

from scanner.filters.disturbance import Disturbance
from scanner.filters.transplant import Transplant


def shifting(images: scenes.Floats) -> scenes.Floats:
    """Answer the next class where the corner is bright: an all-to-all backdoor."""
    answers = scenes.ask(images, planted=False)
    bright = images[:, 0, :2, :2].mean(axis=(1, 2)) > 0.9
    answers[bright] = np.roll(answers[bright], 1, axis=1)
    return answers


def test_an_all_to_all_trigger_is_told_though_it_has_no_class_of_its_own() -> None:
    scene = dataclasses.replace(scenes.scene(), ask=shifting)
    image = scenes.clean(3, seed=4)[2].copy()
    image[0, :2, :2] = 1.0
    class_id = int(shifting(image[None]).argmax())
    candidate = dataclasses.replace(scenes.candidate(image), class_id=class_id)
    innocent = [
        Disturbance(scene).read(scenes.candidate(each)).statistic
        for each in scenes.clean(20, seed=6)
    ]
    assert Disturbance(scene).read(candidate).statistic > max(innocent) + 0.2
    assert Transplant(scene).read(candidate).statistic < 0.6
