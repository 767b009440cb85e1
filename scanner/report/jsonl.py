"""The results as JSON Lines: the object of `scanner.report.json`, one line per model."""

from collections.abc import Iterable

from scanner.report import Page
from scanner.report.json import render
from scanner.results import ScanResult


class JsonLinesReport:
    """A line per model, written as soon as it is there."""

    name = "jsonl"
    suffix = ".jsonl"
    several = True
    shows_failures = True

    def render(self, results: Iterable[ScanResult], page: Page, *, count: int) -> None:  # noqa: ARG002 - one model is one line
        """Write each result as it arrives."""
        for result in results:
            page.write(render(result, indent=None))
