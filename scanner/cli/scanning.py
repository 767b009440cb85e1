"""`scan MODEL...`: compare models with clean ones, and say whether they hide a backdoor."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from scanner import report
from scanner.cli import options
from scanner.cli.exits import exit_code
from scanner.cli.output import Bar, Output, complain, note
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
    shown = report.named(chosen.format)
    if len(models) > 1 and not shown.several:
        raise UsageError(
            f"the format {shown.name!r} shows one model only", remedy="scan one model at a time"
        )
    from scanner.judging.population import read_baseline  # noqa: PLC0415 - nothing for --help
    from scanner.report.evidence import write_evidence  # noqa: PLC0415 - as above

    settings = options.settings(chosen)
    call = options.filled(chosen, options.Call)
    pin = call.get("baseline_sha256")
    if pin and not chosen.baseline:
        raise UsageError(
            "a SHA-256 is pinned and there is no baseline",
            remedy="name the file with the setting `baseline`",
        )
    population = read_baseline(chosen.baseline, sha256=pin) if chosen.baseline else None
    references = call.get("references", [])
    results: list[ScanResult] = []

    def arriving() -> Iterator[ScanResult]:
        for result in _scanned(models, references, settings, population, quiet=chosen.quiet):
            results.append(result)
            yield result
        if not shown.shows_failures:
            _explain_failures(results)

    with Output(chosen.output) as out:
        shown.render(arriving(), out, count=len(models))
    if chosen.evidence is not None:
        for path in write_evidence(results, chosen.evidence):
            if not chosen.quiet:
                note(f"wrote {path}")
    raise typer.Exit(exit_code(results))


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
            yield result_in_options(result)


def _explain_failures(results: list[ScanResult]) -> None:
    """Say on stderr which files could not be measured at all, and why."""
    for result in results:
        if result.runtime is None and not result.findings:
            for failure in result.failures:
                complain(failure.sentence)
