"""`scan inputs`: is one of a model's inputs carrying a trigger?"""

import contextlib
import dataclasses
from pathlib import Path
from typing import Annotated

import typer

from scanner import report
from scanner.cli import exits, options
from scanner.cli.delivery import Target, targets
from scanner.cli.input_options import InputOptions, settings
from scanner.cli.output import Bar, Output, complain, note
from scanner.errors import GraphError, TooFewImagesError, UnsupportedModelError, UsageError
from scanner.report import ScreeningReport
from scanner.results import ScreenedInput, Trigger, Verdict

_Model = Annotated[str, typer.Argument(metavar="MODEL", help="An ONNX file.", show_default=False)]
_Inputs = Annotated[
    Path,
    typer.Argument(
        metavar="INPUTS",
        help="A folder of images, an .npz or .npy file, or one picture.",
        show_default=False,
    ),
]
_MOST_PICTURES = 100
_CODES = {
    Verdict.CLEAN: exits.CLEAN,
    Verdict.SUSPICIOUS: exits.SUSPICIOUS,
    Verdict.INCONCLUSIVE: exits.INCONCLUSIVE,
}


@options.takes_options
def inputs(model: _Model, inputs: _Inputs, chosen: InputOptions) -> None:
    """Say whether inputs of a model carry a trigger, by clean images to set them beside.

    Exit code 0: no more stand out than chance explains. 1: inputs carry a trigger. 2: an error.
    3: too few clean images, or a model that is no image classifier.
    """
    wanted = targets(chosen.reports or (), chosen.stdout_file, verbose=chosen.verbose)
    if unable := next((t.report.name for t in wanted if not _able(t)), None):
        able = ", ".join(name for name in report.FORMATS if _able_name(name))
        raise UsageError(
            f"the format {unable!r} does not show inputs", remedy=f"choose one of {able}"
        )
    if folder := next((t.path for t in wanted if t.folder and t.path is not None), None):
        raise UsageError(
            f"the inputs of a model make one page, and {str(folder)!r} is to be a folder",
            remedy=f"name a file in it, such as {str(folder / 'inputs.html')!r}",
        )
    try:
        code = _screened(model, inputs, chosen, wanted)
    except (GraphError, UnsupportedModelError, TooFewImagesError) as error:
        complain(f"inconclusive: {error}")
        code = exits.INCONCLUSIVE
    if code != exits.CLEAN:
        raise typer.Exit(code)


def _able(target: Target) -> bool:
    return isinstance(target.report, ScreeningReport)


def _able_name(name: str) -> bool:
    return isinstance(report.named(name), ScreeningReport)


def _screened(model: str, inputs: Path, chosen: InputOptions, wanted: list[Target]) -> int:
    """Screen the inputs, write the reports, and return the exit code."""
    from scanner.screening import InputFilter, Tally  # noqa: PLC0415 - nothing for --help

    if chosen.pictures is not None:
        from scanner.report.evidence import make_folder  # noqa: PLC0415 - as above

        make_folder(chosen.pictures)
    triggers = _triggers(chosen.triggers)
    kept: list[ScreenedInput] = []
    with (
        contextlib.ExitStack() as opened,
        Bar(quiet=chosen.quiet) as bar,
    ):
        pages = [opened.enter_context(Output(target.path)) for target in wanted]
        screener = opened.enter_context(
            InputFilter(
                model,
                chosen.clean,
                alpha=chosen.level,
                triggers=triggers,
                inputs=inputs,
                settings=settings(chosen),
                progress=lambda step: bar.measuring(dataclasses.replace(step, model="clean")),
            )
        )
        tally = Tally(screener.clean, chosen.level, chosen.false_discoveries)
        pictures = _MOST_PICTURES if chosen.pictures else 0
        for found in screener.stream(pictures=pictures, progress=bar.inputs):
            tally.add(found)
            if found.picture is not None:
                kept.append(found)
            for target, page in zip(wanted, pages, strict=True):
                target.report.render_input(found, page)  # type: ignore[attr-defined]
        summary = tally.summary()
        for target, page in zip(wanted, pages, strict=True):
            target.report.render_screening(summary, page)  # type: ignore[attr-defined]
    _write_pictures(kept, chosen)
    return _CODES[summary.verdict]


def _write_pictures(kept: list[ScreenedInput], chosen: InputOptions) -> None:
    if chosen.pictures is None:
        return
    from scanner.report.input_evidence import write_inputs  # noqa: PLC0415 - as above

    written = write_inputs(kept, chosen.pictures)
    if not chosen.quiet:
        note(f"wrote {len(written)} files on {len(kept)} inputs to {chosen.pictures}")


def _triggers(saved: Path | None) -> tuple[Trigger, ...]:
    """Return the triggers of a saved result of a scan.

    Raises:
        UsageError: The file is none, or the scan found no trigger.
    """
    if saved is None:
        return ()
    from scanner.report.json import read_results  # noqa: PLC0415 - as above
    from scanner.screening import triggers_of  # noqa: PLC0415 - as above

    found = tuple(trigger for result in read_results(saved) for trigger in triggers_of(result))
    if not found:
        raise UsageError(
            f"the scan saved in {str(saved)!r} found no trigger",
            remedy="leave the setting `triggers` out, or scan the model with the detector "
            "neural_cleanse",
        )
    return found
