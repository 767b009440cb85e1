"""The command `scan`: words in, values out, an exit code."""

import difflib
import os
from collections.abc import Sequence
from typing import Annotated, Any, cast

import typer
import typer.core
from rich.console import Console
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from scanner.cli import (
    about,
    diff,
    exits,
    inputs,
    options,
    output,
    policies,
    populations,
    repair,
    reporting,
    scanning,
)
from scanner.errors import ScannerError, UsageError
from scanner.version import VERSION

_DEFAULT_COMMAND = "model"
_GROUP_OPTIONS = ("--version", "--install-completion", "--show-completion")
_CLOSE = 0.7  # of difflib's similarity: 'layer' and 'detector' are close, 'model2' is not

# The base class of all usage errors, which Typer itself does not export.
_WrongUsage = cast("type[typer.BadParameter]", typer.BadParameter.__bases__[0])
_EXAMPLES = (
    "scan model.onnx --reference clean.onnx",
    "scan registry/ -r clean-models/ --jobs 4 --cache scan-cache/",
    "scan model.onnx -r clean.onnx --format json=result.json --format sarif=result.sarif",
    "scan registry/ --scheduler tcp://10.0.0.1:8786 --cache scan-cache/",
    "scan report result.json --format markdown",
    "scan compare before.json after.json",
    "scan model.onnx -r clean.onnx --noise gaussian --input-range -1 1",
    "scan model.onnx -r clean.onnx --images-npz images.npz --evidence evidence/",
    "scan diff model.onnx clean.onnx",
    "scan repair model.onnx --images-npz images.npz --output repaired.onnx",
    "scan inputs model.onnx inputs/ --clean clean-images/ --evidence evidence/",
    "scan check registry/",
    "scan config",
    "scan calibrate clean-models/ -o baseline.json",
    "scan model.onnx --baseline baseline.json",
)


class ScanGroup(typer.core.TyperGroup):
    """A group whose first word may be a model: `scan m.onnx` is short for `scan model m.onnx`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Insert the default command where no other is named.

        Raises:
            UsageError: The first word looks like a misspelt command.
        """
        if not ctx.resilient_parsing and not args:
            args = ["--help"]
        if args and args[0] not in self.commands and args[0] not in _GROUP_OPTIONS:
            if not ctx.resilient_parsing:
                self._check_spelling(args[0])
            args = [_DEFAULT_COMMAND, *args]
        if not ctx.resilient_parsing:
            policies.told_of_variables(p for c in self.commands.values() for p in c.params)
        return super().parse_args(ctx, args)

    def _check_spelling(self, word: str) -> None:
        """Stop before anything is scanned where a command was meant."""
        if not word.isalpha() or os.path.exists(word):  # noqa: PTH110 - Path.exists may raise
            return
        commands = [name for name in self.commands if name != _DEFAULT_COMMAND]
        if near := difflib.get_close_matches(word.lower(), commands, n=1, cutoff=_CLOSE):
            raise UsageError(
                f"there is no file or command {word!r}", remedy=f"did you mean 'scan {near[0]}'?"
            )

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        """Leave the default command's name out of the usage line."""
        name, command, rest = super().resolve_command(ctx, args)
        return (None if name == _DEFAULT_COMMAND else name), command, rest


class _Context(typer.core.TyperCommand.context_class):  # type: ignore[misc, valid-type]
    """A context that does not miss the default command's name, which is left out."""

    @property
    def command_path(self) -> str:
        """The words before the options, without a gap behind them."""
        return str(super().command_path).rstrip()


