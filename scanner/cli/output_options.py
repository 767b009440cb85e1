"""The options of whatever prints: formats, files, colours, and what fails a pipeline."""

import math
import os
from pathlib import Path
from typing import Annotated

import typer

from scanner import report
from scanner.cli import exits
from scanner.cli.fields import DISPLAY, IMAGES, OUTPUT, option
from scanner.cli.readers import numbers
from scanner.values import frozen


def _format(name: str) -> str:
    if name not in report.FORMATS:
        choices = ", ".join(map(repr, report.FORMATS))
        raise typer.BadParameter(f"{name!r} is not one of {choices}.")
    return name


def formats(texts: list[str] | None) -> list[str]:
    """Return formats, each with or without a file, if all are known."""
    for text in texts or []:
        name, _, path = text.partition("=")
        if "=" in text and not path:
            raise typer.BadParameter(f"{text!r} names no file, as {name}=FILE would.")
        _format(name)
    return texts or []


def format_names(incomplete: str) -> list[str]:
    """Return the formats whose names start so."""
    return [name for name in report.FORMATS if name.startswith(incomplete)]


def _fail_on(words: list[str] | None) -> list[str]:
    for word in words or []:
        try:
            exits.condition(word)
        except ValueError as error:
            choices = ", ".join(exits.CONDITIONS)
            raise typer.BadParameter(f"{word!r} is not one of {choices}, size=N.") from error
    if "nothing" in (words or []) and len(set(words or [])) > 1:
        raise typer.BadParameter("'nothing' stands alone: leave it out, or the other words.")
    return words or []


def _fail_on_words(incomplete: str) -> list[str]:
    return [word for word in (*exits.CONDITIONS, "size=") if word.startswith(incomplete)]


def share(value: float | None) -> float | None:
    """Return a share that is a number: what is none lies beyond no end of a range."""
    if value is not None and math.isnan(value):
        raise typer.BadParameter("nan is no number.")
    return value


def _without_color(chosen: bool) -> bool:
    # Every console that is made from here on asks the environment, Typer's included.
    if chosen:
        os.environ["NO_COLOR"] = "1"
    return chosen


@frozen
class PrintOptions:
    """How every command prints."""

    no_color: Annotated[
        bool,
        option(
            DISPLAY,
            "--no-color",
            help="Print without colour.",
            callback=_without_color,
            is_eager=True,
        ),
    ] = False


@frozen
class FormatOptions(PrintOptions):
    """How a command prints that knows several formats.

    The field is not called as its option: what a policy sets for scans is a list of reports.
    """

    shown_as: Annotated[
        str,
        option(
            OUTPUT,
            "--format",
            metavar="table|json",
            help="table is for people, json for programs.",
            callback=_format,
            autocompletion=format_names,
        ),
    ] = "table"


@frozen
class CheckOptions(FormatOptions):
    """What a check takes."""

    input_shape: Annotated[
        str | None,
        option(
            IMAGES,
            "--input-shape",
            metavar="C,H,W",
            help="Shape of one input, where the models leave it open.",
        ),
    ] = None

    @property
    def shape(self) -> tuple[int, ...] | None:
        """The shape as numbers."""
        if self.input_shape is None:
            return None
        return numbers("3,224,224", lowest=1)("--input-shape", self.input_shape)


# Declared once for several commands.
InsteadOfStdout = Annotated[
    Path | None,
    option(
        OUTPUT,
        "--output",
        "-o",
        metavar="FILE",
        help="Write to this file what would go to stdout.",
    ),
]


@frozen
class ReportOptions(PrintOptions):
    """Where the reports of results go, and what of them fails a pipeline."""

    format: Annotated[
        list[str] | None,
        option(
            OUTPUT,
            "--format",
            metavar="NAME[=FILE]",
            help=f"Write this report: {', '.join(report.FORMATS)}. Repeatable, each with a file: "
            "--format sarif=out.sarif; html also with a folder: html=report/. Without a file it "
            "replaces the table on stdout.",
            callback=formats,
            autocompletion=format_names,
        ),
    ] = None
    output: InsteadOfStdout = None
    config: Annotated[
        Path | None,
        option(
            OUTPUT,
            "--config",
            metavar="FILE",
            help="The policy to follow. [dim]\\[default: the nearest scan.toml, or "
            "pyproject.toml with a table tool.overactivation][/dim]",
        ),
    ] = None
    fdr: Annotated[
        float | None,
        option(
            OUTPUT,
            "--fdr",
            metavar="SHARE",
            min=0.0001,
            max=0.5,
            help="Say of several models how many stand out with this share of false discoveries "
            "(Benjamini-Hochberg).",
            callback=share,
        ),
    ] = None
    verbose: Annotated[
        bool,
        option(
            DISPLAY,
            "--verbose",
            "-v",
            help="Show every detector in full, with the triggers drawn, and every model.",
        ),
    ] = False
    fail_on: Annotated[
        list[str] | None,
        option(
            OUTPUT,
            "--fail-on",
            metavar="WHAT",
            help="What ends with an exit code other than 0: suspicious, inconclusive, a severity "
            "(note, warning, confirmed), a strength (beyond, apart, far-beyond), size=N, or "
            "nothing. Repeatable. "
            "[dim]\\[default: suspicious and inconclusive][/dim]",
            callback=_fail_on,
            autocompletion=_fail_on_words,
        ),
    ] = None
