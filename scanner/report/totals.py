"""One line about many models."""

from collections.abc import Iterator, Sequence

from scanner.judging.ranks import discoveries
from scanner.results import ScanResult, Verdict


def totals(results: Sequence[ScanResult]) -> str:
    """Return how many models there are of each kind.

    As in "200 models: 191 clean, 4 suspicious (2 allowed), 3 inconclusive, 2 failed".
    """
    failed = [r for r in results if is_failed(r)]
    rest = [r for r in results if not is_failed(r)]
    parts = [
        f"{len(found)} {verdict.value}{_allowed(found)}"
        for verdict in (Verdict.CLEAN, Verdict.SUSPICIOUS, Verdict.INCONCLUSIVE)
        if (found := [r for r in rest if r.verdict is verdict])
    ]
    parts += [f"{len(failed)} failed"] if failed else []
    return f"{len(results)} model{'s' if len(results) != 1 else ''}: {', '.join(parts)}"


def chances(results: Sequence[ScanResult], fdr: float | None = None) -> Iterator[str]:
    """Yield what chance does among many models, in sentences.

    Args:
        results: Of all models.
        fdr: The share of false discoveries to say something about; None says nothing.
    """
    places = map(place, results)
    ranked = [p for p, size in places if p is not None and size is not None]
    alpha = next((r.run.alpha for r in results if r.run), None)
    if ranked and alpha is not None:
        yield (
            f"false alarms expected by chance: at most {alpha * len(ranked):.2g} of "
            f"{len(ranked)} ranked models would have p <= {alpha:g}; fewer still would also be "
            "large enough to be suspicious"
        )
    if fdr is not None:
        count = discoveries(ranked, fdr)
        least = f", the smallest p-value is {min(ranked):.3g}" if ranked else ""
        yield (
            f"with a share of {fdr:g} false discoveries at most (Benjamini-Hochberg), {count} of "
            f"{len(ranked)} ranked models stand out{least}"
        )


def place(result: ScanResult) -> tuple[float | None, float | None]:
    """Return the p-value and size of the rank that a verdict rests on, as far as it rests on one.

    What a file or graph contains needs no clean models to be judged: its score is 1, and a rank
    beside it would be that of something else.
    """
    if result.score is None:
        return None, result.size
    return (None, None) if result.score >= 1 else (1 - result.score, result.size)


def why(result: ScanResult) -> str:
    """Return the reason of a verdict; of a model that could not be measured, what stopped it."""
    sentences = [failure.sentence for failure in result.failures] if is_failed(result) else []
    return sentences[0].rstrip(".") if sentences else result.reason


def is_failed(result: ScanResult) -> bool:
    """Whether nothing at all could be measured on a model."""
    return result.runtime is None and not result.findings


def _allowed(results: Sequence[ScanResult]) -> str:
    count = sum(result.allowed for result in results)
    return f" ({count} allowed)" if count else ""
