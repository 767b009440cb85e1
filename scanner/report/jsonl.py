"""The results as JSON Lines: the object of `scanner.report.json`, one line per model."""

from collections.abc import Iterable

from scanner.report import Page
from scanner.report.json import render, screening_data, write
from scanner.results import ScanResult, ScreenedInput, Screening
from scanner.values import to_json


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

    def render_input(self, found: ScreenedInput, page: Page) -> None:
        """Write a line for each input as it arrives."""
        page.write(write(to_json(found), indent=None))

    def render_screening(self, screening: Screening, page: Page) -> None:
        """Write a last line, which is the object of the format `json` without its inputs."""
        page.write(write(screening_data(screening) | {"found": []}, indent=None))
