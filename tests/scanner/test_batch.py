"""Many models through real children, in one process or over an executor."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import models
import pytest

from scanner import Device, Settings, scan_many

SETTINGS = Settings(images=10, device=Device.CPU, detectors=("overactivation",))


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    clean = models.save(models.plain(), tmp_path / "clean.onnx")
    return models.save(models.plain(planted=True), tmp_path / "planted.onnx"), clean


def test_one_failure_does_not_stop_the_others(pair: tuple[Path, Path], tmp_path: Path) -> None:
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"x")
    results = list(scan_many([pair[0], broken, pair[0]], [pair[1]], SETTINGS))
    assert [len(r.failures) for r in results] == [0, 1, 0]
    assert results[0].findings[0].evidence == results[2].findings[0].evidence
    assert "is not an ONNX file" in results[1].failures[0].sentence


def test_an_executor_gives_the_same_results(pair: tuple[Path, Path]) -> None:
    with ThreadPoolExecutor(2) as executor:
        parallel = [
            r.findings for r in scan_many([pair[0], pair[1]], [], SETTINGS, executor=executor)
        ]
    assert parallel == [r.findings for r in scan_many([pair[0], pair[1]], [], SETTINGS)]
