"""The table of a listing, word for word; test_terminal.py holds what is drawn of results."""

import dataclasses
from collections.abc import Callable

import pytest
from examples import result
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


def test_models_that_nothing_is_known_of_are_left_out(console: Callable[[int], Console]) -> None:
    page = StringPage(console(100))
    unknown = dataclasses.replace(result("unknown.onnx"), runtime=None, findings=())
    TableReport().render([unknown], page, count=1)
    assert page.text == ""
    TableReport().render([result("a.onnx"), unknown, result("b.onnx")], page, count=3)
    assert "a.onnx" in page.text
    assert "unknown.onnx" not in page.text
