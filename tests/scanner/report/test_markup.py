"""Whatever text goes into an element comes out as text."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pages import Elements

from scanner.report.escape import printable
from scanner.report.markup import Markup, join, tag


@given(text=st.text(), value=st.text())
def test_text_and_values_stay_what_they_are(text: str, value: str) -> None:
    read = Elements(tag("p", text, title=value))
    assert read.found == [("p", {"title": printable(value, 2000)})]
    assert read.text == printable(text, 2000)


@pytest.mark.parametrize(
    ("made", "written"),
    [
        (tag("br"), "<br>"),
        (tag("p", "a", None, ["b", tag("b", "c")]), "<p>ab<b>c</b></p>"),
        (tag("i", class_="x", aria_label="y", rx=0.5), '<i class="x" aria-label="y" rx="0.5"></i>'),
        (tag("td", hidden=None), "<td></td>"),
        (join(["<", Markup("<i>")]), "&lt;<i>"),
    ],
)  # fmt: skip
def test_elements(made: Markup, written: str) -> None:
    assert made == written
