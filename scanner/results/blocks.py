"""What a report can draw of a finding, whoever found it: lines, tables, histograms."""

from typing import Annotated

from scanner.values import Count, Index, Most, frozen


@frozen
class Table:
    """A table of text.

    Attributes:
        columns: Headings.
        rows: Cells, row by row.
        left: How many of the first columns are aligned to the left; the others hold numbers.
        emphasised: Which row matters most, counted from 0.
        caption: What the table leaves out, in words.
    """

    columns: Annotated[tuple[str, ...], Most(64)]
    rows: Annotated[tuple[tuple[str, ...], ...], Most(4096)]
    left: Index = 0
    emphasised: Index | None = None
    caption: str = ""

    def __post_init__(self) -> None:
        if any(len(row) != len(self.columns) for row in self.rows):
            raise ValueError("a row with more or fewer cells than there are columns")


@frozen
class Series:
    """How many values of a named series fall into each bin of a histogram."""

    name: str
    counts: tuple[Count, ...]


@frozen
class Histogram:
    """Named series over common bins.

    Attributes:
        quantity: What is counted, in a few characters.
        edges: The lower edge of each bin.
        series: The suspect's first.
    """

    quantity: str
    edges: Annotated[tuple[float, ...], Most(1024)]
    series: Annotated[tuple[Series, ...], Most(16)]

    def __post_init__(self) -> None:
        if not self.edges or any(len(series.counts) != len(self.edges) for series in self.series):
            raise ValueError("a series with more or fewer counts than there are bins")


@frozen
class Block:
    """One thing to draw: a line of text, a table or a histogram.

    Attributes:
        line: A line of text.
        strong: The part of the line that matters most.
        table: A table.
        histogram: A histogram.
    """

    line: str = ""
    strong: str = ""
    table: Table | None = None
    histogram: Histogram | None = None


@frozen
class Cell:
    """A cell in the overview of many models: the heading of its column, and its text."""

    heading: str
    text: str


@frozen
class Description:
    """What a report draws of a finding.

    Attributes:
        blocks: Drawn under the finding, in this order; none for a finding that a sentence tells.
        cells: Columns of the overview of many models.
    """

    blocks: Annotated[tuple[Block, ...], Most(256)] = ()
    cells: Annotated[tuple[Cell, ...], Most(64)] = ()
