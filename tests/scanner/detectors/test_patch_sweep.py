"""The sweep of small patches: the trigger is named as a patch, in a model's own images too."""

import dataclasses
from pathlib import Path

import pytest
import triggered

from scanner.detectors.patch_sweep import PatchSweep
from scanner.instruments import made_images, sweeps
from scanner.results import Severity


@pytest.mark.parametrize("planted", [True, False])
@pytest.mark.parametrize("own_images", [True, False])
def test_a_lit_corner_is_named(
    planted: bool, own_images: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweeps, "FEWEST_CLASSES", 4)
    images = None if own_images else triggered.banded(tmp_path)
    settings = dataclasses.replace(triggered.QUICK, images_file=images)
    found = triggered.measure(PatchSweep(), triggered.lit(planted), tmp_path, settings)
    assert (found.parameters["data"] == made_images.SOURCE) == own_images
    assert [(seen.code, seen.severity) for seen in found.observations] == [
        ("plain-patch", Severity.SUSPICIOUS)
    ] * planted
    assert all(seen.details["colour"] == [1.0] for seen in found.observations)
