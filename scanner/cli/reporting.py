"""`scan report` and `scan compare`: saved results, on a machine that needs no ONNX."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from scanner.cli import options
from scanner.cli.about import listing_report
from scanner.cli.delivery import deliver, targets
from scanner.cli.exits import exit_code
from scanner.cli.output import Output
from scanner.cli.policies import applied
from scanner.errors import UsageError
from scanner.report import Listing
from scanner.results import ScanResult
from scanner.values import to_json

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


_Before = Annotated[
    Path, typer.Argument(metavar="BEFORE", help="A saved result.", show_default=False)
]
_After = Annotated[Path, typer.Argument(metavar="AFTER", help="A later one.", show_default=False)]


@options.takes_options
def compare(before: _Before, after: _After, chosen: options.FormatOptions) -> None:
    """Say what changed between two saved results: of one model, or of two versions of it.

    The exit code is that of the later result.
    """
    from scanner.report.changes import changes  # noqa: PLC0415 - nothing for a scan

    shown = listing_report(chosen.shown_as, "changes")
    one, other = _only(before), _only(after)
    found = changes(one, other)
    listing = Listing(
        subject="changes",
        columns=("what", "before", "after"),
        rows=[(turn.what, turn.before, turn.after) for turn in found],
        spaced=True,
        data=to_json(found),
    )
    page = Output()
    if found or chosen.shown_as != "table":
        shown.render_listing(listing, page)
    else:
        page.write("nothing changed\n")
    raise typer.Exit(exit_code([other], ()))


def _only(path: Path) -> ScanResult:
    """Return the one result of a file.

    Raises:
        UsageError: It holds another number of them.
    """
    from scanner.report import json  # noqa: PLC0415 - nothing for a scan

    results = json.read_results(path)
    if len(results) != 1:
        raise UsageError(
            f"{str(path)!r} holds {len(results)} results, and two single ones are compared",
            remedy="save one model's result in a file of its own",
        )
    return results[0]
