"""Results are what docs/result.schema.json says, and docs/json.md names every field of it."""

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import models
import pytest
from examples import result

from scanner import Settings, scan
from scanner.report import json as json_report

DOCS = Path(__file__).parent.parent / "docs"
SCHEMA = json.loads((DOCS / "result.schema.json").read_text(encoding="utf-8"))
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)


def test_the_schema_is_one() -> None:
    VALIDATOR.check_schema(SCHEMA)


def test_a_result_with_everything() -> None:
    VALIDATOR.validate(json.loads(json_report.render(result())))


@pytest.mark.parametrize("references", [0, 1, 2])
def test_scans(tmp_path: Path, references: int) -> None:
    suspect = models.save(models.plain(planted=True), tmp_path / "suspect.onnx")
    clean = [
        models.save(models.plain(seed=seed), tmp_path / f"{seed}.onnx")
        for seed in range(references)
    ]
    answer = scan(suspect, clean, Settings(images=4, detectors=("overactivation",)))
    assert answer.findings
    VALIDATOR.validate(json.loads(json_report.render(answer)))


def test_a_model_that_cannot_be_opened(tmp_path: Path) -> None:
    (tmp_path / "empty.onnx").write_bytes(b"")
    answer = scan(tmp_path / "empty.onnx")
    assert answer.failures
    VALIDATOR.validate(json.loads(json_report.render(answer)))


@pytest.mark.parametrize(
    "change",
    [
        {"schema": 1},
        {"verdict": "maybe"},
        {"score": 1.5},
        {"extra": 1},
        {"model": None},
        {"findings": [{}]},
    ],
)
def test_what_is_no_result_is_refused(change: dict[str, Any]) -> None:
    data = json.loads(json_report.render(dataclasses.replace(result(), runtime=None)))
    VALIDATOR.validate(data)
    assert not VALIDATOR.is_valid(data | change)


def fields(schema: Any) -> Iterator[str]:
    if isinstance(schema, dict):
        yield from schema.get("properties", {})
        for part in schema.values():
            yield from fields(part)


def test_every_field_is_documented() -> None:
    text = (DOCS / "json.md").read_text(encoding="utf-8")
    named = set(fields(SCHEMA))
    assert named
    assert {field for field in named if f"`{field}`" not in text} == set()
