"""A reference is measured beside its suspect only where that changes nothing."""

import dataclasses
import threading
from pathlib import Path

import models
import pytest
import triggered
from onnx import helper

from scanner import Device, Settings, scan
from scanner.clean_side import LARGEST_FILE, MOST_CLASSES, CleanSide
from scanner.instruments import class_search, runtime
from scanner.questions import source_of
from scanner.results import ScanResult

SETTINGS = Settings(images=10, device=Device.CPU, detectors=("neural_cleanse",), classes=(0, 1))
SECONDS = 60.0


@pytest.fixture(autouse=True)
def two_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scanner.clean_side._cores", lambda: 2)


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    return written(tmp_path / "suspect.onnx", planted=True), written(tmp_path / "clean.onnx")


def written(path: Path, *, classes: int = 4, planted: bool = False) -> Path:
    """Write a network that tells the shape of its scores."""
    model = triggered.classifier(classes=classes, seed=int(planted))
    del model.graph.output[:]
    model.graph.output.append(helper.make_tensor_value_info("logits", 1, ["N", classes]))
    return models.save(model, path)


def side(reference: Path, settings: Settings = SETTINGS) -> CleanSide:
    return CleanSide((source_of(reference),), settings, 1)


def without_times(result: ScanResult) -> ScanResult:
    return dataclasses.replace(result, run=None, runtime=None)


def test_limits_are_those_of_the_searches() -> None:
    assert MOST_CLASSES == class_search.FULL_FIELD
    assert LARGEST_FILE == runtime.LARGE


def test_a_result_is_the_same_ahead_and_afterwards(
    pair: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    ahead = scan(pair[0], [pair[1]], SETTINGS)
    monkeypatch.setattr("scanner.clean_side._cores", lambda: 1)
    assert without_times(scan(pair[0], [pair[1]], SETTINGS)) == without_times(ahead)
    assert ahead.findings


def test_the_first_reference_is_measured_ahead_once(pair: tuple[Path, Path]) -> None:
    with side(pair[1]) as clean:
        clean.identify()
        assert clean.measure_ahead(SECONDS)
        begun = clean._ahead
        assert clean.measure_ahead(SECONDS)
        assert clean._ahead is begun
        clean._wait()
        (record,) = clean._records
        assert record.measurement("neural_cleanse")
        assert not clean.measure_ahead(SECONDS)


def test_a_child_that_ends_ahead_is_replaced(pair: tuple[Path, Path]) -> None:
    with side(pair[1]) as clean:
        clean.identify()
        assert clean.measure_ahead(SECONDS)
        assert clean._child is not None
        clean._child.kill()
        clean._wait()
        assert clean.lacks_child


def test_who_has_no_use_for_the_references_ends_their_child(pair: tuple[Path, Path]) -> None:
    before = threading.active_count()
    with side(pair[1]) as clean:
        clean.identify()
        assert clean.measure_ahead(SECONDS)
    assert threading.active_count() == before


def test_a_suspect_that_cannot_be_opened_waits_for_nothing(pair: tuple[Path, Path]) -> None:
    before = threading.active_count()
    pair[0].write_bytes(b"no model")
    assert scan(pair[0], [pair[1]], SETTINGS).failures
    assert threading.active_count() == before


@pytest.mark.parametrize(
    "settings",
    [
        dataclasses.replace(SETTINGS, threads=1),
        dataclasses.replace(SETTINGS, device=Device.CUDA),
    ],
)
def test_who_names_threads_or_a_device_gets_one_child_at_a_time(
    pair: tuple[Path, Path], settings: Settings
) -> None:
    with side(pair[1]) as clean:
        clean.identify()
        clean._settings = settings
        assert not clean.measure_ahead(SECONDS)


def test_of_many_classes_the_suspect_chooses(tmp_path: Path) -> None:
    with side(written(tmp_path / "many.onnx", classes=MOST_CLASSES + 1)) as clean:
        clean.identify()
        assert not clean.measure_ahead(SECONDS)


def test_a_large_file_has_the_machine_to_itself(
    pair: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("scanner.clean_side.LARGEST_FILE", 1)
    with side(pair[1]) as clean:
        clean.identify()
        assert not clean.measure_ahead(SECONDS)
