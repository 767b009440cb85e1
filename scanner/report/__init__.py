"""The reports: one output format per file, one row per format in `FORMATS`.

A report draws values. It reads results only, and has never heard of ONNX or of a command line.
To add a format: a file here with a class that fulfils `Report`, a row in `FORMATS`, and a row in
the table of tests/scanner/report/test_formats.py.
"""

import importlib
from collections.abc import Iterable, Sequence
from typing import Any, Protocol, cast, runtime_checkable

from scanner.results import ScanResult, ScreenedInput, Screening
from scanner.values import frozen

# Name and class; the module bears the name of the format, and is loaded when the format is asked
# for, since a result as JSON need not wait for the terminal's drawing library.
FORMATS = {
    "table": "TableReport",
    "json": "JsonReport",
    "jsonl": "JsonLinesReport",
    "sarif": "SarifReport",
    "junit": "JunitReport",
    "markdown": "MarkdownReport",
    "html": "HtmlReport",
    "cyclonedx": "CyclonedxReport",
}


class Page(Protocol):
    """What a report is written on: text, or drawings on a console over the same stream."""

    def write(self, text: str) -> None:
        """Add text."""

    @property
    def console(self) -> Any:
        """A `rich.console.Console`, not typed as one so that reports of plain text need no rich."""


class Report(Protocol):
    """One output format.

    Attributes:
        name: What a user calls it, as in `FORMATS`.
        suffix: Of a file that holds such a report, with its dot.
        several: Whether one report can show the results of several models.
        shows_failures: Whether it shows a single model that could not be measured at all; where it
            does not, whoever asked for the report has to say so elsewhere.
    """

    name: str
    suffix: str
    several: bool
    shows_failures: bool

    def render(self, results: Iterable[ScanResult], page: Page, *, count: int) -> None:
        """Write results on a page.

        Args:
            results: They may still be arriving; a report that can show each as it comes does.
            page: Where to write.
            count: How many results there will be.
        """


@runtime_checkable
class Detailed(Protocol):
    """A report that can be told how much to say.

    Attributes:
        verbose: Whether it shows what few people read.
        fdr: The share of false discoveries that it says something about; None says nothing.
        more: How a reader gets a verbose one, in the words of whoever shows it; empty says nothing.
    """

    verbose: bool
    fdr: float | None
    more: str


@runtime_checkable
class FolderReport(Protocol):
    """A report that can also be a folder of files, with one for each model."""

    def files(self, results: Iterable[ScanResult]) -> Iterable[tuple[str, str]]:
        """Yield name and text of each file; the names are safe."""


@frozen
class Listing:
    """Rows about one subject, such as the layers of a model.

    Attributes:
        subject: What the rows are, as in "layers".
        columns: Headings of the columns.
        rows: A cell for each column.
        numeric: Columns to align on the right.
        spaced: Whether rows are long enough to need a blank line between them.
        data: The same as JSON data, with whatever does not fit into columns.
    """

    subject: str
    columns: tuple[str, ...]
    rows: Sequence[Sequence[str]]
    numeric: tuple[str, ...] = ()
    spaced: bool = False
    data: Any


@runtime_checkable
class ListingReport(Protocol):
    """A report that can also show a listing."""

    def render_listing(self, listing: Listing, page: Page) -> None:
        """Write a listing on a page."""


@runtime_checkable
class ScreeningReport(Protocol):
    """A report that can also show what was found of a model's inputs."""

    def render_input(self, found: ScreenedInput, page: Page) -> None:
        """Take one input as it arrives; most reports wait for the end."""

    def render_screening(self, screening: Screening, page: Page) -> None:
        """Write what all inputs show together."""


def named(name: str) -> Report:
    """Return the report of a format.

    Raises:
        KeyError: There is no such format.
    """
    kind = FORMATS[name]
    return cast("Report", getattr(importlib.import_module(f"{__name__}.{name}"), kind)())
