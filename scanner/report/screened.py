"""A model's inputs on an HTML page: the answer, those that stand out, and what told them."""

from collections.abc import Iterator

from scanner.report import screenings
from scanner.report.markup import Markup, tag
from scanner.report.overview import wide
from scanner.results import FilterNote, Screening

_MOST = 1000  # rows
_NUMBERS = range(1, 4)  # columns that are aligned on the right: class, p-value and size


def title(screening: Screening) -> str:
    """Return what a browser calls the page."""
    return f"{screening.verdict.value}: inputs of {screening.model.path}"


def article(screening: Screening) -> Markup:
    """Return the content of the page."""
    verdict = screening.verdict.value
    answer = (
        tag("p", tag("span", verdict, class_=f"verdict {verdict}")),
        tag("p", tag("strong", f"{screening.reason}.")),
        (tag("p", sentence) for sentence in screenings.facts(screening)),
    )
    return tag(
        "article",
        tag("h1", "Inputs of ", tag("span", screening.model.path, class_="name")),
        tag("section", answer, class_=f"answer {verdict}", aria_label="The answer"),
        _standing_out(screening),
        tag("h2", "The filters"),
        tag("ul", map(_filter, screening.filters)),
        class_="model alone",
    )


def _standing_out(screening: Screening) -> Iterator[Markup]:
    """Yield the inputs that stand out, in a table that sorts."""
    shown = screening.found[:_MOST]
    if not shown:
        return
    words = "Inputs that stand out"
    yield tag("h2", words)
    heads = [tag("th", name, scope="col", data_sorts="") for name in screenings.COLUMNS]
    rows = [tag("tr", map(_cell, range(len(heads)), screenings.cells(found))) for found in shown]
    yield wide(tag("table", tag("thead", tag("tr", heads)), tag("tbody", rows)), words)
    if (left := screening.standing_out - len(shown)) > 0:
        yield tag("p", f"... and {left:,} more", class_="dim")


def _cell(column: int, words: str) -> Markup:
    return tag("td", words, class_="number" if column in _NUMBERS else None, data_key=words)


def _filter(note: FilterNote) -> Markup:
    shown = "" if note.decides else " (shown, and does not decide)"
    return tag("li", f"{note.rule.name}{shown}: {note.rule.summary} {note.rule.source}")
