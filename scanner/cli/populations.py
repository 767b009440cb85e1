"""`scan calibrate`: measure clean models once, to judge others by their rank among them."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from scanner.cli import options
from scanner.cli.output import Bar, Output, note
from scanner.report.escape import printable

if TYPE_CHECKING:
    from scanner.calibration import Member

_Models = Annotated[
    list[str], typer.Argument(metavar="CLEAN", help="Clean ONNX files, or folders of them.")
]


@options.takes_options
def calibrate(models: _Models, chosen: options.CalibrateOptions) -> None:
    """Measure clean models of one recipe once, so that scans can rank a model among them."""
    from scanner import calibration  # noqa: PLC0415 - nothing for --help
    from scanner.cache import Cache  # noqa: PLC0415 - as above
    from scanner.judging.population import render  # noqa: PLC0415 - as above

    settings = options.settings(chosen)
    with Output(chosen.baseline_file) as out:
        with Bar(quiet=chosen.quiet) as bar:
            baseline = calibration.calibrate(
                options.files("CLEAN", models),
                settings,
                name=chosen.name or chosen.baseline_file.stem,
                provenance=chosen.provenance,
                keep=chosen.keep or (),
                cache=Cache(chosen.cache) if chosen.cache else None,
                progress=bar.counting,
                ranked=None if chosen.quiet else _show,
            )
        out.write(render(baseline))
    count = len(baseline.records)
    if not chosen.quiet:
        models_are = "clean model" if count == 1 else "clean models"
        note(f"{chosen.baseline_file}: {count} {models_are}; p-values from 1/{count + 1} up")


def _show(members: "Sequence[Member]") -> None:
    """Print how each clean model ranks among the others, the furthest first."""
    from rich.table import Table  # noqa: PLC0415 - nothing for --help

    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("clean model", overflow="fold")
    table.add_column("p among the others", justify="right")
    table.add_column("size", justify="right")
    for member in sorted(members, key=lambda m: m.size or 0.0, reverse=True):
        table.add_row(printable(member.path), _figure(member.p), _figure(member.size))
    Output().console.print(table, markup=False)
    for member in members:
        if member.far and member.suspicion is None:
            note(
                f"{member.path} lies {member.size:.1f} times as far out as the furthest of the "
                "others, which are too few to refuse it: make sure that it is clean"
            )


def _figure(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.2f}"
