"""Markdown for a comment, in which a model's names are text and nothing else."""

from collections.abc import Callable

import pytest
from examples import hostile, result, unopened
from hypothesis import given
from hypothesis import strategies as st
from pages import StringPage
from rich.console import Console

from scanner.report.markdown import MarkdownReport, plain


def test_golden(console: Callable[[int], Console], golden: Callable[[str, str], None]) -> None:
    page = StringPage(console(100))
    MarkdownReport().render([result(), hostile(), unopened()], page, count=3)
    golden("scan.md", page.text)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("<img src=x>", "\\<img src=x\\>"),
        ("[a](http://b)", "\\[a\\](http\\://b)"),
        ("@you", "@<!-- -->you"),
        ("a|b\nc", "a\\|b\\\\x0ac"),
    ],
)
def test_markup_is_text(text: str, shown: str) -> None:
    assert plain(text) == shown


@given(st.text())
def test_no_text_leaves_its_cell(text: str) -> None:
    shown = plain(text)
    assert "\n" not in shown
    assert "://" not in shown.replace("\\://", "")
    bare = shown.replace("\\\\", "").replace("<!-- -->", "")
    for character in "|<>`[]*_":
        assert character not in bare.replace(f"\\{character}", "")
