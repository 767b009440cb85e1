"""A table of what each class takes: the figures of a search in which small ones are suspicious."""

import math
from collections.abc import Callable

from scanner.results import Block, ClassDifference, Comparison, Description, Measurement, Table

LISTED = 10  # classes


def described(
    measurement: Measurement, comparison: Comparison, column: str, written: Callable[[float], str]
) -> Description:
    """Return what was searched on, and the classes that stand out most.

    Args:
        measurement: The suspect's.
        comparison: It beside references.
        column: What the figures are.
        written: Writes one.
    """
    how = measurement.parameters
    searched = f"{how['images']} images: {how['data']}; budget {how['budget']}, seed {how['seed']}"
    return Description(
        blocks=(Block(line=searched), Block(table=_table(comparison, column, written)))
    )


def _table(comparison: Comparison, column: str, written: Callable[[float], str]) -> Table:
    """The classes with the largest ratios, or with the smallest figures without a reference."""
    evidence = comparison.evidence
    compared = bool(evidence.classes_compared)
    if compared:
        ranked = sorted(evidence.classes, key=lambda row: -(row.difference or 0.0))
    else:
        ranked = sorted(evidence.classes, key=lambda row: row.suspect or math.inf)
    shown, more = ranked[:LISTED], len(ranked) - LISTED
    return Table(
        columns=("class", column, *(("references", "times smaller") if compared else ())),
        rows=tuple(_cells(row, written) for row in shown),
        emphasised=next(
            (i for i, row in enumerate(shown) if row.class_id == evidence.target_class), None
        ),
        caption=f"{more} more classes in the JSON result" if more > 0 else "",
    )


def _cells(row: ClassDifference, written: Callable[[float], str]) -> tuple[str, ...]:
    cells = (str(row.class_id), "not found" if row.suspect is None else written(row.suspect))
    if row.difference is None:
        return cells
    low, high = (written(figure) for figure in (min(row.references), max(row.references)))
    others = low if low == high else f"{low} to {high}"
    return (*cells, others, f"{math.exp(row.difference):.2f}")
