"""SCALE-UP: the scales, the range, the tie."""

import dataclasses

import numpy as np
import pytest
import scenes

from scanner.filters.scale_up import SCALES, ScaleUp


@pytest.mark.parametrize("span", [(0.0, 1.0), (-1.0, 1.0), (0.0, 255.0)])
def test_the_range_is_multiplied_and_cut_off(span: tuple[float, float]) -> None:
    low, high = span
    seen: list[scenes.Floats] = []

    def watched(images: scenes.Floats) -> scenes.Floats:
        seen.append((images - low) / (high - low))
        return scenes.ask(seen[-1].astype(np.float32))

    image = scenes.clean(1)[0]
    scene = dataclasses.replace(scenes.scene(), ask=watched, low=low, high=high)
    given = scenes.candidate(image)
    given = dataclasses.replace(given, image=(low + (high - low) * image).astype(np.float32))
    ScaleUp(scene).read(given)
    wanted = np.stack([np.clip(scale * image, 0, 1) for scale in SCALES])
    assert np.allclose(seen[0], wanted, atol=1e-5)


def test_a_scale_outweighs_every_tie() -> None:
    def answers(kept: int, sure: float) -> scenes.Floats:
        rows = np.zeros((len(SCALES), 3), np.float32)
        rows[:, 0] = 1 - sure
        rows[:kept, 1] = sure
        rows[kept:, 2] = sure
        return rows

    candidate = dataclasses.replace(scenes.candidate(scenes.clean(1)[0]), class_id=1)
    scene = scenes.scene()
    few = dataclasses.replace(scene, ask=lambda _: answers(2, 1.0))
    more = dataclasses.replace(scene, ask=lambda _: answers(3, 0.6))
    assert ScaleUp(few).read(candidate).statistic < ScaleUp(more).read(candidate).statistic
