"""The detector in whole scans: beside references, and beside a baseline."""

from pathlib import Path

import models
import planting
import pytest

from scanner import Settings, calibrate, scan
from scanner.detectors.diff import Diff
from scanner.instruments.detector import Subject
from scanner.modelfile.model import open_model
from scanner.results import ScanResult, Severity, Verdict

SETTINGS = Settings(images=20, detectors=("diff", "graph_logic", "head"), threads=1)


def seen(result: ScanResult, rule: str = "diff") -> list[tuple[str, Severity]]:
    (finding,) = (f for f in result.findings if f.rule.id == rule)
    return [(o.code, o.severity) for o in finding.observations]


def test_it_measures_the_canonical_graph(tmp_path: Path) -> None:
    model = open_model(models.save(models.plain(), tmp_path / "m.onnx"))
    found = Diff().measure(Subject(model=model, settings=Settings()))
    assert found.by_node is not None
    assert found.parameters["fingerprint"] == found.by_node.fingerprint


def test_a_gate_beside_a_retrained_reference_is_named(tmp_path: Path) -> None:
    suspect = models.save(planting.gated(), tmp_path / "suspect.onnx")
    clean = models.save(models.plain(seed=1), tmp_path / "clean.onnx")
    result = scan(suspect, [clean], SETTINGS)
    assert result.verdict is Verdict.SUSPICIOUS
    assert seen(result) == [("nodes-without-counterpart", Severity.SUSPICIOUS)]


def test_a_gate_that_the_reference_has_too_is_a_note(tmp_path: Path) -> None:
    suspect = models.save(planting.gated(), tmp_path / "suspect.onnx")
    clean = models.save(planting.gated(1), tmp_path / "clean.onnx")
    result = scan(suspect, [clean], SETTINGS)
    assert seen(result) == [("same-network", Severity.NOTE)]
    assert {s for _, s in seen(result, "graph_logic")} <= {Severity.NOTE}
    assert result.verdict is Verdict.INCONCLUSIVE  # the reference is itself suspicious


def test_without_anything_to_compare_with_it_says_nothing(tmp_path: Path) -> None:
    result = scan(models.save(models.plain(), tmp_path / "m.onnx"), settings=SETTINGS)
    assert "diff" not in {finding.rule.id for finding in result.findings}


def test_a_baseline_judges_no_other_graph(tmp_path: Path) -> None:
    members = [
        models.save(models.plain(seed=seed), tmp_path / f"{seed}.onnx") for seed in range(1, 5)
    ]
    baseline = calibrate(members, SETTINGS, name="tiny", provenance="made here")
    assert len(baseline.graphs) == 1
    assert all(not weights.digests for n in baseline.graphs[0].nodes for weights in n.weights)
    suspect = models.save(planting.gated(), tmp_path / "suspect.onnx")
    settings = Settings(images=20, detectors=("diff", "head"), threads=1)
    result = scan(suspect, settings=settings, baseline=baseline)
    assert result.verdict is not Verdict.CLEAN
    assert seen(result) == [("nodes-without-counterpart", Severity.WARNING)]


@pytest.mark.parametrize("seed", [5])
def test_a_baseline_judges_its_own_graph(tmp_path: Path, seed: int) -> None:
    members = [models.save(models.plain(seed=s), tmp_path / f"{s}.onnx") for s in range(1, 5)]
    baseline = calibrate(members, SETTINGS, name="tiny", provenance="made here")
    suspect = models.save(models.plain(seed=seed), tmp_path / "suspect.onnx")
    assert seen(scan(suspect, settings=SETTINGS, baseline=baseline)) == [
        ("same-network", Severity.NOTE)
    ]
