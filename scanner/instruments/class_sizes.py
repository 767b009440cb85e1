"""A table of what a search found of each class, those that stand out most first."""

import math
from collections.abc import Callable

from scanner.results import Block, ClassDifference, Comparison, Description, Measurement, Table

LISTED = 10  # classes


def described(
    measurement: Measurement,
    comparison: Comparison,
    column: str,
    written: Callable[[float], str],
    *,
    smaller: bool = True,
) -> Description:
    """Return what was searched on, and the classes that stand out most.

    Args:
        measurement: The suspect's.
        comparison: It beside references.
        column: What the figures are.
        written: Writes one.
        smaller: Whether small ones are suspicious.
    """
    how = measurement.parameters
    searched = f"{how['images']} images: {how['data']}; budget {how['budget']}, seed {how['seed']}"
    table = _table(comparison, column, written, smaller=smaller)
    return Description(blocks=(Block(line=searched), Block(table=table)))


def _table(
    comparison: Comparison, column: str, written: Callable[[float], str], *, smaller: bool
) -> Table:
    """The classes with the largest ratios; the most suspicious figures without a reference."""
    evidence = comparison.evidence
    compared = bool(evidence.classes_compared)
    if compared:
        ranked = sorted(evidence.classes, key=lambda row: -(row.difference or 0.0))
    else:
        sign = 1 if smaller else -1
        ranked = sorted(
            evidence.classes,
            key=lambda row: math.inf if row.suspect is None else sign * row.suspect,
        )
    shown, more = ranked[:LISTED], len(ranked) - LISTED
    return Table(
        columns=(
            "class",
            column,
            *(("references", f"times {'smaller' if smaller else 'more'}") if compared else ()),
        ),
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
