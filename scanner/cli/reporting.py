"""`scan report RESULT.json...`: show saved results again, on a machine that needs no ONNX."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from scanner.cli import options
from scanner.cli.delivery import deliver, targets
from scanner.cli.exits import exit_code
from scanner.cli.policies import applied
from scanner.results import ScanResult

_Saved = Annotated[
    list[Path],
    typer.Argument(
        metavar="RESULT", help="Results that 'scan --format json' wrote.", show_default=False
    ),
]


@options.takes_options
def report(saved: _Saved, chosen: options.ReportOptions) -> None:
    """Show saved results again, in any format; nothing is measured."""
    from scanner.report import json  # noqa: PLC0415 - nothing for a scan

    wanted = targets(chosen.format or (), chosen.output, verbose=chosen.verbose, fdr=chosen.fdr)
    results: Sequence[ScanResult] = [result for path in saved for result in json.read_results(path)]
    shown = deliver(applied(results, chosen.config, quiet=True), wanted, count=len(results))
    raise typer.Exit(exit_code(shown, chosen.fail_on or ()))
