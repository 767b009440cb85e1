"""`scan MODEL...`: compare models with clean ones, and say whether they hide a backdoor."""

import dataclasses
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from scanner.cli import options
from scanner.cli.delivery import deliver, targets
from scanner.cli.exits import exit_code
from scanner.cli.output import Bar, complain, note
from scanner.cli.wording import result_in_options
from scanner.errors import UsageError
from scanner.results import ScanResult
from scanner.settings import Settings

if TYPE_CHECKING:
    from scanner.judging.population import Baseline

_Models = Annotated[
    list[str], typer.Argument(metavar="MODEL", help="ONNX files to scan.", show_default=False)
]


@options.takes_options
def scan(models: _Models, chosen: options.ScanOptions) -> None:
    """Compare a model with clean ones, and say whether it hides a backdoor."""
    wanted = targets(chosen.format or (), chosen.output, verbose=chosen.verbose)
    if len(models) > 1 and (single := [t.report.name for t in wanted if not t.report.several]):
        raise UsageError(
            f"the format {single[0]!r} shows one model only", remedy="scan one model at a time"
        )
    from scanner.judging.population import read_baseline  # noqa: PLC0415 - nothing for --help
    from scanner.report.evidence import write_evidence  # noqa: PLC0415 - as above

    settings = options.settings(chosen)
    population = read_baseline(chosen.baseline) if chosen.baseline else None
    references = options.filled(chosen, options.Call).get("references", [])
    arriving = _scanned(models, references, settings, population, quiet=chosen.quiet)
    results = deliver(arriving, wanted, count=len(models))
    if not wanted[0].report.shows_failures:
        _explain_failures(results)
    if chosen.evidence is not None:
        for path in write_evidence(results, chosen.evidence):
            if not chosen.quiet:
                note(f"wrote {path}")
    raise typer.Exit(exit_code(results, chosen.fail_on or ()))


def _scanned(
    models: list[str],
    references: list[str],
    settings: Settings,
    population: "Baseline | None",
    *,
    quiet: bool,
) -> Iterator[ScanResult]:
    from scanner import pipeline  # noqa: PLC0415 - nothing for --help

    with Bar(quiet=quiet) as bar:
        for result in pipeline.scan_each(
            models, references, settings, baseline=population, progress=bar.update
        ):
            yield _told(result)


def _told(result: ScanResult) -> ScanResult:
    """Return a result as the command line tells it: in its words, and with what was typed."""
    told = result_in_options(result)
    if told.run is None:
        return told
    return dataclasses.replace(
        told, run=dataclasses.replace(told.run, arguments=("scan", *sys.argv[1:]))
    )


def _explain_failures(results: list[ScanResult]) -> None:
    """Say on stderr which files could not be measured at all, and why."""
    for result in results:
        if result.runtime is None and not result.findings:
            for failure in result.failures:
                complain(failure.sentence)
