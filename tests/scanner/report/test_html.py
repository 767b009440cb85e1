"""A page that obeys nothing from a model, whose structure stays what it is."""

import base64
import dataclasses
import hashlib
import io
import json
import re
from collections.abc import Callable

import pytest
from examples import hostile, result, unopened
from hypothesis import given
from hypothesis import strategies as st
from pages import Elements, StringPage
from rich.console import Console

from scanner.report import json as as_json
from scanner.report.html import HtmlReport
from scanner.results import ScanResult, Verdict

RESULTS = [result(), hostile(), unopened()]


def written(*results: ScanResult) -> str:
    page = StringPage(Console(file=io.StringIO()))
    HtmlReport().render(results, page, count=len(results))
    return page.text


def test_golden(golden: Callable[[str, str], None]) -> None:
    """Of the structure: what style and script say is looked at, not compared."""
    text = re.sub(
        r"(?s)<style>.*?</style>|<script>.*?</script>|sha256-[^']*", "", written(*RESULTS)
    )
    golden("scan.html", text.replace("><", ">\n<"))


def test_the_page_allows_its_own_style_and_script_and_nothing_else() -> None:
    text = written(result())
    (policy,) = re.findall(r'Content-Security-Policy" content="([^"]*)"', text)
    rules = dict(rule.strip().split(" ", 1) for rule in policy.replace("&#x27;", "'").split(";"))
    assert rules["default-src"] == "'none'"
    for kind, element in (("style-src", "style"), ("script-src", "script")):
        (content,) = re.findall(rf"(?s)<{element}>(.*?)</{element}>", text)
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert rules[kind] == f"'sha256-{digest}'"
    assert rules.keys() == {
        *("default-src", "img-src", "style-src", "script-src", "base-uri", "form-action")
    }
    attributes = [pair for _, found in Elements(text).found for pair in found.items()]
    sources = [value for name, value in attributes if name == "src"]
    assert sources
    assert all(value.startswith("data:image/png;base64,") for value in sources)
    assert not [name for name, _ in attributes if name.startswith("on") or name == "style"]


@given(st.text(min_size=1))
def test_no_text_of_a_model_makes_an_element(text: str) -> None:
    plain = dataclasses.replace(hostile(), reason="x", warnings=("x",))
    twisted = dataclasses.replace(
        plain, model=dataclasses.replace(plain.model, path=text), reason=text, warnings=(text,)
    )
    assert Elements(written(twisted)).names == Elements(written(plain)).names


def test_the_numbers_are_in_the_page() -> None:
    (data,) = re.findall(
        r'(?s)<script type="application/jsonl"[^>]*>(.*?)</script>', written(*RESULTS)
    )
    read = [json.loads(line) for line in data.splitlines()]
    assert read == [json.loads(as_json.render(one)) for one in RESULTS]


def test_of_many_models_the_foremost_are_drawn() -> None:
    guilty = result("guilty.onnx")
    clean = dataclasses.replace(guilty, verdict=Verdict.CLEAN, score=0.5)
    innocent = [
        dataclasses.replace(clean, model=dataclasses.replace(clean.model, path=f"{number}.onnx"))
        for number in range(60)
    ]
    text = written(*innocent, guilty)
    rows = re.findall(r'<td data-key="([^"]*onnx)">', text)
    assert rows[0] == "guilty.onnx"
    assert len(rows) == 61
    drawn = sum("<img" in article for article in text.split("<article")[1:])
    assert drawn == 40
    assert text.count("only the foremost are drawn") == 21


@pytest.mark.parametrize("word", ["all", "suspicious", "inconclusive", "failed"])
def test_models_can_be_filtered_without_a_script(word: str) -> None:
    text = written(*RESULTS, dataclasses.replace(result("b"), verdict=Verdict.INCONCLUSIVE))
    assert f'id="only-{word}"' in text
    if word != "all":
        assert f"#only-{word}:checked" in text
