"""What was found of inputs, in every format that shows them."""

import dataclasses
import io
import json
from pathlib import Path

import jsonschema
import pytest
import scenes
from rich.console import Console

from scanner import report
from scanner.report import ScreeningReport, screenings
from scanner.report.json import screening_data
from scanner.results import Discoveries, Screening
from scanner.values import from_json

SARIF = Path(__file__).parents[2] / "data" / "sarif-schema-2.1.0.json"
DOCS = Path(__file__).parent.parent.parent.parent / "docs"


class Sheet:
    """A page in memory."""

    def __init__(self) -> None:
        self.text = io.StringIO()

    def write(self, text: str) -> None:
        """Add text."""
        self.text.write(text)

    @property
    def console(self) -> Console:
        """A console of fixed width."""
        return Console(
            width=100, file=self.text, color_system=None, legacy_windows=False, _environ={}
        )


def rendered(name: str, *numbers: int) -> str:
    shown, sheet = report.named(name), Sheet()
    assert isinstance(shown, ScreeningReport)
    found = [scenes.screened(number) for number in numbers]
    for one in found:
        shown.render_input(one, sheet)
    shown.render_screening(scenes.screening(*found), sheet)
    return sheet.text.getvalue()


ABLE = [name for name in report.FORMATS if isinstance(report.named(name), ScreeningReport)]


def test_these_formats_show_inputs() -> None:
    assert ABLE == ["table", "json", "jsonl", "sarif", "markdown", "html"]


@pytest.mark.parametrize("name", ["table", "markdown"])
def test_the_verdict_comes_first_and_the_inputs_are_named(name: str) -> None:
    text = rendered(name, 3, 5)
    first = next(line for line in text.splitlines() if line and not line.startswith("#"))
    assert "suspicious: " in first
    assert "2 of 40 inputs" in first
    assert "5.png" in text
    assert "2 x 2 at row 0, column 4" in text
    assert "ranked among 99 clean images" in text


def test_a_table_says_how_many_more_there_are() -> None:
    assert "... and 5 more" in rendered("table", *range(25))


def test_nothing_that_stands_out_is_no_table() -> None:
    text = rendered("table")
    assert text.startswith("clean: none of 40 inputs stands out.")
    assert "set apart by" not in text


def test_json_reads_back() -> None:
    data = json.loads(rendered("json", 3))
    assert list(data)[:3] == ["schema", "verdict", "reason"]
    assert data.pop("schema") == "inputs/1"
    assert from_json(Screening, data) == scenes.screening(scenes.screened(3))


def test_json_is_what_the_schema_says() -> None:
    schema = json.loads((DOCS / "inputs.schema.json").read_text(encoding="utf-8"))
    validator = jsonschema.Draft202012Validator(schema)
    validator.check_schema(schema)
    validator.validate(json.loads(rendered("json", 3)))
    whole = scenes.screening(scenes.screened(shown=True))
    validator.validate(json.loads(json.dumps(screening_data(whole))))
    assert not validator.is_valid(json.loads(rendered("json")) | {"schema": "inputs/2"})


def test_json_lines_hold_each_input_and_at_last_the_whole() -> None:
    lines = [json.loads(line) for line in rendered("jsonl", 3, 5).splitlines()]
    assert [line["name"] for line in lines[:2]] == ["3.png", "5.png"]
    assert (lines[2]["schema"], lines[2]["standing_out"], lines[2]["found"]) == ("inputs/1", 2, [])


def test_a_name_is_made_safe() -> None:
    hostile = dataclasses.replace(scenes.screened(), name="\x1b[31m|`<b>`")
    shown, sheet = report.named("table"), Sheet()
    assert isinstance(shown, ScreeningReport)
    shown.render_screening(scenes.screening(hostile), sheet)
    assert "\x1b" not in sheet.text.getvalue()


def test_sarif_is_what_the_schema_says_and_fails_for_what_lies_far_out() -> None:
    schema = json.loads(SARIF.read_text(encoding="utf-8"))
    near = dataclasses.replace(scenes.screened(5), far_out=False)
    shown, sheet = report.named("sarif"), Sheet()
    assert isinstance(shown, ScreeningReport)
    shown.render_screening(scenes.screening(scenes.screened(3), scenes.screened(4), near), sheet)
    log = json.loads(sheet.text.getvalue())
    jsonschema.Draft4Validator(schema).validate(log)
    found = log["runs"][0]["results"]
    kinds = {entry["properties"].get("input"): entry["kind"] for entry in found}
    assert kinds == {None: "fail", "3.png": "fail", "4.png": "fail", "5.png": "review"}
    assert len({str(entry["partialFingerprints"]) for entry in found}) == 4


def test_discoveries_are_told() -> None:
    whole = dataclasses.replace(
        scenes.screening(scenes.screened()), discoveries=Discoveries(share=0.1, count=0)
    )
    told = list(screenings.facts(whole))
    assert "With a share of 0.1 of false discoveries, 0 stand out." in told
