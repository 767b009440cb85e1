"""`scan layers`, `scan detectors` and `scan doctor`: about a model, the methods, the machine."""

import sys
from collections.abc import Sequence
from typing import Annotated

import typer
from rich.table import Table

from scanner import report
from scanner.cli import options
from scanner.cli.output import Output
from scanner.errors import UsageError
from scanner.protocol import Layer
from scanner.report import Listing, ListingReport
from scanner.report.escape import printable
from scanner.values import to_json

_Model = Annotated[str, typer.Argument(metavar="MODEL", help="An ONNX file.", show_default=False)]


@options.takes_options
def layers(model: _Model, chosen: options.FormatOptions) -> None:
    """List the activations of a model, to choose one with --layer."""
    shown = _listing_report(chosen.format, "layers")
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
    shown = _listing_report(chosen.format, "detectors")
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
def doctor(chosen: options.PrintOptions) -> None:  # noqa: ARG001 - its options act by themselves
    """Show versions, the providers that are usable, and what isolates a model."""
    from scanner import pipeline  # noqa: PLC0415 - nothing for --help

    facts = pipeline.diagnose()
    rows = {
        "python": sys.version.split()[0],
        **facts.versions,
        "runtimes installed": ", ".join(
            f"{name} {version}" for name, version in facts.runtimes.items()
        ),
        "providers": "CPU" + (", CUDA" if facts.cuda_devices else ""),
        "CUDA devices": ", ".join(facts.cuda_devices) or "none usable",
        "telemetry": "on" if facts.telemetry else "off",
        "isolation": "\n".join(facts.isolation.granted()),
        "not isolated": "\n".join(facts.isolation.missing()) or "nothing missing",
    }
    shared = [f"{p.name}: {', '.join(p.distributions)}" for p in facts.shared_packages]
    if shared:
        rows["shared packages"] = "\n".join(shared)
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


def _listing_report(name: str, subject: str) -> ListingReport:
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
