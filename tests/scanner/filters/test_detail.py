"""Fine detail: a checked pattern all over the image is told, and its shapes are not."""

import dataclasses

import numpy as np
import scenes

from scanner.filters.detail import Detail

CHECKS = (np.indices(scenes.SHAPE[1:]).sum(axis=0) % 2 - 0.5).astype(np.float32)


def checked(images: scenes.Floats) -> scenes.Floats:
    """Answer class 1 where a checkerboard is laid over the image."""
    matrix, biases = scenes.weights(planted=False)
    logits = images.reshape(len(images), -1) @ matrix.T + biases
    seen = (images[:, 0] * CHECKS).sum(axis=(1, 2))
    logits[:, scenes.TARGET] += 8 * (seen - 4.0).clip(0)
    return scenes.softmax(logits)


def test_a_pattern_all_over_the_image_is_told() -> None:
    scene = dataclasses.replace(scenes.scene(), ask=checked)
    each = Detail(scene)
    clean = [each.read(scenes.candidate(image)).statistic for image in scenes.clean(20, seed=7)]
    image = scenes.clean(1, seed=8)[0] + 0.4 * CHECKS
    candidate = dataclasses.replace(
        scenes.candidate(image.clip(0, 1)), class_id=int(checked(image[None]).argmax())
    )
    assert candidate.class_id == scenes.TARGET
    assert each.read(candidate).statistic > max(clean)


def test_a_flat_image_has_no_detail() -> None:
    scene = scenes.scene()
    flat = np.full(scenes.SHAPE, 0.5, np.float32)
    candidate = dataclasses.replace(scenes.candidate(flat), class_id=2)
    others = scene.others(2, 12)
    expected = float(scenes.ask(scene.hosts[others])[:, 2].mean())
    assert abs(Detail(scene).read(candidate).statistic - expected) < 1e-6


def test_a_strong_edge_counts_for_no_more_than_a_faint_one() -> None:
    scene = scenes.scene()
    read = []
    for height in (0.3, 0.5):
        image = np.full(scenes.SHAPE, 0.5, np.float32)
        image[..., image.shape[-1] // 2 :] += height
        candidate = dataclasses.replace(scenes.candidate(image), class_id=2)
        read.append(Detail(scene).read(candidate).statistic)
    assert read[0] == read[1]
