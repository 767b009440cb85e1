"""What becomes of answers: how far each moved, and which class flipped."""

from pathlib import Path

import listening
import models
import numpy as np
import pytest

from scanner.errors import NoLogitsError
from scanner.instruments.interview import Interview, most_changed

SCORES = np.array([[0.0, 1.0, 2.0], [3.0, 1.0, 0.0]])


def test_the_output_that_moved_most_is_told() -> None:
    labels = np.array([[2], [0]])
    before = {"scores": SCORES, "still": SCORES, "label": labels}
    change = most_changed(before, {"scores": SCORES[:, ::-1], "still": SCORES, "gone": labels})
    assert change is not None
    assert change.output == "scores"
    assert change.flipped.all()
    assert change.apart.min() > 1


def test_labels_are_equal_or_not() -> None:
    change = most_changed({"label": np.array([[2], [0]])}, {"label": np.array([[2], [1]])})
    assert change is not None
    assert change.apart.tolist() == [0.0, 1.0]


def test_another_shape_is_as_far_as_can_be() -> None:
    change = most_changed({"scores": SCORES}, {"scores": SCORES[:, :2]})
    assert change is not None
    assert np.isinf(change.apart).all()
    assert most_changed({"scores": SCORES}, {}) is None


def test_what_rounds_is_no_change(tmp_path: Path) -> None:
    asked = Interview(listening.subject(models.plain(), tmp_path))
    near = {name: rows * (1 + 1e-5) for name, rows in asked.alone.items()}
    far = {name: -rows for name, rows in asked.alone.items()}
    assert asked.change(asked.alone, near, "near") is None
    assert 0 < asked.apart["near"] < asked.tolerance
    change = asked.change(asked.alone, far, "far")
    assert change is not None
    assert asked.gates(change)


def test_an_answer_that_prefers_no_class_is_no_flip(tmp_path: Path) -> None:
    asked = Interview(listening.subject(models.plain(), tmp_path))
    withheld = {name: np.full_like(rows, 9.0) for name, rows in asked.alone.items()}
    change = asked.change(asked.alone, withheld, "withheld")
    assert change is not None
    assert not asked.gates(change)


def test_a_model_that_names_no_class_is_refused(tmp_path: Path) -> None:
    model = models.build([models.convolution()], models.weights(planted=False), output="convolved")
    with pytest.raises(NoLogitsError, match="no output holds class scores or a class"):
        Interview(listening.subject(model, tmp_path))
