"""The bill of materials is CycloneDX 1.6, by the maintained library's own validator."""

import json
from collections.abc import Callable
from typing import Any

from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from examples import hostile, result, unopened
from pages import StringPage
from rich.console import Console

from scanner.report.cyclonedx import CyclonedxReport
from scanner.results import ScanResult


def bill(console: Callable[[int], Console], *results: ScanResult) -> dict[str, Any]:
    page = StringPage(console(100))
    CyclonedxReport().render(results, page, count=len(results))
    errors = JsonStrictValidator(SchemaVersion.V1_6).validate_str(page.text)
    assert errors is None
    data: dict[str, Any] = json.loads(page.text)
    return data


def test_everything_that_was_scanned_is_a_valid_bill(console: Callable[[int], Console]) -> None:
    data = bill(console, result(), hostile(), unopened())
    names = ["model.onnx", "a\\x1b[2J|<b>@you.onnx", "broken.onnx", "clean.onnx"]
    assert [c["name"] for c in data["components"]] == names
    assert {c["type"] for c in data["components"]} == {"machine-learning-model"}


def test_a_model_says_what_it_is_and_what_was_concluded(
    console: Callable[[int], Console],
) -> None:
    data = bill(console, result())
    model, reference = data["components"]
    assert {"name": "overactivation:role", "value": "reference"} in reference["properties"]
    facts = {fact["name"]: fact["value"] for fact in model["properties"]}
    assert model["hashes"] == [{"alg": "SHA-256", "content": "ab" * 32}]
    assert facts["overactivation:verdict"] == "suspicious"
    assert facts["overactivation:detector:neural_cleanse"] == "suspicious"
    assert model["modelCard"]["modelParameters"]["inputs"] == [{"format": "float[N,1,28,28]"}]
    assert data["annotations"][0]["subjects"] == [model["bom-ref"]]
    assert data["metadata"]["timestamp"] == "2026-11-25T09:30:00Z"


def test_an_empty_bill_is_valid(console: Callable[[int], Console]) -> None:
    assert bill(console)["components"] == []


def test_a_file_that_was_not_read_has_no_hash(console: Callable[[int], Console]) -> None:
    (component,) = bill(console, unopened())["components"]
    assert component["bom-ref"] == "broken.onnx"
