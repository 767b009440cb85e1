"""Where the reports of a run go: one to stdout as results arrive, others into files."""

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import cast

from scanner import report
from scanner.cli.output import Output
from scanner.errors import UsageError
from scanner.report import FolderReport, Report
from scanner.report.folder import make, write_file
from scanner.results import ScanResult
from scanner.values import frozen

_MORE = "-v shows each"


@frozen
class Target:
    """A report and its file; None is stdout.

    Attributes:
        report: The report.
        path: Where it goes.
        folder: Whether that is a folder.
    """

    report: Report
    path: Path | None
    folder: bool = False


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
        formats: Each a format's name, or a name and a file as in "sarif=out.sarif", or a name and a
            folder as in "html=out/".
        output: A file that takes what would go to stdout.
        verbose: Whether tables show all that is known.
        fdr: The share of false discoveries that tables say something about.

    Raises:
        UsageError: Two reports would go to the same place, or one that is a file into a folder.
    """
    named = [text.partition("=") for text in formats]
    loose = [name for name, _, path in named if not path]
    if len(loose) > 1:
        raise UsageError(
            f"the formats {' and '.join(map(repr, loose))} would both go to the same place",
            remedy=f"give one of them a file, as in --format {loose[1]}=FILE",
        )
    first = _target(loose[0] if loose else "table", "" if output is None else str(output))
    rest = [_target(name, path) for name, _, path in named if path]
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


def _target(name: str, place: str) -> Target:
    """Return a report's target.

    Raises:
        UsageError: The place is a folder, and the report is one file.
    """
    made = report.named(name)
    path = Path(place) if place else None
    folder = place.endswith(("/", os.sep)) or os.path.isdir(place)  # noqa: PTH112 - Path.is_dir may raise
    if folder and not isinstance(made, FolderReport):
        raise UsageError(
            f"the format {name!r} is one file, and {place!r} is a folder",
            remedy=f"name a file in it, such as {str(Path(place, 'scan' + made.suffix))!r}",
        )
    return Target(report=made, path=path, folder=folder)


def deliver(
    arriving: Iterable[ScanResult], chosen: Sequence[Target], *, count: int
) -> list[ScanResult]:
    """Write every report, and return the results.

    The first report shows results as they arrive; the others are written when all are there. When
    the run is interrupted, each holds what there is.

    Raises:
        UsageError: A file or a folder cannot be written; that is found out before the first result
            is asked for.
    """
    results: list[ScanResult] = []
    with contextlib.ExitStack() as opened:
        first, *others = [opened.enter_context(_opened(target)) for target in chosen]
        interruptions: list[BaseException] = []
        try:
            first(_kept(arriving, results, interruptions), count)
        finally:
            for write in others:
                if results:
                    write(iter(results), len(results))
        if interruptions:
            # Nothing here may hold it: with its frames go the processes that still measure.
            raise interruptions.pop()
    return results


@contextlib.contextmanager
def _opened(target: Target) -> Iterator[Callable[[Iterable[ScanResult], int], None]]:
    """Yield what writes a report, once it is known that it can be written."""
    if target.folder and target.path is not None:
        yield _in_folder(target.path, cast("FolderReport", target.report))
        return
    with Output(target.path) as page:
        yield lambda results, count: target.report.render(results, page, count=count)


def _in_folder(folder: Path, made: FolderReport) -> Callable[[Iterable[ScanResult], int], None]:
    """Return what writes a report's files into a folder, which is made if it is not there."""

    def write(results: Iterable[ScanResult], _count: int) -> None:
        files = list(made.files(results))
        with _blaming(folder):
            for name, text in files:
                write_file(folder, (), name, text.encode())

    with _blaming(folder):
        make(folder)
    return write


@contextlib.contextmanager
def _blaming(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UsageError(
            f"{str(folder)!r} cannot be written ({error.strerror})", remedy="name another folder"
        ) from error


def _kept(
    arriving: Iterable[ScanResult], results: list[ScanResult], interruptions: list[BaseException]
) -> Iterator[ScanResult]:
    """Yield results; an interruption ends them, so that a report shows those that are there."""
    source = iter(arriving)
    while True:
        try:
            result = next(source)
        except StopIteration:
            return
        except BaseException as interruption:
            if not results:
                raise
            interruptions.append(interruption)
            return
        results.append(result)
        yield result
