"""`scan check`, `layers`, `detectors` and `doctor`: about models, the methods, the machine."""

import contextlib
import sys
from collections.abc import Iterator, Sequence
from typing import Annotated, Any

import typer
from rich.table import Table

from scanner import report
from scanner.cli import options
from scanner.cli.exits import ERROR
from scanner.cli.models import models
from scanner.cli.output import Output
from scanner.cli.wording import in_options
from scanner.errors import ScannerError, UsageError
from scanner.protocol import Check, Layer
from scanner.report import Listing, ListingReport
from scanner.report import json as as_json
from scanner.report.escape import printable
from scanner.settings import Settings
from scanner.values import to_json

_Model = Annotated[str, typer.Argument(metavar="MODEL", help="An ONNX file.", show_default=False)]


_Files = Annotated[
    list[str],
    typer.Argument(metavar="FILE", help="Files, folders or patterns.", show_default=False),
]


@options.takes_options
def check(files: _Files, chosen: options.CheckOptions) -> None:
    """Say whether files can be scanned, and what would be skipped; nothing is run."""
    shown = listing_report(chosen.shown_as, "checks")
    rows: list[tuple[str, ...]] = []
    answers: list[dict[str, Any]] = []
    for file, answer in _checked(models(files), Settings(input_shape=chosen.shape)):
        if isinstance(answer, ScannerError):
            rows.append((file, "no", in_options(str(answer))))
            answers.append({"path": file, "error": answer.to_dict()})
        else:
            rows.append((file, *_prospects(answer)))
            answers.append({"path": file, **to_json(answer)})
    columns = ("file", "scan", "why")
    listing = Listing(subject="checks", columns=columns, rows=rows, spaced=True, data=answers)
    shown.render_listing(listing, Output())
    if any("error" in answer for answer in answers):
        raise typer.Exit(ERROR)


def _checked(files: list[str], settings: Settings) -> Iterator[tuple[str, Check | ScannerError]]:
    """Yield what is found out about each file, or why it cannot be opened."""
    from scanner import batch, pipeline  # noqa: PLC0415 - nothing for --help

    # A lane holds the libraries, so that a file beyond the first costs little.
    with batch.lanes(1) if len(files) > 1 else contextlib.nullcontext() as lane:
        for file in files:
            try:
                if lane is None:
                    yield file, pipeline.check(file, settings)
                else:
                    yield file, lane.submit(pipeline.check, file, settings).result()
            except ScannerError as error:
                yield file, error


def _prospects(answer: Check) -> tuple[str, str]:
    """Return whether a model can be scanned, and which detectors would be skipped and why."""
    obstacles: dict[str, list[str]] = {}
    for row in answer.detectors:
        if row.obstacle is not None:
            obstacles.setdefault(row.obstacle, []).append(row.rule)
    told = [
        f"skipped {', '.join(rules)}: {in_options(reason)}" for reason, rules in obstacles.items()
    ]
    return ("in part" if told else "yes"), "; ".join(told) or "every detector applies"


@options.takes_options
def layers(model: _Model, chosen: options.FormatOptions) -> None:
    """List the activations of a model, to choose one with --layer."""
    shown = listing_report(chosen.shown_as, "layers")
    from scanner import pipeline  # noqa: PLC0415 - nothing for --help

    answer = pipeline.layers(model)
    rows = tuple(
        tuple(printable(cell) for cell in _layer_cells(row))  # names come from the model
        for row in answer.layers
    )
    columns = ("position", "operator", "shape", "value", "node")
    listing = Listing(
        subject="layers", columns=columns, rows=rows, numeric=("position",), data=to_json(answer)
    )
    shown.render_listing(listing, Output())


def _layer_cells(row: Layer) -> tuple[str, ...]:
    return str(row.position), row.operator, _shape(row.shape), row.value, row.node


def _shape(shape: Sequence[int | str] | None) -> str:
    return "?" if shape is None else " x ".join(printable(str(size)) for size in shape)


@options.takes_options
def detectors(chosen: options.FormatOptions) -> None:
    """List the detectors: what each needs, what it looks for, and its paper."""
    shown = listing_report(chosen.shown_as, "detectors")
    from scanner import pipeline  # noqa: PLC0415 - nothing for --help

    answer = pipeline.rules()
    rows = tuple(
        (row.rule.id, ", ".join(row.needs), row.rule.summary, row.rule.source) for row in answer
    )
    columns = ("detector", "needs", "a large statistic means", "source")
    listing = Listing(
        subject="detectors", columns=columns, rows=rows, spaced=True, data=to_json(answer)
    )
    shown.render_listing(listing, Output())


@options.takes_options
def doctor(chosen: options.FormatOptions) -> None:
    """Show versions, the providers that are usable, and what isolates a model."""
    listing_report(chosen.shown_as, "an installation")
    from scanner import pipeline  # noqa: PLC0415 - nothing for --help

    facts = pipeline.diagnose()
    rows = {
        "python": sys.version.split()[0],
        **facts.versions,
        "runtimes installed": ", ".join(
            f"{name} {version}" for name, version in facts.runtimes.items()
        ),
        "providers": "CPU" + (", CUDA" if facts.cuda_devices else ""),
        "CUDA": facts.cuda,
        "CUDA devices": ", ".join(facts.cuda_devices) or f"none usable: {facts.cuda_obstacle}",
        "telemetry": "on" if facts.telemetry else "off",
        "isolation": "\n".join(facts.isolation.granted()),
        "not isolated": "\n".join(
            (*facts.isolation.missing(), *facts.isolation.lesser()) or ("nothing missing",)
        ),
    }
    shared = [f"{p.name}: {', '.join(p.distributions)}" for p in facts.shared_packages]
    if shared:
        rows["shared packages"] = "\n".join(shared)
    if chosen.shown_as == "json":
        Output().write(as_json.write({"python": rows["python"], **to_json(facts)}))
    else:
        table = Table(box=None, padding=(0, 2, 0, 0), show_header=False)
        for name, value in rows.items():
            table.add_row(name, value)
        Output().console.print(table)
    if len(facts.runtimes) > 1:
        raise UsageError(
            "both onnxruntime and onnxruntime-gpu are installed, and overwrite each other's files",
            remedy="uninstall both, then install overactivation[cpu] or overactivation[gpu]",
        )
    if shared:
        raise UsageError(
            f"other distributions have installed packages of the same name ({'; '.join(shared)})",
            remedy="install overactivation in an environment of its own",
        )


def listing_report(name: str, subject: str) -> ListingReport:
    """Return the report of a format, before anything is measured for it.

    Raises:
        UsageError: The format cannot show a listing.
    """
    chosen = report.named(name)
    if not isinstance(chosen, ListingReport):
        able = [n for n in report.FORMATS if isinstance(report.named(n), ListingReport)]
        raise UsageError(
            f"the format {name!r} cannot show {subject}",
            remedy=f"choose --format {' or '.join(able)}",
        )
    return chosen
