"""An average over a batch moves by degrees; what is chosen by the batch jumps."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest

from scanner.instruments.company import moves_by_degrees

Array = npt.NDArray[np.float32]
GENERATOR = np.random.default_rng(0)
IMAGES = GENERATOR.random((12, 1, 6, 6), dtype=np.float32)
WEIGHTS = GENERATOR.normal(0, 1, (36, 5)).astype(np.float32)
OTHER = GENERATOR.normal(0, 1, (36, 5)).astype(np.float32)


def scores(batch: Array, weights: Array = WEIGHTS) -> Array:
    return np.asarray(np.tanh(batch.reshape(len(batch), 36) - 0.5) @ weights, np.float32)


def normalised(batch: Array) -> Array:
    return scores(batch - batch.mean(axis=(0, 2, 3), keepdims=True) + np.float32(0.5))


def smoothed(batch: Array) -> Array:
    own = scores(batch)
    return np.asarray(0.8 * own + 0.2 * np.concatenate([own[:1], own[:-1]]), np.float32)


def by_size(batch: Array) -> Array:
    return scores(batch, WEIGHTS if len(batch) == 1 else OTHER)


def of_sixteen(batch: Array) -> Array:
    return scores(batch, OTHER if len(batch) == 16 else WEIGHTS)


def by_place(batch: Array) -> Array:
    answers = scores(batch)
    answers[1:] = scores(batch[1:], OTHER)
    return answers


def by_variety(batch: Array) -> Array:
    return scores(batch, OTHER if batch.std(axis=0).max() > 0.1 else WEIGHTS)


def by_brightness(batch: Array) -> Array:
    return scores(batch, OTHER if batch.mean() > 0.5 else WEIGHTS)


def judged(run: Callable[[Array], Array], image: int, fixed: int | None = None) -> bool:
    alone = run(np.repeat(IMAGES[image : image + 1], fixed or 1, axis=0))[0]
    others = IMAGES[np.arange(len(IMAGES)) != image]
    return moves_by_degrees(run, alone, IMAGES[image], others, fixed)


@pytest.mark.parametrize("fixed", [None, 4])
@pytest.mark.parametrize("run", [normalised, smoothed])
def test_an_average_moves_by_degrees(run: Callable[[Array], Array], fixed: int | None) -> None:
    assert all(judged(run, image, fixed) for image in range(4))


@pytest.mark.parametrize("run", [by_size, of_sixteen, by_place, by_variety])
def test_what_the_batch_chooses_jumps(run: Callable[[Array], Array]) -> None:
    one, other = scores(IMAGES).argmax(1), scores(IMAGES, OTHER).argmax(1)
    changed = np.flatnonzero(one != other)
    assert len(changed) > 3
    assert not any(judged(run, int(image)) for image in changed)


def test_a_test_of_the_whole_batch_jumps() -> None:
    dark = int(IMAGES.mean(axis=(1, 2, 3)).argmin())
    bright = np.clip(IMAGES + 0.3, 0, 1)
    assert not moves_by_degrees(by_brightness, scores(IMAGES)[dark], IMAGES[dark], bright, None)


def test_what_stays_does_not_move() -> None:
    assert not judged(scores, 0)
