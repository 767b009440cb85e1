"""JSON Lines: a line for one model too."""

import json
from collections.abc import Callable

import pytest
from examples import result
from pages import StringPage
from rich.console import Console

from scanner.report.jsonl import JsonLinesReport


@pytest.mark.parametrize("count", [1, 3])
def test_a_line_per_model(count: int, console: Callable[[int], Console]) -> None:
    page = StringPage(console(100))
    names = [f"{number}.onnx" for number in range(count)]
    JsonLinesReport().render(map(result, names), page, count=count)
    lines = [json.loads(line) for line in page.text.splitlines()]
    assert [line["model"]["path"] for line in lines] == names
