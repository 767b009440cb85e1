"""The documented schema, field for field."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from examples import hostile, result, unopened
from pages import StringPage
from rich.console import Console

from scanner.errors import UsageError
from scanner.report import json as json_report
from scanner.results import ScanResult


def test_golden(golden: Callable[[str, str], None]) -> None:
    golden("scan.json", json_report.render(result()))


def test_the_documented_fields_are_there() -> None:
    data = json.loads(json_report.render(result()))
    assert data["schema"] == 2
    assert {
        "verdict",
        "score",
        "model",
        "references",
        "findings",
        "skips",
        "failures",
        "runtime",
    } <= set(data)
    assert {"path", "sha256", "producer", "opset", "inputs", "outputs", "architecture"} == set(
        data["model"]
    )
    finding = next(f for f in data["findings"] if f["rule"]["id"] == "overactivation")
    assert {"rule", "verdict", "statistic", "p_value", "parameters", "evidence"} <= set(finding)
    assert {"id", "name", "summary", "source"} == set(finding["rule"])
    paper = (
        "suspect_max reference_max ratio_max suspect_mean reference_mean ratio_mean wins losses "
        "ties"
    )
    assert set(paper.split()) <= set(finding["evidence"]["images"])
    assert set(data["runtime"]) >= {"provider", "threads", "versions", "seconds"}


def test_one_line_for_json_lines() -> None:
    text = json_report.render(result(), indent=None)
    assert text.count("\n") == 1
    assert text.isascii()


def test_each_of_several_results_is_written_as_it_arrives(
    console: Callable[[int], Console],
) -> None:
    page = StringPage(console(100))
    written = []

    def arriving() -> Iterator[ScanResult]:
        for name in ("a.onnx", "b.onnx"):
            written.append(page.text.count("\n"))
            yield result(name)

    json_report.JsonReport().render(arriving(), page, count=2)
    assert written == [0, 1]
    assert [json.loads(line)["model"]["path"] for line in page.text.splitlines()] == [
        "a.onnx",
        "b.onnx",
    ]


def test_results_come_back_as_they_were_saved(tmp_path: Path) -> None:
    results = [result("a.onnx"), hostile(), unopened()]
    json_report.write_results(results, tmp_path / "saved.jsonl")
    assert json_report.read_results(tmp_path / "saved.jsonl") == results
    json_report.write_results(results[:1], tmp_path / "one.json")
    assert json_report.read_results(tmp_path / "one.json") == results[:1]
    with pytest.raises(UsageError, match="cannot be written"):
        json_report.write_results(results, tmp_path / "no" / "saved.jsonl")
