"""Building blocks of a report that several detectors fill: figures, histograms."""

from collections.abc import Sequence

from scanner.results import Histogram, Series

_BINS = 12


def figure(value: float | None) -> str:
    """Return a number as a table shows it; a dash where there is none."""
    return "-" if value is None else f"{value:.4f}"


def histogram(quantity: str, **named: Sequence[float]) -> Histogram:
    """Return named series over common bins.

    Args:
        quantity: What is counted, in a few characters.
        **named: The values of each series, the suspect's first.
    """
    low = min(map(min, named.values()))
    high = max(map(max, named.values()))
    width = (high - low) / _BINS or 1.0
    return Histogram(
        quantity=quantity,
        edges=tuple(low + index * width for index in range(_BINS)),
        series=tuple(
            Series(name=name, counts=_counts(values, low, width)) for name, values in named.items()
        ),
    )


def _counts(values: Sequence[float], low: float, width: float) -> tuple[int, ...]:
    counts = [0] * _BINS
    for value in values:
        counts[min(int((value - low) / width), _BINS - 1)] += 1
    return tuple(counts)
