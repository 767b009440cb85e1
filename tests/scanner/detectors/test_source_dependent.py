"""The search for one stamp that sends each class to another, on classifiers where it is known."""

import base64
import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import models
import numpy as np
import numpy.typing as npt
import pytest
import triggered
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto

from scanner.detectors import source_dependent
from scanner.detectors.source_dependent import SourceDependent, slope
from scanner.errors import NoImagesError
from scanner.examine import examine
from scanner.protocol import Examination, Job, Source
from scanner.results import Failure, Measurement, Severity, Skip
from scanner.settings import Settings
from scanner.values import to_json

UP = {"0": 1, "1": 2, "2": 3, "3": 0}
VARIANTS: dict[str, dict[str, Any]] = {
    "NCHW": {},
    "three channels": {"shape": (3, 8, 8)},
    "NHWC": {"shape": (8, 8, 3)},
    "vector": {"shape": (64,)},
    "matrix": {"shape": (8, 8)},
    "uint8": {"kind": TensorProto.UINT8},
    "fixed batch of 7": {"batch": 7},
}


def settings(
    folder: Path, count: int = 40, shape: tuple[int, ...] = (1, 8, 8), **changes: Any
) -> Settings:
    images = triggered.banded(folder, shape, count)
    return dataclasses.replace(triggered.QUICK, images_file=images, **changes)


def measure(folder: Path, planted: bool, chosen: Settings, **variant: Any) -> Measurement:
    model = triggered.shifting(planted, **variant)
    return triggered.measure(SourceDependent(), model, folder, chosen)


def label_map(measurement: Measurement) -> dict[str, int]:
    (observation,) = measurement.observations
    assert (observation.code, observation.severity) == ("label-map", Severity.NOTE)
    found: dict[str, int] = observation.details["label_map"]
    return found


@pytest.mark.parametrize("name", VARIANTS)
def test_the_planted_map_is_found_and_a_clean_twin_needs_far_more(
    name: str, tmp_path: Path
) -> None:
    variant = VARIANTS[name]
    chosen = settings(tmp_path, shape=variant.get("shape", (1, 8, 8)))
    planted, clean = (measure(tmp_path, p, chosen, **variant) for p in (True, False))
    assert label_map(planted) == UP
    assert label_map(clean) != UP
    small, large = (m.figures["pixels"] for m in (planted, clean))
    assert small is not None
    assert large is not None
    assert small < 4 < 4 * small < large
    assert planted.statistic == pytest.approx(math.log((0.02 * 64 + 1) / (small + 1)))


def test_the_note_shows_an_image_that_goes_the_same_way(tmp_path: Path) -> None:
    chosen = settings(tmp_path)
    found = measure(tmp_path, True, chosen)
    (observation,) = found.observations
    pixels, moved = found.figures["pixels"], found.figures["moved"]
    assert observation.sentence == (
        f"one mask of {pixels:.1f} pixels sends images from class 0 to 1, 1 to 2, 2 to 3, 3 to 0; "
        f"{moved:.0%} of the images held back go the same way"
    )
    assert observation.input is not None
    assert observation.input.original is not None
    before, after = observation.input.class_before, observation.input.class_after
    assert observation.details["label_map"][str(before)] == after != before
    shown = observation.input.image
    image = np.frombuffer(base64.b64decode(shown.data), "<f4").reshape(shown.shape)
    assert (observation.input.low, observation.input.high) == (0.0, 1.0)
    assert 0 <= image.min() <= image.max() <= 1
    # Its band is still the brightest, and its corner is bright: the planted twin alone is misled.
    means = [image.ravel()[band].mean() for band in triggered.bands((1, 8, 8))]
    assert image.ravel()[triggered.corner((1, 8, 8))].mean() > 0.1
    assert np.argmax(means) in range(triggered.BANDS)


def test_the_same_seed_gives_the_same_result(tmp_path: Path) -> None:
    first, second, other = (
        measure(tmp_path, True, settings(tmp_path, seed=seed)) for seed in (0, 0, 1)
    )
    assert first == second
    assert other != first


def test_everything_that_influenced_the_numbers_is_recorded(tmp_path: Path) -> None:
    chosen = settings(tmp_path)
    parameters = measure(tmp_path, True, chosen).parameters
    assert parameters["data"] == f"40 images of {chosen.images_file}"
    named = [parameters[name] for name in ("images", "held_back", "steps", "restarts", "seed")]
    assert named == [30, 10, 200, 3, 0]


