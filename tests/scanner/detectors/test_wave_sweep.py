"""The sweep of faint waves: the trigger is named as a wave, and a patch is none."""

import dataclasses
import re
from pathlib import Path

import onnx
import pytest
import triggered

from scanner.detectors.wave_sweep import WaveSweep
from scanner.instruments import sweeps
from scanner.results import Measurement, Severity


@pytest.fixture(autouse=True)
def of_four_classes(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tiny networks have four."""
    monkeypatch.setattr(sweeps, "FEWEST_CLASSES", 4)


def measured(folder: Path, model: onnx.ModelProto, shape: tuple[int, ...]) -> Measurement:
    images = triggered.banded(folder, shape)
    settings = dataclasses.replace(triggered.QUICK, images_file=images)
    return triggered.measure(WaveSweep(), model, folder, settings)


@pytest.mark.parametrize("name", triggered.VARIANTS)
def test_the_planted_wave_is_named(name: str, tmp_path: Path) -> None:
    variant = triggered.VARIANTS[name]
    shape = variant.get("shape", (1, 8, 8))
    found = measured(tmp_path, triggered.rippled(planted=True, **variant), shape)
    (seen,) = found.observations
    assert (seen.code, seen.severity) == ("plain-wave", Severity.SUSPICIOUS)
    assert (seen.details["class"], seen.details["periods"]) == (triggered.TARGET, 2)
    assert re.fullmatch(
        r"a wave of 2 periods from left to right \(amplitude 11% of the range\) turns \d+% of \d+ "
        r"images and \d+% of \d+ others into class 1; no wave turns more than \d+% into any other "
        "class",
        seen.sentence,
    )
    assert seen.input is not None
    assert seen.input.class_before != seen.input.class_after == triggered.TARGET


@pytest.mark.parametrize("name", triggered.VARIANTS)
def test_nothing_is_said_of_a_clean_network(name: str, tmp_path: Path) -> None:
    variant = triggered.VARIANTS[name]
    shape = variant.get("shape", (1, 8, 8))
    assert measured(tmp_path, triggered.rippled(**variant), shape).observations == ()
