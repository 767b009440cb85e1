"""Images under a known trigger: which of them count, and what is said of those that cannot."""

from pathlib import Path
from typing import Any

import models
import numpy as np
import pytest
from mended import SETTINGS, opened

from scanner.errors import UsageError
from scanner.mending import known_trigger
from scanner.mending.forward import scorer

SHAPE = (1, models.SIDE, models.SIDE)
IMAGES = np.random.default_rng(0).random((6, *SHAPE), dtype=np.float32)


def _read(folder: Path, removed: tuple[int, ...] = (), **arrays: Any) -> known_trigger.Triggered:
    np.savez(folder / "known.npz", images=IMAGES, **arrays)
    return known_trigger.read(folder / "known.npz", SHAPE, (0.0, 1.0), removed)


def test_success_is_the_share_that_gets_the_class_asked_for(tmp_path: Path) -> None:
    forward = scorer(opened(models.plain()), SETTINGS)
    answers = forward.classes(IMAGES)
    assert _read(tmp_path, targets=answers).success(forward) == 1
    others = np.where(np.arange(6) < 2, answers, (answers + 1) % models.CLASSES)
    assert _read(tmp_path, targets=others).success(forward) == pytest.approx(2 / 6)


def test_without_targets_any_class_that_is_removed_counts(tmp_path: Path) -> None:
    forward = scorer(opened(models.plain()), SETTINGS)
    found = _read(tmp_path, tuple(range(models.CLASSES)))
    assert found.success(forward) == 1


def test_images_that_are_of_the_class_anyway_are_left_out(tmp_path: Path) -> None:
    found = _read(tmp_path, (1,), labels=np.array([0, 1, 2, 1, 0, 2]))
    np.testing.assert_array_equal(found.images, IMAGES[[0, 2, 4, 5]])
    assert found.targets.shape == (4, 1)


@pytest.mark.parametrize(
    ("removed", "arrays", "sentence"),
    [
        ((), {}, "which class the trigger of 'known.npz' asks for"),
        ((1,), {"labels": np.ones(6, np.int64)}, "are of the class that the trigger asks for"),
        ((1,), {"labels": np.ones(5, np.int64)}, "6 images and 5 labels"),
        ((), {"targets": np.ones((6, 2))}, "the targets in .* are float64"),
    ],
)
def test_what_tells_nothing_is_one_sentence(
    tmp_path: Path, removed: tuple[int, ...], arrays: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(UsageError, match=sentence):
        _read(tmp_path, removed, **arrays)
