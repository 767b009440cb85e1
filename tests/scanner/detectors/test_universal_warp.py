"""The slightest warp that turns all images, in each layout and type of input."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import triggered
from hypothesis import given
from hypothesis import strategies as st

from scanner.detectors.universal_warp import CONTROL_POINTS, LARGEST, UniversalWarp, Warp
from scanner.errors import NoImagesError
from scanner.judging.comparison import compare
from scanner.results import Measurement, Severity


def measured(folder: Path, planted: bool, **variant: Any) -> Measurement:
    images = triggered.banded(folder, variant.get("shape", (1, 8, 8)))
    chosen = dataclasses.replace(triggered.QUICK, images_file=images)
    return triggered.measure(UniversalWarp(), triggered.lit(planted, **variant), folder, chosen)


@pytest.mark.parametrize("name", triggered.VARIANTS)
def test_the_planted_class_is_found(name: str, tmp_path: Path) -> None:
    found, clean = (measured(tmp_path, p, **triggered.VARIANTS[name]) for p in (True, False))
    assert found.by_class is not None
    own = found.by_class.row(triggered.TARGET)
    assert own is not None
    assert own.figure is not None
    assert own.figure < 0.1
    (note,) = found.observations
    assert (note.code, note.severity) == ("universal-warp", Severity.NOTE)
    assert note.sentence == (
        f"one warp of {own.figure:.2f} pixels turns {own.figures['success']:.0%} of the images "
        "held back into class 1"
    )
    beside = compare(UniversalWarp(), found, [clean])
    assert beside.evidence.target_class == triggered.TARGET
    assert beside.statistic is not None
    assert beside.statistic > 1


def test_a_class_that_no_slight_warp_reaches_counts_as_the_largest(tmp_path: Path) -> None:
    clean = measured(tmp_path, planted=False)
    assert clean.by_class is not None
    assert {row.figure for row in clean.by_class.rows} == {LARGEST * 8}
    assert {row.figures["success"] for row in clean.by_class.rows} == {None}
    assert clean.observations == ()


@pytest.mark.parametrize("shape", [(64,), (1, 1, 64)])
def test_what_has_no_rows_and_columns_cannot_be_bent(
    shape: tuple[int, ...], tmp_path: Path
) -> None:
    with pytest.raises(NoImagesError, match="has no rows and columns that could be bent"):
        measured(tmp_path, planted=True, shape=shape)


def of_images(shape: tuple[int, ...]) -> Warp:
    model: Any = type("Model", (), {"shape": shape})
    return Warp(model)


@pytest.mark.parametrize("shape", [(1, 7, 9), (3, 7, 9), (7, 9, 3), (7, 9)])
def test_a_field_of_zeros_changes_nothing(shape: tuple[int, ...]) -> None:
    images = np.random.default_rng(0).normal(size=(2, *shape)).astype(np.float32)
    assert of_images(shape).applied(images) == pytest.approx(images, abs=1e-6)


@pytest.mark.parametrize("shape", [(3, 7, 9), (7, 9, 3), (7, 9)])
def test_a_constant_field_shifts_the_image(shape: tuple[int, ...]) -> None:
    """One row down and one column to the left; beyond the edge lies the edge."""
    change = of_images(shape)
    change.parameters[0], change.parameters[1] = 1, -1
    images = np.random.default_rng(0).normal(size=(2, *shape)).astype(np.float32)
    rows, columns = (i + 1 for i, size in enumerate(shape) if size != 3)
    down = np.take(images, np.minimum(np.arange(7) + 1, 6), axis=rows)
    expected = np.take(down, np.maximum(np.arange(9) - 1, 0), axis=columns)
    assert change.applied(images) == pytest.approx(expected, abs=1e-5)


@given(seed=st.integers(0, 10**6), channels=st.sampled_from(["first", "last", "none"]))
def test_the_derivative_is_that_of_what_is_applied(seed: int, channels: str) -> None:
    """By differences: between four pixels the value is bilinear, so that they are exact there."""
    generator = np.random.default_rng(seed)
    shape = {"first": (3, 7, 9), "last": (7, 9, 3), "none": (7, 9)}[channels]
    change = of_images(shape)
    images = generator.normal(size=(2, *shape)).astype(np.float32)
    gradient = generator.normal(size=images.shape).astype(np.float32)
    # No pixel looks across the middle of its four: nowhere is a kink.
    before = generator.uniform(0.2, 0.8, change.parameters.shape).astype(np.float32)
    direction = generator.normal(size=before.shape)
    sums, step = [], 1e-3
    for sign in (1, -1):
        change.parameters = (before + sign * step * direction).astype(np.float32)
        sums.append(float((change.applied(images).astype(np.float64) * gradient).sum()) / 2)
    change.parameters = before
    found = float((change.pulled(images, gradient) * direction).sum())
    assert found == pytest.approx((sums[0] - sums[1]) / (2 * step), rel=2e-2, abs=0.2)


def test_how_it_was_searched_is_recorded(tmp_path: Path) -> None:
    assert measured(tmp_path, planted=True).parameters["control_points"] == CONTROL_POINTS
