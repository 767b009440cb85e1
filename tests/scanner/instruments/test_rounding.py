"""Distances between answers, and the arithmetic that a file asks for."""

from collections.abc import Callable
from pathlib import Path

import models
import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scanner.instruments.rounding import TOLERANCES, precision, row_distances
from scanner.modelfile.model import open_model

SCORES = np.array([[0.0, 1.0, 2.0], [3.0, 1.0, 0.0]])


def test_another_answer_is_about_one_away() -> None:
    assert row_distances(SCORES, SCORES).max() == 0
    assert row_distances(SCORES, SCORES[:, ::-1]).min() > 1
    assert row_distances(SCORES, SCORES * np.nan).min() == np.inf
    assert row_distances(SCORES, SCORES[:, :2]).min() == np.inf


@given(st.floats(-1e3, 1e3))
def test_a_constant_added_to_all_scores_hides_nothing(added: float) -> None:
    apart = row_distances(SCORES + added, SCORES[:, ::-1] + added)
    assert apart.min() > 1


@pytest.mark.parametrize(
    ("build", "expected"),
    [(models.plain, "float32"), (models.half, "float16"), (models.quantised, "int8")],
)
def test_the_coarsest_arithmetic_sets_the_tolerance(
    build: Callable[[], onnx.ModelProto], expected: str, tmp_path: Path
) -> None:
    assert precision(open_model(models.save(build(), tmp_path / "model.onnx"))) == expected
    assert expected in TOLERANCES
