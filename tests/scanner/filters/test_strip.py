"""STRIP: the entropy by hand, and the overlay."""

import dataclasses

import numpy as np
import pytest
import scenes

from scanner.filters.strip import OVERLAYS, Strip, entropy


def test_entropy_by_hand() -> None:
    rows = np.array([[1, 0, 0, 0], [0.5, 0.5, 0, 0], [0.25] * 4], np.float32)
    assert entropy(rows).tolist() == [0.0, 1.0, 2.0]


def test_the_statistic_is_the_mean_entropy_negated_over_equal_blends() -> None:
    seen: list[scenes.Floats] = []

    def watched(images: scenes.Floats) -> scenes.Floats:
        seen.append(images)
        return scenes.ask(images)

    scene = dataclasses.replace(scenes.scene(count=OVERLAYS + 8), ask=watched)
    image = scenes.stamped(1)[0]
    statistic = Strip(scene).read(scenes.candidate(image)).statistic
    assert np.allclose(seen[0], (scene.hosts[:OVERLAYS] + image) / 2)
    assert statistic == pytest.approx(-float(entropy(scenes.ask(seen[0])).mean()))
