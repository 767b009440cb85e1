"""The table of a listing, word for word; test_terminal.py holds what is drawn of results."""

import dataclasses
from collections.abc import Callable

import pytest
from examples import result, unopened
from pages import LISTING, StringPage
from rich.console import Console

from scanner.report.table import TableReport


@pytest.mark.parametrize("spaced", [False, True])
def test_a_listing(spaced: bool, console: Callable[[int], Console]) -> None:
    page = StringPage(console(40))
    TableReport().render_listing(dataclasses.replace(LISTING, spaced=spaced), page)
    lines = [line.rstrip() for line in page.text.splitlines()]
    assert [line for line in lines if line] == [
        "position  value",
        "       1  relu",
        "       2  \\x1b[2J",
    ]
    assert ("" in lines) is spaced


def test_a_model_that_could_not_be_measured_is_a_row_among_others(
    console: Callable[[int], Console],
) -> None:
    page = StringPage(console(100))
    TableReport().render([unopened()], page, count=1)
    assert page.text == ""
    TableReport().render([result("a.onnx"), unopened(), result("b.onnx")], page, count=3)
    (row,) = (line for line in page.text.splitlines() if line.startswith("broken.onnx  "))
    assert row.split()[1] == "failed"
    assert "3 models: 2 suspicious, 1 failed." in page.text
