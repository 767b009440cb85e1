"""`scan report`: saved results in other formats, where no library that reads models is there."""

import dataclasses
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from command import said, scan
from examples import result, unopened

from scanner.report import FORMATS
from scanner.report import json as json_report
from scanner.results import Verdict

BLOCKED = """
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"onnx", "onnxruntime", "numpy", "torch"}:
            raise ImportError(f"{name} is not installed here")

sys.meta_path.insert(0, Blocked())
from scanner.__main__ import main
main()
"""


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "result.json"
    path.write_text(json_report.render(result()), encoding="utf-8")
    return path


@pytest.mark.parametrize("name", FORMATS)
def test_without_onnx(name: str, saved: Path) -> None:
    run = subprocess.run(
        [sys.executable, "-c", BLOCKED, "report", str(saved), "--format", name],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (run.returncode, run.stderr) == (1, "")
    assert "model.onnx" in run.stdout


def test_what_was_saved_is_what_is_shown(saved: Path) -> None:
    again = scan("report", saved, "--format", "json")
    assert again.stdout == saved.read_text(encoding="utf-8")


def test_several_results_and_json_lines(saved: Path, tmp_path: Path) -> None:
    lines = tmp_path / "more.jsonl"
    rows = [json_report.render(r, indent=None) for r in (result("b.onnx"), unopened("c.onnx"))]
    lines.write_text("".join(rows), encoding="utf-8")
    run = scan("report", saved, lines, "--format", "jsonl")
    assert run.stdout.count("\n") == 3
    assert run.returncode == 1


def test_two_results_are_compared(saved: Path, tmp_path: Path) -> None:
    later = tmp_path / "later.json"
    changed = dataclasses.replace(result(), verdict=Verdict.CLEAN, failures=())
    later.write_text(json_report.render(changed), encoding="utf-8")
    run = scan("compare", saved, later)
    assert (run.returncode, run.stderr) == (0, "")
    assert re.search(r"^verdict +suspicious +clean", run.stdout, re.MULTILINE)
    assert "other: failed" in run.stdout
    assert "neural_cleanse" not in run.stdout
    same = scan("compare", saved, saved)
    assert (same.returncode, same.stdout) == (1, "nothing changed\n")
    rows = json.loads(scan("compare", saved, later, "--format", "json").stdout)
    assert rows[0] == {"what": "verdict", "before": "suspicious", "after": "clean"}


def test_files_of_several_results_are_not_compared(saved: Path, tmp_path: Path) -> None:
    two = tmp_path / "two.jsonl"
    two.write_text(2 * json_report.render(result(), indent=None), encoding="utf-8")
    run = scan("compare", saved, two)
    assert (run.returncode, run.stdout) == (2, "")
    assert "holds 2 results" in said(run)


BAD = {
    "missing": (None, "No such file"),
    "no JSON": (b"model", "not valid JSON"),
    "binary": (b"\xff\xfe\x00", "not valid JSON"),
    "empty": (b"", "not valid JSON"),
    "another schema": (b'{"schema": 1}', "schema 1"),
    "fields missing": (b'{"schema": 2}', "another version"),
    "a list": (b"[1]", "no schema"),
    "deep": (b"[" * 200_000, "nested too deeply"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_is_no_result(case: str, tmp_path: Path) -> None:
    data, message = BAD[case]
    path = tmp_path / "bad.json"
    if data is not None:
        path.write_bytes(data)
    run = scan("report", path)
    assert (run.returncode, run.stdout) == (2, "")
    assert message in said(run)
    assert "internal error" not in said(run)


def test_the_exit_code_is_that_of_the_results(saved: Path) -> None:
    assert scan("report", saved).returncode == 1
    assert scan("report", saved, "--fail-on", "nothing").returncode == 0
