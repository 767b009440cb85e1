"""Answers are compared by what decides: their differences, in units of their spread."""

from collections.abc import Callable
from pathlib import Path

import models
import numpy as np
import onnx
import pytest

from scanner.instruments.agreement import precision, row_distances
from scanner.modelfile.model import open_model


def test_a_constant_added_to_all_scores_hides_nothing() -> None:
    scores = np.array([[0.0, 1.0, 2.0], [3.0, 1.0, 0.0]])
    assert row_distances(scores, scores[:, ::-1]).min() > 1
    assert row_distances(scores + 1e3, scores[:, ::-1] + 1e3).min() > 1
    assert row_distances(scores, scores * np.nan).min() == np.inf
    assert row_distances(scores, scores[:, :2]).min() == np.inf


@pytest.mark.parametrize(
    ("build", "expected"),
    [(models.plain, "float32"), (models.half, "float16"), (models.quantised, "int8")],
)
def test_the_tolerance_is_that_of_the_coarsest_arithmetic(
    build: Callable[[], onnx.ModelProto], expected: str, tmp_path: Path
) -> None:
    assert precision(open_model(models.save(build(), tmp_path / "m.onnx"))) == expected
