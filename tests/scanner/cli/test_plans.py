"""`scan --explain-plan` prints a table or JSON, searches nothing, and ends with 0."""

import json
from dataclasses import replace
from pathlib import Path

import models
import triggered
from command import said, scan

from scanner.cli import plans
from scanner.results import ModelIdentity, PlannedStage, ScanPlan


def saved(folder: Path, name: str = "m.onnx", *, planted: bool = False) -> Path:
    return models.save(triggered.classifier(planted), folder / name)


def test_a_table_and_what_it_means(tmp_path: Path) -> None:
    run = scan(saved(tmp_path, planted=True), "-r", saved(tmp_path, "r.onnx"), "--explain-plan")
    assert run.returncode == 0, run.stderr
    told = said(run)
    assert "search all" in told
    assert "4 classes, 1 thread" in told
    assert "the reference takes about as long again" in told
    assert "suspicious" not in told


def test_json_to_a_file_and_of_several_models(tmp_path: Path) -> None:
    one, other, file = saved(tmp_path), saved(tmp_path, "n.onnx"), tmp_path / "plan.json"
    assert scan(one, "--explain-plan", "--format", f"json={file}").returncode == 0
    first = [stage["rules"][0] for stage in json.loads(file.read_text())["stages"]]
    assert first[-3:] == ["mm_bd", "classifier", "not-the-file"], "what looks at searches is last"
    run = scan(one, other, "--explain-plan", "--format", "json")
    assert [Path(p["model"]["path"]).name for p in json.loads(run.stdout)] == ["m.onnx", "n.onnx"]


def test_what_cannot_be_planned(tmp_path: Path) -> None:
    run = scan(tmp_path / "nosuch.onnx", "--explain-plan")
    assert run.returncode == 2
    run = scan(saved(tmp_path), "--explain-plan", "--format", "sarif")
    assert run.returncode == 2
    assert "the format 'sarif' cannot show plans" in said(run)


def test_times_are_told_in_seconds_and_minutes() -> None:
    identity = ModelIdentity(
        path="m.onnx", sha256=None, producer="", opset=17, inputs=(), outputs=()
    )
    stage = PlannedStage(rules=("head",), does="look", seconds=90.0)
    plan = ScanPlan(
        model=identity, classes=None, threads=2, deadline=600.0, stages=(stage,),
        skips=("head: raise the setting `memory` if you trust the file.",),
    )  # fmt: skip
    hostile = replace(plan, model=replace(identity, path="a\x1b[2J.onnx"), skips=("\x1b[2J",))
    assert "\x1b" not in "".join(plans.facts(hostile, 0))
    assert list(plans.facts(plan, 2)) == [
        "m.onnx: 2 threads; 90.0 seconds for what is timed above, at the most",
        "each of 2 references takes about as long again, together 4 minutes",
        "the scan ends after 10 minutes in any case (--timeout)",
        "skipped: head: raise --memory-limit if you trust the file.",
    ]
