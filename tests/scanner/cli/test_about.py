"""`scan layers`, `scan detectors` and `scan doctor`."""

import json
import re
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest
from command import said, scan

from scanner import report
from scanner.cli import about
from scanner.detectors import FAMILY
from scanner.errors import UsageError
from scanner.report import Page
from scanner.results import ScanResult


class Verses:
    """A report that shows results only."""

    name = "verses"
    suffix = ".txt"
    several = False
    shows_failures = True

    def render(self, results: Iterable[ScanResult], page: Page, *, count: int) -> None:
        """Write nothing."""


def test_layers(folder: Path) -> None:
    table = scan("layers", folder / "clean.onnx")
    assert table.returncode == 0, table.stderr
    assert re.search(r"1 +Relu .* activated", table.stdout)
    data = json.loads(scan("layers", folder / "clean.onnx", "--format", "json").stdout)
    assert data["layers"][0]["operator"] == "Relu"


def test_detectors() -> None:
    assert "overactivation" in scan("detectors").stdout
    rules = [d["rule"]["id"] for d in json.loads(scan("detectors", "--format", "json").stdout)]
    assert rules == list(FAMILY)


def test_doctor_as_json() -> None:
    run = scan("doctor", "--format", "json")
    told = json.loads(run.stdout)
    assert told["python"] == sys.version.split()[0]
    assert told["versions"]["onnxruntime"]
    assert told["isolation"]["seccomp"] in {True, False}
    assert scan("doctor", "--format", "junit").returncode == 2


def test_doctor() -> None:
    doctor = scan("doctor", "--no-color")
    assert doctor.returncode == 0, doctor.stderr
    assert "telemetry" in doctor.stdout
    told = " ".join(doctor.stdout.split())
    assert "CUDA devices none usable: CUDA is not in this ONNX Runtime (onnxruntime 1" in told


def test_a_format_that_cannot_show_a_listing_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    make = report.named
    monkeypatch.setattr(report, "FORMATS", {**report.FORMATS, "verses": "Verses"})
    monkeypatch.setattr(report, "named", lambda name: Verses() if name == "verses" else make(name))
    with pytest.raises(UsageError, match="'verses' cannot show layers; choose --format table or"):
        about.listing_report("verses", "layers")


def test_an_unknown_format_is_wrong_usage(folder: Path) -> None:
    for command in (["layers", folder / "clean.onnx"], ["detectors"], [folder / "clean.onnx"]):
        run = scan(*command, "--format", "pdf")
        assert run.returncode == 2
        assert "'pdf' is not one of 'table', 'json'" in said(run)


def test_a_check_says_what_would_be_skipped_and_why_once(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    run = scan("check", "clean.onnx", "two.onnx", COLUMNS="200")
    assert run.returncode == 0, run.stderr
    rows = re.findall(r"^(\S+\.onnx) +(yes|no|in part) ", run.stdout, re.MULTILINE)
    assert rows == [("clean.onnx", "yes"), ("two.onnx", "in part")]
    assert run.stdout.count("2 required inputs") == 1


def test_a_check_refuses_a_shape_that_a_scan_refuses(folder: Path) -> None:
    run = scan("check", str(folder / "clean.onnx"), "--input-shape", "3,3", COLUMNS="300")
    assert run.returncode == 2
    assert "--input-shape of 3,3 does not fit the input" in run.stdout


def test_a_check_of_what_is_no_model_ends_with_an_error(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    run = scan("check", "short.onnx", "clean.onnx", "--format", "json")
    first, second = json.loads(run.stdout)
    assert run.returncode == 2
    assert first["error"]["type"] == "MalformedModelError"
    assert {row["obstacle"] for row in second["detectors"]} == {None}