def test_where_nothing_moves_the_images_the_statistic_is_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source_dependent, "SUCCESS", 1.1)
    found = measure(tmp_path, True, settings(tmp_path))
    assert (found.statistic, found.observations) == (0.0, ())
    assert found.figures == {"pixels": None, "moved": None}


@pytest.mark.parametrize("count", [3, 4, 6])
def test_a_handful_of_images(count: int, tmp_path: Path) -> None:
    found = measure(tmp_path, True, settings(tmp_path, count))
    assert found.parameters["held_back"] == 1
    assert found.statistic is not None
    assert found.figures["pixels"] is not None
    assert found.figures["moved"] in (0.0, 1.0)


def test_images_of_one_class_have_no_map(tmp_path: Path) -> None:
    chosen = settings(tmp_path)
    with np.load(str(chosen.images_file)) as file:
        np.savez(tmp_path / "one.npz", images=file["images"][1 :: triggered.BANDS])
    one = dataclasses.replace(chosen, images_file=str(tmp_path / "one.npz"))
    with pytest.raises(
        NoImagesError, match=r"all 8 images that it is shown into class 1; give images of several"
    ):
        measure(tmp_path, True, one)


def test_without_images_it_says_what_it_needs(tmp_path: Path) -> None:
    with pytest.raises(NoImagesError, match=r"it needs clean images .* the setting `images_file`"):
        measure(tmp_path, True, triggered.QUICK)


def examined(folder: Path, chosen: Settings) -> Examination:
    path = str(models.save(triggered.shifting(planted=True), folder / "model.onnx"))
    job = Job(
        model=Source(name=path, path=path),
        references=(),
        records=(),
        settings=chosen,
    )
    return examine(job, lambda _: None)


@pytest.mark.parametrize("named", [False, True])
def test_a_scan_without_images_skips_it_unless_it_was_asked_for(
    named: bool, tmp_path: Path
) -> None:
    detectors = ("source_dependent",) if named else ()
    chosen = dataclasses.replace(triggered.QUICK, detectors=detectors, images=4)
    suspect = examined(tmp_path, chosen).suspect
    kept: Sequence[Skip | Failure] = suspect.failures if named else suspect.skips
    others: Sequence[Skip | Failure] = suspect.skips if named else suspect.failures
    assert "source_dependent" not in [item.rule for item in others]
    (item,) = (item for item in kept if item.rule == "source_dependent")
    assert "it needs clean images of the kind" in str(to_json(item))


def test_what_it_found_is_what_the_file_computes(tmp_path: Path) -> None:
    chosen = settings(tmp_path, detectors=("source_dependent", "not-the-file"))
    suspect = examined(tmp_path, chosen).suspect
    assert suspect.failures == ()
    by_rule = {m.rule: m for m in suspect.measurements}
    assert label_map(by_rule["source_dependent"]) == UP
    assert by_rule["not-the-file"].observations == ()


def objective(logits: npt.NDArray[np.float64], own: npt.NDArray[np.int64]) -> float:
    """Return n times what the module's docstring says, without the price, image by image."""
    hinge, odds = 0.0, []
    for z, y in zip(logits, own, strict=True):
        others = np.delete(z, y)
        hinge += max(0.0, z[y] - others.max() + 1)
        q = np.insert(np.exp(others) / np.exp(others).sum(), y, 0.0)
        odds.append(q)
    entropies = [-sum(p * math.log(p) for p in q if p > 0) for q in odds]
    average = np.mean(odds, axis=0)
    of_mean = -sum(p * math.log(p) for p in average if p > 0)
    return float(hinge - len(own) * of_mean + sum(entropies) / 2)


@given(seed=st.integers(0, 10**6), count=st.integers(1, 6), classes=st.integers(3, 6))
def test_the_slope_is_that_of_the_objective(seed: int, count: int, classes: int) -> None:
    generator = np.random.default_rng(seed)
    logits = generator.normal(0, 2, (count, classes))
    own = generator.integers(0, classes, count)
    direction, step = generator.normal(size=logits.shape), 1e-6
    ahead, behind = (objective(logits + s * direction, own) for s in (step, -step))
    expected = (ahead - behind) / (2 * step)
    found = float((slope(logits, own) * direction).sum())
    assert found == pytest.approx(expected, abs=2e-5 * max(1, abs(expected)))


def test_far_logits_have_a_finite_slope() -> None:
    logits = np.array([[1e4, -1e4, 0.0], [-1e4, 1e4, 1e4]])
    assert np.isfinite(slope(logits, np.array([0, 1]))).all()