class Command(typer.core.TyperCommand):
    """A command whose --help stands among the options on display, which come last."""

    context_class = _Context

    def make_context(
        self, info_name: Any, args: list[str], parent: Any = None, **extra: Any
    ) -> Any:
        """Take from the policy what is not typed and not in the environment."""
        if not extra.get("resilient_parsing"):
            extra["default_map"] = policies.defaults(args, self.params)
        return super().make_context(info_name, args, parent, **extra)

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Take `--input-range auto` for what it is: the option itself takes two numbers.

        It is the default, and comes before what the environment and the policy say.

        Raises:
            UsageError: An option's value is none that it takes.
        """
        typed = list(args)  # Typer takes words away as it reads them
        takes_one = any(parameter.name == "input_range" for parameter in self.params)
        automatic = takes_one and options.finds_range(typed, os.environ)
        if takes_one:
            # Two numbers stand in for it, so that nobody else is asked.
            stand_in = ["--input-range", "0", "1"] if automatic else []
            typed = [*stand_in, *options.without_auto(typed)]
        try:
            rest = super().parse_args(ctx, typed)
        except _WrongUsage as error:
            # Some versions of Typer say first of which kind of Python's errors it is.
            error.message = error.message.removeprefix("Value error, ")
            error.message += _written(ctx, getattr(error, "param", None), args)
            raise
        if automatic:
            ctx.params["input_range"] = None
        return rest

    def get_help_option(self, ctx: Any) -> Any:
        """Return --help, placed in its panel."""
        option = super().get_help_option(ctx)
        if option is not None:
            option.rich_help_panel = options.DISPLAY
        return option


def _written(ctx: Any, parameter: Any, typed: Sequence[str]) -> str:
    """Say where a value stands that nobody typed; empty for one that was."""
    source = None if parameter is None else ctx.get_parameter_source(parameter.name)
    place = getattr(source, "name", "")
    if place == "ENVIRONMENT":
        return f" It stands in {parameter.envvar}."
    if place == "DEFAULT_MAP":
        return f" It stands in the policy {str(policies.held_for(typed).path)!r}."
    return ""


class ScanCommand(Command):
    """The default command, whose help is the help of the whole program."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Print the options, then the other commands, examples and exit codes."""
        super().format_help(ctx, formatter)
        console = Console(highlight=False)
        group = ctx.parent.command
        commands = Table.grid(padding=(0, 2, 0, 0))
        for name, command in group.commands.items():
            if name != _DEFAULT_COMMAND:
                commands.add_row(Text(f"scan {name}", "bold cyan"), _summary(command))
        commands.add_row(Text("scan --version", "bold cyan"), "Print the version.")
        commands.add_row(
            Text("scan --install-completion", "bold cyan"), "Let the shell complete options."
        )
        codes = Table.grid(padding=(0, 2, 0, 0))
        for code, meaning in exits.MEANINGS.items():
            codes.add_row(Text(str(code), "bold cyan", justify="right"), meaning)
        for title, body in (
            ("Other commands", commands),
            ("Examples", Text("\n".join(_EXAMPLES))),
            ("Exit codes", codes),
        ):
            console.print(
                Panel(body, title=title, title_align="left", border_style="dim", padding=(0, 1))
            )


def _summary(command: Any) -> str:
    return str(command.help).strip().split("\n", maxsplit=1)[0]


app = typer.Typer(
    cls=ScanGroup,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["--help", "-h"]},
)
app.command(_DEFAULT_COMMAND, cls=ScanCommand)(scanning.scan)
app.command("calibrate", cls=Command)(populations.calibrate)
app.command("report", cls=Command)(reporting.report)
app.command("compare", cls=Command)(reporting.compare)
app.command("check", cls=Command)(about.check)
app.command("diff", cls=Command)(diff.diff)
app.command("repair", cls=Command)(repair.repair)
app.command("inputs", cls=Command)(inputs.inputs)
app.command("layers", cls=Command)(about.layers)
app.command("detectors", cls=Command)(about.detectors)
app.command("config", cls=Command)(policies.config)
app.command("doctor", cls=Command)(about.doctor)


def _print_version(value: bool) -> None:
    if value:
        typer.echo(f"overactivation {VERSION}")
        raise typer.Exit


@app.callback()
def _group(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """Does this ONNX model hide a backdoor?"""


def run() -> int:
    """Run the command line; return the exit code.

    A `ScannerError` becomes one sentence on stderr.
    """
    output.draw_in_ascii_where_needed()
    try:
        # Not standalone: there, Typer would end a closed pipe with the exit code of a verdict.
        code = app(standalone_mode=False)
    except ScannerError as error:
        output.complain(str(error))
        return exits.ERROR
    except _WrongUsage as error:
        from typer.rich_utils import rich_format_error  # noqa: PLC0415 - only for wrong usage

        rich_format_error(error)
        return error.exit_code
    return int(code or exits.CLEAN)
