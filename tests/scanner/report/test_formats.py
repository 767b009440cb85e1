"""One table of the formats: what each can show. A new format has a row here."""

from collections.abc import Callable

import pytest
from examples import result
from pages import LISTING, StringPage
from rich.console import Console

from scanner import report
from scanner.report import ListingReport

# By format: its file's suffix, whether it shows several models, unmeasured ones, and listings.
TABLE = {
    "table": (".txt", True, False, True),
    "json": (".json", True, True, True),
    "jsonl": (".jsonl", True, True, False),
    "sarif": (".sarif", True, True, False),
    "junit": (".xml", True, True, False),
    "markdown": (".md", True, True, False),
    "html": (".html", True, True, False),
    "cyclonedx": (".cdx.json", True, True, False),
}


@pytest.fixture
def page(console: Callable[[int], Console]) -> StringPage:
    return StringPage(console(100))


def test_every_format_has_a_row() -> None:
    assert list(TABLE) == list(report.FORMATS)


@pytest.mark.parametrize("name", TABLE)
def test_a_format_is_what_its_row_says(name: str) -> None:
    made = report.named(name)
    row = (made.suffix, made.several, made.shows_failures, isinstance(made, ListingReport))
    assert (made.name, *row) == (name, *TABLE[name])


@pytest.mark.parametrize("name", TABLE)
@pytest.mark.parametrize("count", [1, 2])
def test_results_are_shown(name: str, count: int, page: StringPage) -> None:
    made = report.named(name)
    if count > 1 and not made.several:
        pytest.skip("shows one model")
    names = ["a.onnx", "b.onnx"][:count]
    made.render(map(result, names), page, count=count)
    assert [name for name in names if name not in page.text] == []


@pytest.mark.parametrize("name", TABLE)
def test_a_listing_is_shown_and_moves_no_cursor(name: str, page: StringPage) -> None:
    made = report.named(name)
    if not isinstance(made, ListingReport):
        pytest.skip("shows no listing")
    made.render_listing(LISTING, page)
    assert "relu" in page.text
    assert "\x1b" not in page.text


def test_there_is_no_other_format() -> None:
    with pytest.raises(KeyError):
        report.named("pdf")
