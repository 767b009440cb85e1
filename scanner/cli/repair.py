"""`scan repair`: remove a backdoor, write the repaired file, and measure what is left."""

import json
from pathlib import Path
from typing import Annotated

import typer

from scanner.cli import options
from scanner.cli.exits import CLEAN, INCONCLUSIVE, SUSPICIOUS
from scanner.cli.fields import IMAGES, OUTPUT, SEARCH, Call, Fills, filled, option
from scanner.cli.measure_options import MeasureOptions
from scanner.cli.output import Bar, Output
from scanner.cli.readers import baseline_of, numbers
from scanner.cli.wording import result_in_options
from scanner.results import Ending
from scanner.settings import KEEP_ACCURACY
from scanner.values import frozen, to_json

_CODES = {
    Ending.UNTOUCHED: CLEAN,
    Ending.REPAIRED: CLEAN,
    Ending.FAILED: SUSPICIOUS,
    Ending.UNKNOWN: INCONCLUSIVE,
}
_FORMATS = ("table", "json", "markdown")
_Model = Annotated[str, typer.Argument(metavar="MODEL", help="An ONNX file.", show_default=False)]


def _format(name: str) -> str:
    if name not in _FORMATS:
        raise typer.BadParameter(f"{name!r} is not one of {', '.join(map(repr, _FORMATS))}.")
    return name


@frozen
class RepairOptions(MeasureOptions):
    """What only a repair takes: where it writes, what it removes, what must stay.

    Its file and its format are not called as the options are: what a policy sets for scans is
    where reports go.
    """

    repaired_file: Annotated[
        Path, option(OUTPUT, "--output", "-o", metavar="FILE", help="The repaired file to write.")
    ]
    reference: options.References = None
    baseline: options.Baseline = None
    baseline_sha256: options.BaselineSha256 = None
    target: Annotated[
        str | None,
        option(
            SEARCH,
            "--target",
            metavar="0,3,7",
            help="Remove the triggers of these classes, whatever the scan says.",
        ),
        Fills("targets", Call, read=numbers("0,3,7", lowest=0)),
    ] = None
    triggered_npz: Annotated[
        Path | None,
        option(
            IMAGES,
            "--triggered-npz",
            metavar="FILE",
            help="Images that bear a trigger you know, to tell what is left of it.",
        ),
    ] = None
    keep_accuracy: Annotated[
        float,
        option(
            SEARCH,
            "--keep-accuracy",
            metavar="SHARE",
            min=0.5,
            max=1.0,
            help="Least share of the model's answers to clean images that must stay.",
        ),
    ] = KEEP_ACCURACY
    memory_limit: options.MemoryLimit = options.MEMORY
    shown_as: Annotated[
        str,
        option(
            OUTPUT,
            "--format",
            metavar="|".join(_FORMATS),
            help="table is for people, json for programs, markdown for a pull request.",
            callback=_format,
        ),
    ] = "table"


@options.takes_options
def repair(model: _Model, chosen: RepairOptions) -> None:
    """Remove a backdoor from a model, write the repaired file, and measure what is left.

    Exit code 0: repaired, or clean and left alone. 1: what was written, or the model, still
    has a backdoor. 2: an error. 3: the scan cannot tell whether there is one.
    """
    from scanner import repairs  # noqa: PLC0415 - nothing for --help
    from scanner.report.repairs import markdown, text  # noqa: PLC0415 - as above

    call = filled(chosen, Call)
    baseline = baseline_of(chosen.baseline, call.get("baseline_sha256"))
    with Bar(quiet=chosen.quiet) as bar:
        result = repairs.repair(
            model,
            chosen.repaired_file,
            call.get("references", []),
            options.settings(chosen),
            targets=call.get("targets", ()),
            keep_accuracy=chosen.keep_accuracy,
            baseline=baseline,
            triggered=chosen.triggered_npz,
            progress=bar.measuring,
        )
    told, page = result_in_options(result), Output()
    if chosen.shown_as == "json":
        shown = json.dumps(to_json(told), indent=1) + "\n"
    elif chosen.shown_as == "markdown":
        shown = markdown(told)
    else:
        shown = text(told, page.console.width)
    page.write(shown)
    code = _CODES[result.ending]
    if code != CLEAN:
        raise typer.Exit(code)
