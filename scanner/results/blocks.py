"""What a report can draw of a finding, whoever found it: lines, tables, histograms."""

from scanner.values import frozen


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

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    left: int = 0
    emphasised: int | None = None
    caption: str = ""


@frozen
class Series:
    """How many values of a named series fall into each bin of a histogram."""

    name: str
    counts: tuple[int, ...]


@frozen
class Histogram:
    """Named series over common bins.

    Attributes:
        quantity: What is counted, in a few characters.
        edges: The lower edge of each bin.
        series: The suspect's first.
    """

    quantity: str
    edges: tuple[float, ...]
    series: tuple[Series, ...]


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

    blocks: tuple[Block, ...] = ()
    cells: tuple[Cell, ...] = ()
