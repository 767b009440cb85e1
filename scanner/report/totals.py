"""One line about many models."""

from collections.abc import Sequence

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


def is_failed(result: ScanResult) -> bool:
    """Whether nothing at all could be measured on a model."""
    return result.runtime is None and not result.findings


def _allowed(results: Sequence[ScanResult]) -> str:
    count = sum(any(s.rule == "model" for s in r.suppressions) for r in results)
    return f" ({count} allowed)" if count else ""
