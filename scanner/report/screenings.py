"""What was found of a model's inputs, in words and cells, for whichever report draws them."""

from collections.abc import Iterator

from scanner.results import Region, ScreenedInput, Screening, Verdict

COLUMNS = ("input", "class", "p-value", "size", "set apart by", "where")
_FEWEST_PARTS = 2


def verdict_line(screening: Screening) -> str:
    """Return the verdict in one line, the answer first."""
    return f"{screening.verdict.value}: {screening.reason}"


def facts(screening: Screening) -> Iterator[str]:
    """Yield what the verdict rests on, in sentences."""
    yield (
        f"Each input was ranked among {screening.ranked:,} clean images, laid over "
        f"{screening.hosts} others, at alpha {screening.alpha:g}; p-values start at "
        f"1/{screening.ranked + 1}."
    )
    if screening.inputs >= _FEWEST_PARTS and screening.standing_out:
        yield (
            f"As many of {screening.inputs:,} clean inputs stand out with probability "
            f"{_small(screening.p_value)}."
        )
        if screening.verdict is Verdict.SUSPICIOUS:
            yield "Which of them are clean ones by chance the ranks do not tell: read from the top."
    if (found := screening.discoveries) is not None:
        which = "" if found.p_value is None else f" (p-values up to {_small(found.p_value)})"
        yield (
            f"With a share of {found.share:g} of false discoveries, {found.count:,} stand "
            f"out{which}."
        )


def cells(found: ScreenedInput) -> tuple[str, ...]:
    """Return an input's cells, one per column."""
    return (
        found.name,
        str(found.class_id),
        _small(found.p_value),
        "-" if found.size is None else f"{found.size:.2f}",
        found.rule,
        where(found.region),
    )


def where(region: Region | None) -> str:
    """Say where a region lies."""
    if region is None:
        return "no part alone"
    return f"{region.height} x {region.width} at row {region.top}, column {region.left}"


def _small(value: float) -> str:
    return f"{value:.3g}"
