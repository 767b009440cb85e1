"""The documented schema, field for field."""

import json
from collections.abc import Callable

from examples import result

from scanner.report import json as json_report


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
    assert {"id", "name", "summary", "reference"} == set(finding["rule"])
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
