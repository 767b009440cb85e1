"""Where the reports of a run go: one to stdout as results arrive, others into files."""

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from scanner import report
from scanner.cli.output import Output
from scanner.errors import UsageError
from scanner.report import Report
from scanner.results import ScanResult
from scanner.values import frozen

_MORE = "-v shows each"


@frozen
class Target:
    """A report and its file; None is stdout."""

    report: Report
    path: Path | None


def targets(
    formats: Sequence[str],
    output: Path | None,
    *,
    verbose: bool = False,
    fdr: float | None = None,
) -> list[Target]:
    """Return what was asked for, what goes to stdout first.

    The table goes there unless another format does.

    Args:
        formats: Each a format's name, or a name and a file as in "sarif=out.sarif".
        output: A file that takes what would go to stdout.
        verbose: Whether tables show all that is known.
        fdr: The share of false discoveries that tables say something about.

    Raises:
        UsageError: Two reports would go to the same place.
    """
    named = [text.partition("=") for text in formats]
    loose = [name for name, _, path in named if not path]
    if len(loose) > 1:
        raise UsageError(
            f"the formats {' and '.join(map(repr, loose))} would both go to the same place",
            remedy=f"give one of them a file, as in --format {loose[1]}=FILE",
        )
    first = Target(report=report.named(loose[0] if loose else "table"), path=output)
    rest = [Target(report=report.named(name), path=Path(path)) for name, _, path in named if path]
    for target in (first, *rest):
        if isinstance(target.report, report.Detailed):
            target.report.verbose, target.report.fdr = verbose, fdr
            target.report.more = _MORE
    files = [target.path.resolve() for target in (first, *rest) if target.path is not None]
    if twice := next((file for file in files if files.count(file) > 1), None):
        raise UsageError(
            f"two reports would be written to {str(twice)!r}", remedy="name a file for each"
        )
    return [first, *rest]


def deliver(
    arriving: Iterable[ScanResult], chosen: Sequence[Target], *, count: int
) -> list[ScanResult]:
    """Write every report, and return the results.

    The first report shows results as they arrive; the others are written when all are there, or
    when the run is interrupted, with what there is.

    Raises:
        UsageError: A file cannot be written; that is found out before the first result is asked
            for.
    """
    results: list[ScanResult] = []
    with contextlib.ExitStack() as opened:
        pages = [opened.enter_context(Output(target.path)) for target in chosen]
        try:
            chosen[0].report.render(_kept(arriving, results), pages[0], count=count)
        finally:
            for target, page in zip(chosen[1:], pages[1:], strict=True):
                if results:
                    target.report.render(iter(results), page, count=len(results))
    return results


def _kept(arriving: Iterable[ScanResult], results: list[ScanResult]) -> Iterator[ScanResult]:
    for result in arriving:
        results.append(result)
        yield result
