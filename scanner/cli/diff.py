"""`scan diff`: what a model has that another of the same network has not."""

import secrets
import shlex
from collections.abc import Iterator
from typing import Annotated

import typer

from scanner.cli import options
from scanner.cli.about import listing_report
from scanner.cli.exits import CLEAN, INCONCLUSIVE, SUSPICIOUS
from scanner.cli.output import Output
from scanner.report import Listing
from scanner.report.escape import printable
from scanner.results import Change, Diff, Differences, Kind, LayerChange, Relation
from scanner.settings import Settings
from scanner.values import to_json

_COLUMNS = ("what", "node", "operator", "suspect", "reference", "explained by")
_MOST_ROWS = 200
# Weights that may hold what those of the reference do not.
_TRAINED = frozenset({Relation.FINE_TUNED, Relation.UNRELATED})
_LONGEST = 2000
_Suspect = Annotated[
    str, typer.Argument(metavar="SUSPECT", help="An ONNX file.", show_default=False)
]
_Reference = Annotated[
    str, typer.Argument(metavar="REFERENCE", help="One known to be clean.", show_default=False)
]


@options.takes_options
def diff(suspect: _Suspect, reference: _Reference, chosen: options.FormatOptions) -> None:
    """Say what a model has that a clean one of the same network has not; neither is run.

    Exit code 0: the same, or what differs is explained. 1: nodes, edges, constants or channels that
    should not be there. 2: an error. 3: the two cannot be compared.
    """
    shown = listing_report(chosen.shown_as, "differences")
    from scanner import pipeline  # noqa: PLC0415 - nothing for --help
    from scanner.judging import observed  # noqa: PLC0415 - as above

    # Nobody can prepare a file for a seed that was drawn after it was made.
    found = pipeline.diff(suspect, reference, Settings(seed=secrets.randbelow(2**31)))
    seen = observed.of(found.differences)
    data = {**to_json(found), "observations": to_json(seen)}
    rows = list(_rows(found.differences))
    page = Output()
    if chosen.shown_as == "table":
        # As in a scan, the answer comes first, and what it rests on below.
        for observation in seen:
            end = "" if observation.sentence.endswith("?") else "."
            _write(page, f"{observation.severity.name.lower()}: {observation.sentence}{end}")
        for sentence in _hints(found):
            _write(page, sentence)
        if rows:
            page.write("\n")
    if rows or chosen.shown_as != "table":
        shown.render_listing(
            Listing(subject="differences", columns=_COLUMNS, rows=rows[:_MOST_ROWS], data=data),
            page,
        )
    if chosen.shown_as == "table" and len(rows) > _MOST_ROWS:
        page.write(f"... and {len(rows) - _MOST_ROWS} more, all in --format json\n")
    code = _exit_code(found)
    if code != CLEAN:
        raise typer.Exit(code)


def _hints(found: Diff) -> Iterator[str]:
    """Yield what an answer does not say, and what to do about it."""
    told, suspect, reference = found.differences, found.suspect.path, found.reference.path
    if not told.obstacle and not told.grave and told.weights in _TRAINED:
        command = shlex.join(["scan", suspect, "--reference", reference])
        yield (
            "A diff sees what was added to a file or changed in it, and nothing of what a whole "
            f"network was trained to do. To look for that: {command}"
        )
    kinds = {change.kind for change in told.unexplained}
    if Kind.REMOVED in kinds and Kind.ADDED not in kinds:
        command = shlex.join(["scan", "diff", reference, suspect])
        yield (
            "The reference has nodes that the suspect has not. If it is the file in doubt, name it "
            f"first: {command}"
        )


def _write(page: Output, sentence: str) -> None:
    page.write(printable(sentence, _LONGEST) + "\n")


def _exit_code(found: Diff) -> int:
    if found.differences.obstacle:
        return INCONCLUSIVE
    return SUSPICIOUS if found.differences.grave else CLEAN


def _rows(found: Differences) -> Iterator[tuple[str, ...]]:
    """Yield what differs, the gravest first."""
    yield from map(_change, found.unexplained)
    yield from map(_layer, found.standing_out)
    yield from map(_change, (change for change in found.changes if change.explained))


def _change(change: Change) -> tuple[str, ...]:
    return (
        change.kind.value,
        change.node,
        change.operator,
        change.suspect,
        change.reference,
        change.explained,
    )


def _layer(layer: LayerChange) -> tuple[str, ...]:
    rows = ", ".join(map(str, layer.standing_out))
    changed = f"{layer.role}: {len(layer.standing_out)} of {layer.rows} channels ({rows})"
    return layer.relation.value, layer.node, layer.operator, changed, "", ""
