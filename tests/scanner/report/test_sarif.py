"""The log is SARIF 2.1.0 by the published schema, and says what was found where."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from examples import hostile, result, unopened
from hypothesis import given
from hypothesis import strategies as st
from pages import StringPage
from rich.console import Console

from scanner.report.sarif import SarifReport, uri
from scanner.results import ScanResult, Skip, Suppression

SCHEMA = Path(__file__).parents[2] / "data" / "sarif-schema-2.1.0.json"
VALIDATOR = jsonschema.Draft4Validator(
    json.loads(SCHEMA.read_text(encoding="utf-8")),
    format_checker=jsonschema.Draft4Validator.FORMAT_CHECKER,
)


@pytest.fixture
def log(console: Callable[[int], Console]) -> Callable[..., dict[str, Any]]:
    def make(*results: ScanResult) -> dict[str, Any]:
        page = StringPage(console(100))
        SarifReport().render(results, page, count=len(results))
        assert page.text.isascii()
        data: dict[str, Any] = json.loads(page.text)
        VALIDATOR.validate(data)
        return data

    return make


def test_a_log_of_everything_is_valid(log: Callable[..., dict[str, Any]]) -> None:
    (run,) = log(result(), hostile(), unopened())["runs"]
    assert [a["location"]["uri"] for a in run["artifacts"]][::2] == [
        "model.onnx",
        "a%1B%5B2J%7C%3Cb%3E%40you.onnx",
    ]
    for entry in run["results"]:
        assert run["tool"]["driver"]["rules"][entry["ruleIndex"]]["id"] == entry["ruleId"]
        place = entry["locations"][0]["physicalLocation"]["artifactLocation"]
        assert run["artifacts"][place["index"]]["location"]["uri"] == place["uri"]
        assert entry["level"] == "none" or entry["kind"] == "fail"


def test_an_empty_log_is_valid(log: Callable[..., dict[str, Any]]) -> None:
    assert log()["runs"][0]["results"] == []


def test_what_was_found_carries_its_evidence(log: Callable[..., dict[str, Any]]) -> None:
    entries = {e["ruleId"]: e for e in log(result())["runs"][0]["results"]}
    found = entries["neural_cleanse"]
    assert (found["kind"], found["level"]) == ("fail", "error")
    assert found["properties"]["targetClass"] == 7
    assert found["properties"]["pValue"] == pytest.approx(1 / 21)
    assert found["properties"]["standing"]["suspect"] == pytest.approx(6.2)
    assert entries["overactivation"]["kind"] == "open"
    assert entries["strip"]["kind"] == "notApplicable"
    assert entries["verdict"]["properties"]["alpha"] == 0.05


def test_a_rule_is_described_though_the_first_model_skipped_it(
    log: Callable[..., dict[str, Any]],
) -> None:
    ran = result()
    rule = ran.findings[0].rule
    skipped = dataclasses.replace(ran, findings=(), skips=(Skip(rule=rule.id, reason="none"),))
    rules = {r["id"]: r for r in log(skipped, ran)["runs"][0]["tool"]["driver"]["rules"]}
    assert rules[rule.id]["name"] == rule.name
    assert rules[rule.id]["shortDescription"]["text"] == rule.summary
    assert rules[rule.id]["help"]["text"] == rule.source


def test_an_observation_is_a_rule_with_its_nodes(log: Callable[..., dict[str, Any]]) -> None:
    entries = {e["ruleId"]: e for e in log(hostile())["runs"][0]["results"]}
    seen = entries["graph_logic/input-test"]
    assert seen["level"] == "error"
    nodes = [p["fullyQualifiedName"] for p in seen["locations"][0]["logicalLocations"]]
    assert nodes[0].startswith("]]>\\u202e")
    assert nodes[1] == "gate"
    assert "suppressions" not in seen
    (allowed,) = entries["graph_logic/spare-bytes"]["suppressions"]
    assert allowed["justification"] == "our own exporter"


def test_what_failed_is_a_notification(log: Callable[..., dict[str, Any]]) -> None:
    invocations = log(result(), unopened())["runs"][0]["invocations"]
    assert [i["executionSuccessful"] for i in invocations] == [False, False]
    assert invocations[0]["startTimeUtc"] == "2026-11-25T09:30:00Z"
    assert invocations[0]["arguments"] == ["scan", "model.onnx", "-r", "clean.onnx"]
    (told,) = invocations[1]["toolExecutionNotifications"]
    assert told["descriptor"] == {"id": "MalformedModelError"}
    assert told["message"]["text"] == "the file is cut short; download it again."


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("models/a b.onnx", "models/a%20b.onnx"),
        ("/srv/ä.onnx", "file:///srv/%C3%A4.onnx"),
        ("c:odd.onnx", "./c%3Aodd.onnx"),
    ],
)
def test_uris(path: str, expected: str) -> None:
    assert uri(path) == expected


@given(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1))
def test_any_file_name_is_a_uri_of_ascii(path: str) -> None:
    assert uri(path).isascii()
    assert not set(uri(path)) & set(' <>"{}|\\^`')


def test_a_suppression_covers_its_rule_only() -> None:
    def of(rule: str) -> Suppression:
        return Suppression(rule=rule, reason="known", expires="2030-01-01")

    rules = ("graph_logic", "graph_logic/input-test", "graph_logic_2", "verdict")
    assert [of("graph_logic").covers(r) for r in rules] == [True, True, False, False]
    assert [of("graph_logic/input-test").covers(r) for r in rules] == [False, True, False, False]
    assert [of("model").covers(r) for r in rules] == [True, True, True, True]
