"""The results and listings as tables, for a person at a terminal."""

from collections.abc import Iterable

from rich.table import Table
from rich.text import Text

from scanner.report import Listing, Page, screenings, terminal
from scanner.report.escape import printable
from scanner.report.totals import is_failed
from scanner.results import ScanResult, ScreenedInput, Screening

_BETWEEN_COLUMNS = 2
_LONGEST_CELL = 400
_MOST_INPUTS = 20  # unless all are asked for


class TableReport:
    """One result in full, or several as a table with a row per model."""

    name = "table"
    suffix = ".txt"
    several = True
    shows_failures = False

    def __init__(self) -> None:
        self.verbose = False
        self.fdr: float | None = None
        self.more = ""

    def render(self, results: Iterable[ScanResult], page: Page, *, count: int) -> None:  # noqa: ARG002 - columns are as wide as all results need
        """Draw the models once all results are there; of a single one, what is known of it."""
        shown = list(results)
        if len(shown) > 1 or not all(map(is_failed, shown)):
            terminal.render(shown, page.console, verbose=self.verbose, fdr=self.fdr, more=self.more)

    def render_input(self, found: ScreenedInput, page: Page) -> None:
        """Draw nothing: the verdict comes first."""

    def render_screening(self, screening: Screening, page: Page) -> None:
        """Draw the verdict, then the inputs that stand out, the furthest first."""
        page.write(f"{screenings.verdict_line(screening)}.\n\n")
        most = len(screening.found) if self.verbose else _MOST_INPUTS
        rows = [screenings.cells(found) for found in screening.found[:most]]
        if rows:
            listing = Listing(
                subject="inputs",
                columns=screenings.COLUMNS,
                rows=rows,
                numeric=screenings.COLUMNS[1:4],
                data=None,
            )
            self.render_listing(listing, page)
            if (left := screening.standing_out - len(rows)) > 0:
                page.write(f"... and {left:,} more{f'; {self.more}' if self.more else ''}\n")
            page.write("\n")
        for sentence in screenings.facts(screening):
            page.write(f"{sentence}\n")

    def render_listing(self, listing: Listing, page: Page) -> None:
        """Draw a listing; cells may come from a model, so they are made safe to print."""
        below = 1 if listing.spaced else 0
        table = Table(box=None, padding=(0, _BETWEEN_COLUMNS, below, 0), header_style="bold")
        for name in listing.columns:
            on_the_right = name in listing.numeric
            table.add_column(name, justify="right" if on_the_right else "left", overflow="fold")
        for row in listing.rows:
            table.add_row(*(Text(printable(cell, _LONGEST_CELL)) for cell in row))
        page.console.print(table)
