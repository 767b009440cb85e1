"""The faintest pattern that turns all images, in each layout and type of input."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import triggered
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto

from scanner.detectors.universal_perturbation import Perturbation, UniversalPerturbation
from scanner.results import Severity

VARIANTS: dict[str, dict[str, Any]] = {
    "NCHW": {},
    "three channels": {"shape": (3, 8, 8)},
    "NHWC": {"shape": (8, 8, 3)},
    "vector": {"shape": (64,)},
    "matrix": {"shape": (8, 8)},
    "uint8": {"kind": TensorProto.UINT8},
    "fixed batch of 7": {"batch": 7},
}


@pytest.mark.parametrize("name", VARIANTS)
def test_the_planted_class_is_found(name: str, tmp_path: Path) -> None:
    variant = VARIANTS[name]
    images = triggered.banded(tmp_path, variant.get("shape", (1, 8, 8)))
    chosen = dataclasses.replace(triggered.QUICK, images_file=images)
    found, clean = (
        triggered.measure(
            UniversalPerturbation(), triggered.lit(planted, **variant), tmp_path, chosen
        )
        for planted in (True, False)
    )
    assert found.by_class is not None
    assert clean.by_class is not None
    own, other = (p.row(triggered.TARGET) for p in (found.by_class, clean.by_class))
    assert own is not None
    assert other is not None
    assert own.figure is not None
    assert other.figure is not None
    assert 10 * own.figure < other.figure < 0.5
    (note,) = found.observations
    assert (note.code, note.severity) == ("universal-perturbation", Severity.NOTE)
    assert note.sentence == (
        f"a pattern of {own.figure:.1%} of the range, added to all images, turns "
        f"{own.figures['success']:.0%} of those held back into class 1"
    )
    assert note.input is not None
    assert note.input.class_after == triggered.TARGET


def of_images(low: float, high: float) -> Perturbation:
    model: Any = type("Model", (), {"shape": (2, 3, 3), "low": low, "high": high})
    return Perturbation(model)


@given(seed=st.integers(0, 10**6), low=st.floats(-3, 3), width=st.floats(0.1, 300))
def test_the_derivative_is_that_of_what_is_applied(seed: int, low: float, width: float) -> None:
    """By differences, away from the ends of the range, where the sum has a kink."""
    generator = np.random.default_rng(seed)
    change = of_images(low, low + width)
    images = (low + width * generator.uniform(0.3, 0.7, (4, 2, 3, 3))).astype(np.float32)
    gradient = generator.normal(size=images.shape).astype(np.float32)
    change.parameters = generator.uniform(-0.2, 0.2, (2, 3, 3)).astype(np.float32)
    direction, before = generator.normal(size=(2, 3, 3)), change.parameters.copy()
    sums = []
    for step in (1e-2, -1e-2):
        change.parameters = (before + step * direction).astype(np.float32)
        sums.append(float((change.applied(images).astype(np.float64) * gradient).sum()) / 4)
    change.parameters = before
    found = float((change.pulled(images, gradient) * direction).sum())
    assert found == pytest.approx((sums[0] - sums[1]) / 2e-2, rel=2e-2, abs=2e-2 * width)


def test_no_pixel_leaves_the_range_and_none_is_pushed_out_of_it() -> None:
    change = of_images(0.0, 1.0)
    images = np.full((1, 2, 3, 3), 0.9, np.float32)
    change.parameters = np.full((2, 3, 3), 0.2, np.float32)
    assert change.applied(images).max() == 1
    outwards, inwards = (np.full(images.shape, s, np.float32) for s in (-1.0, 1.0))
    assert not change.pulled(images, outwards).any()
    assert (change.pulled(images, inwards) == 1).all()
