"""One scan through the real child."""

from pathlib import Path

import models
import pytest

import scanner
from scanner import Device, Settings, UsageError, Verdict, scan
from scanner.detectors import FAMILY
from scanner.pipeline import diagnose, layers, rules

SETTINGS = Settings(images=10, device=Device.CPU, detectors=("overactivation",))


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    clean = models.save(models.plain(), tmp_path / "clean.onnx")
    return models.save(models.plain(planted=True), tmp_path / "planted.onnx"), clean


def test_one_reference_is_not_enough_for_a_verdict(pair: tuple[Path, Path]) -> None:
    result = scan(pair[0], [pair[1]], SETTINGS)
    assert result.verdict is Verdict.INCONCLUSIVE
    assert "uncalibrated: one clean model shows a difference" in result.reason
    assert result.score is None
    finding = result.findings[0]
    assert finding.evidence.images is not None
    assert finding.evidence.images.wins == 10
    assert finding.p_value is None
    assert result.references[0].path == str(pair[1])
    assert result.runtime is not None
    assert result.runtime.versions["onnxruntime"]


def test_without_a_reference_the_suspect_is_still_measured(pair: tuple[Path, Path]) -> None:
    result = scan(pair[0], settings=SETTINGS)
    assert result.findings[0].evidence.standing
    assert "the setting `references`" in result.reason


def test_a_reference_that_cannot_be_opened_is_an_error(
    pair: tuple[Path, Path], tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match="there is no file"):
        scan(pair[0], [tmp_path / "none.onnx"], SETTINGS)


def test_a_reference_of_another_input_is_a_failure(pair: tuple[Path, Path], tmp_path: Path) -> None:
    other = models.save(models.plain(input_shape=("N", 1, 9, 9)), tmp_path / "other.onnx")
    result = scan(pair[0], [other], SETTINGS)
    assert "compare with a clean model of the same input" in result.failures[0].sentence


def test_the_model_itself_is_no_reference(pair: tuple[Path, Path]) -> None:
    assert "same SHA-256" in scan(pair[1], [pair[1]], SETTINGS).failures[0].sentence


def test_an_unknown_detector_is_refused_with_the_nearest(pair: tuple[Path, Path]) -> None:
    with pytest.raises(UsageError, match="did you mean 'overactivation'"):
        scan(pair[0], settings=Settings(detectors=("overactivations",)))


def test_layers(pair: tuple[Path, Path]) -> None:
    found = layers(pair[0])
    assert found.model.path == str(pair[0])
    assert [(row.value, row.operator, row.node, row.shape) for row in found.layers] == [
        ("activated", "Relu", "relu", ("N", 4, 8, 8))
    ]


def test_the_detectors_are_described_in_the_order_of_the_report() -> None:
    described = rules()
    assert [row.rule.id for row in described] == list(FAMILY)
    assert {"graph"} <= {need for row in described for need in row.needs}


def test_a_diagnosis_is_typed() -> None:
    found = diagnose()
    assert found.versions["onnxruntime"]
    assert found.telemetry is False
    assert found.isolation.granted()


def test_the_public_face_is_what_it_says() -> None:
    assert all(getattr(scanner, name) is not None for name in scanner.__all__)
    assert set(scanner.__all__) <= set(dir(scanner))
    with pytest.raises(AttributeError):
        _ = scanner.nothing  # type: ignore[attr-defined]
