"""`scan MODEL...`: compare models with clean ones, and say whether they hide a backdoor."""

import contextlib
import dataclasses
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from scanner.cli import options
from scanner.cli.delivery import deliver, targets
from scanner.cli.exits import exit_code
from scanner.cli.models import models as expanded
from scanner.cli.output import Bar, complain, note
from scanner.cli.policies import applied
from scanner.cli.readers import baseline_of
from scanner.cli.wording import result_in_options
from scanner.errors import UsageError
from scanner.results import ScanResult
from scanner.sandbox.endpoint import Progress
from scanner.settings import Settings

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from scanner.judging.population import Baseline

_Models = Annotated[
    list[str],
    typer.Argument(
        metavar="MODEL",
        help="ONNX files, folders of them, patterns, or - for names on stdin.",
        show_default=False,
    ),
]


@options.takes_options
def scan(models: _Models, chosen: options.ScanOptions) -> None:
    """Compare a model with clean ones, and say whether it hides a backdoor."""
    wanted = targets(chosen.format or (), chosen.output, verbose=chosen.verbose, fdr=chosen.fdr)
    files = expanded(models, chosen.include or (), chosen.exclude or ())
    if len(files) > 1 and (single := [t.report.name for t in wanted if not t.report.several]):
        raise UsageError(
            f"the format {single[0]!r} shows one model only", remedy="scan one model at a time"
        )
    if chosen.explain_plan:
        from scanner.cli.plans import explain  # noqa: PLC0415 - nothing for --help

        explain(files, chosen)
        return
    if chosen.evidence is not None:
        from scanner.report.evidence import make_folder  # noqa: PLC0415 - nothing for --help

        make_folder(chosen.evidence)
    elsewhere = chosen.scheduler is not None
    several = len(files) > 1 or chosen.jobs > 1 or chosen.cache is not None or elsewhere
    arriving = _registry(files, chosen) if several else _single(files[0], chosen)
    told = applied(map(_told, arriving), chosen.config, quiet=chosen.quiet)
    results = deliver(told, wanted, count=len(files))
    if not wanted[0].report.shows_failures and len(results) == 1:
        _explain_failures(results)
    if chosen.evidence is not None:
        _write_evidence(results, chosen.evidence, quiet=chosen.quiet)
    raise typer.Exit(exit_code(results, chosen.fail_on or ()))


def _write_evidence(results: list[ScanResult], folder: Path, *, quiet: bool) -> None:
    from scanner.report.evidence import left_over, write_evidence  # noqa: PLC0415 - nothing for --help

    written = write_evidence(results, folder)
    if quiet:
        return
    for path in written:
        note(f"wrote {path}")
    for path in left_over(results, folder, written):
        note(f"not of this scan: {path}")


def _single(model: str, chosen: options.ScanOptions) -> Iterator[ScanResult]:
    from scanner import pipeline  # noqa: PLC0415 - nothing for --help

    settings, references, baseline = _asked(chosen)
    with Bar(quiet=chosen.quiet) as bar:
        yield pipeline.scan(model, references, settings, baseline=baseline, progress=bar.measuring)


def _registry(models: list[str], chosen: options.ScanOptions) -> Iterator[ScanResult]:
    """Yield the result for each of many models; say so where no terminal shows a bar."""
    from scanner import batch, cache  # noqa: PLC0415 - nothing for --help
    from scanner.report.totals import is_failed  # noqa: PLC0415 - as above

    settings, references, baseline = _asked(chosen)
    if chosen.jobs > 1 or chosen.scheduler is not None:
        # Cores that measure a model each have no time for another's.
        settings = dataclasses.replace(settings, threads=settings.threads or 1)
    memory = cache.Cache(chosen.cache) if chosen.cache else None
    lines = not chosen.quiet and not sys.stderr.isatty()
    done = 0
    with (
        Bar(quiet=chosen.quiet) as bar,
        _side_by_side(models, chosen, settings, bar.among) as executor,
    ):

        def measured(model: object) -> None:
            nonlocal done
            done += 1
            bar.counting(done, len(models), str(model))

        results = batch.scan_many(
            models,
            references,
            settings,
            baseline=baseline,
            executor=executor,
            cache=memory,
            measured=measured,
        )
        for number, result in enumerate(results, start=1):
            if lines:
                word = "failed" if is_failed(result) else result.verdict.value
                note(f"[{number}/{len(models)}] {result.model.path}: {word}")
            yield result


def _side_by_side(
    models: list[str], chosen: options.ScanOptions, settings: Settings, progress: Progress
) -> "contextlib.AbstractContextManager[Executor]":
    """Return where models are measured: on a cluster, or in processes of this machine."""
    if chosen.scheduler is not None:
        from scanner import cluster  # noqa: PLC0415 - nothing for --help

        if chosen.jobs > 1:
            raise UsageError(
                "--jobs and --scheduler exclude one another",
                remedy="leave --jobs out: a cluster measures as many models at a time as its "
                "workers have threads",
            )
        return cluster.workers(chosen.scheduler, models[0])
    from scanner import batch  # noqa: PLC0415 - nothing for --help

    return batch.lanes(min(chosen.jobs, len(models)), settings.detectors, progress=progress)


def _asked(chosen: options.ScanOptions) -> "tuple[Settings, list[str], Baseline | None]":
    """Return the settings, the references and the baseline that the options name."""
    call = options.filled(chosen, options.Call)
    baseline = baseline_of(chosen.baseline, call.get("baseline_sha256"))
    return options.settings(chosen), call.get("references", []), baseline


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
