"""The command `scan`: words in, values out, an exit code."""

import enum
import errno
import importlib.metadata
import os
import re
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Annotated, Any, Self, TextIO

import typer
import typer.core
from rich.console import Console
from rich.progress import Progress, TaskID
from rich.table import Table
from rich.text import Text

from scanner import pipeline, unanalysable
from scanner.errors import ScannerError, UsageError
from scanner.limits import Confinement, Limits
from scanner.report import json as json_report
from scanner.report import terminal
from scanner.report.escape import printable
from scanner.results import ScanResult, Verdict, from_json
from scanner.settings import Device, Noise, Settings

EXIT_CLEAN = 0
EXIT_SUSPICIOUS = 1
EXIT_ERROR = 2
EXIT_INCONCLUSIVE = 3
_WORST_FIRST = (EXIT_SUSPICIOUS, EXIT_ERROR, EXIT_INCONCLUSIVE, EXIT_CLEAN)
_EXIT_CODES = {
    Verdict.CLEAN: EXIT_CLEAN,
    Verdict.SUSPICIOUS: EXIT_SUSPICIOUS,
    Verdict.INCONCLUSIVE: EXIT_INCONCLUSIVE,
}
_DEFAULT_COMMAND = "model"
_GROUP_OPTIONS = ("--version", "--install-completion", "--show-completion")
_BAR_AFTER = 1.0  # seconds
_FILE_WIDTH = 100  # columns of a table that goes to a file or a pipe

_EPILOG = """
[bold]Examples[/bold]

scan model.onnx --reference clean.onnx

scan model.onnx -r clean.onnx --noise gaussian --input-range -1 1 --format json --output result.json

scan a.onnx b.onnx -r clean.onnx

[bold]Beside it[/bold]

scan layers MODEL: the activations of a model, to choose one with --layer

scan detectors: what each detector needs, and its paper

scan doctor: versions, providers that are really usable, telemetry

Exit codes: 0 clean, 1 suspicious, 2 error, 3 inconclusive.
"""


class Format(enum.Enum):
    """Output formats."""

    TABLE = "table"
    JSON = "json"


class ScanGroup(typer.core.TyperGroup):
    """A group whose first word may be a model: `scan m.onnx` is short for `scan model m.onnx`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Insert the default command where no other is named."""
        if not ctx.resilient_parsing and not args:
            args = ["--help"]
        if args and args[0] not in self.commands and args[0] not in _GROUP_OPTIONS:
            args = [_DEFAULT_COMMAND, *args]
        return super().parse_args(ctx, args)

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        """Leave the default command's name out of the usage line."""
        name, command, rest = super().resolve_command(ctx, args)
        return (None if name == _DEFAULT_COMMAND else name), command, rest


app = typer.Typer(cls=ScanGroup, pretty_exceptions_enable=False, rich_markup_mode="rich")


def _print_version(value: bool) -> None:
    if value:
        typer.echo(f"overactivation {importlib.metadata.version('overactivation')}")
        raise typer.Exit


@app.callback()
def _group(
    version: Annotated[bool, typer.Option("--version", callback=_print_version, is_eager=True)] = False,
) -> None:
    """Does this ONNX model hide a backdoor?"""


def _sizes(text: str) -> tuple[int, ...]:
    try:
        sizes = tuple(int(part) for part in text.replace("x", ",").split(","))
    except ValueError:
        sizes = ()
    if not sizes or min(sizes) < 1:
        raise UsageError(f"--input-shape {text!r} is no list of sizes", remedy="write it as in 3,224,224")
    return sizes


def _bytes(option: str, text: str) -> int:
    """Read a size such as 512MiB, 1.5GB or 2000000."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(?:([kMGT])(i?))?B?", text.strip())
    size = 0
    if found:
        number, prefix, binary = found.groups()
        size = int(float(number) * (1024 if binary else 1000) ** (1 + "kMGT".index(prefix) if prefix else 0))
    if size < 1:
        raise UsageError(f"{option} {text!r} is no size", remedy="write it as in 512MiB, 8GiB or 2000000")
    return size


@app.command(_DEFAULT_COMMAND, epilog=_EPILOG)
def scan_command(  # noqa: PLR0913, PLR0917 - one a command-line option
    models: Annotated[list[str], typer.Argument(metavar="MODEL", help="ONNX files to scan.", show_default=False)],
    reference: Annotated[
        list[str] | None, typer.Option("--reference", "-r", help="A clean ONNX model of the same input; repeatable.")
    ] = None,
    detector: Annotated[
        list[str] | None, typer.Option("--detector", "-d", help="Run only this detector; repeatable.")
    ] = None,
    noise: Annotated[Noise, typer.Option(help="Family of noise images.")] = Noise.UNIFORM,
    images: Annotated[int, typer.Option(min=2, help="Number of noise images.")] = 200,
    seed: Annotated[int, typer.Option(min=0, help="Of every random generator.")] = 0,
    input_range: Annotated[
        tuple[float, float] | None,
        typer.Option(metavar="LOW HIGH", help="Lowest and highest value of a valid input. Default: 0 1."),
    ] = None,
    input_shape: Annotated[
        str | None, typer.Option(metavar="C,H,W", help="Shape of one input, where the model leaves it open.")
    ] = None,
    layer: Annotated[str | None, typer.Option(help="Measure this value or node, not the first activation.")] = None,
    device: Annotated[Device, typer.Option(help="auto takes CUDA where a device is there.")] = Device.AUTO,
    threads: Annotated[int, typer.Option(min=1, help="ONNX Runtime's threads.")] = 1,
    timeout: Annotated[float, typer.Option(min=1, help="Seconds allowed for one model.")] = 600.0,
    memory_limit: Annotated[str, typer.Option(metavar="SIZE", help="Memory a model may need.")] = "8GiB",
    max_file_size: Annotated[str, typer.Option(metavar="SIZE", help="Of a model file.")] = "2GiB",
    max_nodes: Annotated[int, typer.Option(min=1, help="Nodes, functions expanded.")] = Limits().nodes,
    max_depth: Annotated[int, typer.Option(min=1, help="Nesting of sub-graphs and functions.")] = Limits().depth,
    max_trips: Annotated[int, typer.Option(min=1, help="Trips of a Loop that nothing ends before.")] = Limits().trips,
    output_format: Annotated[Format, typer.Option("--format", help="For people, or for programs.")] = Format.TABLE,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Write the result here, not to stdout.")] = None,
) -> None:
    """Compare a model with a clean one, and say whether it hides a backdoor."""
    if input_range is not None and not input_range[0] < input_range[1]:
        raise UsageError(
            f"--input-range {input_range[0]:g} {input_range[1]:g} is empty", remedy="give the lower value first"
        )
    settings = Settings(
        noise=noise,
        images=images,
        seed=seed,
        input_range=input_range,
        input_shape=_sizes(input_shape) if input_shape else None,
        layer=layer,
        device=device,
        threads=threads,
        detectors=tuple(detector or ()),
        timeout=timeout,
        limits=Limits(
            memory=_bytes("--memory-limit", memory_limit),
            file_size=_bytes("--max-file-size", max_file_size),
            nodes=max_nodes,
            depth=max_depth,
            trips=max_trips,
        ),
    )
    with _Output(output) as out:
        with _Bar() as bar:
            results = []
            for result in pipeline.scan_each(models, reference or (), settings, progress=bar.update):
                results.append(result)
                if output_format is Format.JSON:
                    out.write(json_report.render(result, indent=2 if len(models) == 1 else None))
        if output_format is Format.TABLE:
            _explain_failures(results)
            if measured := [r for r in results if r.runtime is not None or r.findings]:
                out.print(lambda console: terminal.render(measured, console))
    raise typer.Exit(exit_code(results))


@app.command("layers")
def layers_command(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="An ONNX file.", show_default=False)],
    output_format: Annotated[Format, typer.Option("--format", help="For people, or for programs.")] = Format.TABLE,
) -> None:
    """List the activations of a model: name, operator, shape and position."""
    answer = pipeline.layers(model)
    if output_format is Format.JSON:
        sys.stdout.write(json_report.write(answer))
        return
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for name in ("position", "operator", "shape", "value", "node"):
        table.add_column(name, justify="right" if name == "position" else "left", overflow="fold")
    for row in answer["layers"]:
        shape = "?" if row["shape"] is None else " x ".join(printable(str(d)) for d in row["shape"])
        cells = (str(row["position"]), row["operator"], shape, row["value"], row["node"])
        table.add_row(*(Text(printable(cell)) for cell in cells))
    _console(sys.stdout).print(table)


@app.command("detectors")
def detectors_command(
    output_format: Annotated[Format, typer.Option("--format", help="For people, or for programs.")] = Format.TABLE,
) -> None:
    """List the detectors with what each needs and its paper."""
    rows = pipeline.ask("rules")
    if output_format is Format.JSON:
        sys.stdout.write(json_report.write(rows))
        return
    table = Table(box=None, padding=(0, 2, 1, 0), header_style="bold")
    for name in ("detector", "needs", "a large statistic means", "reference"):
        table.add_column(name, overflow="fold")
    for row in rows:
        table.add_row(row["rule"]["id"], ", ".join(row["needs"]), row["rule"]["summary"], row["rule"]["reference"])
    _console(sys.stdout).print(table)


@app.command("doctor")
def doctor_command() -> None:
    """Show versions, the providers that are really usable, and what is switched off."""
    facts = pipeline.ask("diagnose")
    isolation = from_json(Confinement, facts["isolation"])
    devices = ", ".join(facts["cuda_devices"]) or "none usable"
    rows = {
        "python": sys.version.split()[0],
        **facts["versions"],
        "runtimes installed": ", ".join(f"{name} {version}" for name, version in facts["runtimes"].items()),
        "providers": "CPU" + (", CUDA" if facts["cuda_devices"] else ""),
        "CUDA devices": devices,
        "telemetry": "on" if facts["telemetry"] else "off",
        "isolation": "\n".join(isolation.granted()),
        "not isolated": "\n".join(isolation.missing()) or "nothing missing",
    }
    table = Table(box=None, padding=(0, 2, 0, 0), show_header=False)
    for name, value in rows.items():
        table.add_row(name, value)
    _console(sys.stdout).print(table)
    if len(facts["runtimes"]) > 1:
        raise UsageError(
            "both onnxruntime and onnxruntime-gpu are installed, and overwrite one another's files",
            remedy="uninstall both, then install overactivation[cpu] or overactivation[gpu]",
        )


def exit_code(results: Sequence[ScanResult]) -> int:
    """Return the worst exit code of several results, in the order suspicious, error, inconclusive, clean."""
    codes = {_exit_code(result) for result in results}
    return next(code for code in _WORST_FIRST if code in codes)


def _exit_code(result: ScanResult) -> int:
    if result.verdict is not Verdict.SUSPICIOUS and not all(map(unanalysable.explains, result.failures)):
        return EXIT_ERROR
    return _EXIT_CODES[result.verdict]


def run() -> None:
    """Run the command line; a `ScannerError` becomes one sentence on stderr and exit code 2."""
    try:
        app()
    except ScannerError as error:
        _complain(str(error))
        sys.exit(EXIT_ERROR)


def _explain_failures(results: Sequence[ScanResult]) -> None:
    """Say on stderr which files could not be measured at all, and why."""
    for result in results:
        if result.runtime is None and not result.findings:
            for failure in result.failures:
                _complain(failure.sentence)


def _complain(sentence: str) -> None:
    text = Text("error: ", "bold red").append(printable(sentence, 2000), "default")
    Console(stderr=True, highlight=False, soft_wrap=True).print(text)


def _console(file: TextIO) -> Console:
    """Return a console; without a terminal behind it, one of fixed width and without colour."""
    width = None if file.isatty() or "COLUMNS" in os.environ else _FILE_WIDTH
    return Console(file=file, width=width, highlight=False)


class _Output:
    """Where the result goes: stdout, or a file that appears whole under its name, or not at all."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._file: Any = sys.stdout

    def __enter__(self) -> Self:
        """Find out before the scan whether the file can be written."""
        if self._path is not None:
            try:
                if self._path.is_dir():
                    raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
                self._file = tempfile.NamedTemporaryFile("w", dir=self._path.parent, suffix=".tmp", delete=False)
            except OSError as error:
                raise _unwritable(self._path, error) from error
        return self

    def __exit__(self, kind: type[BaseException] | None, value: object, trace: TracebackType | None) -> None:
        """Give the file its name; what was written before an error is kept."""
        if self._path is None:
            return
        written, temporary = self._file.tell() > 0, Path(self._file.name)
        self._file.close()
        try:
            if written:
                # A temporary file is private; a report is as readable as its folder's other files.
                temporary.chmod(0o666 & ~_umask())
                temporary.replace(self._path)
            else:
                temporary.unlink()
        except OSError as error:
            sys.stdout.write(temporary.read_text())
            raise _unwritable(self._path, error) from error

    def write(self, text: str) -> None:
        """Add text."""
        self._file.write(text)
        self._file.flush()

    def print(self, render: Callable[[Console], None]) -> None:
        """Let a report draw on a console over the file."""
        render(_console(self._file))


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _unwritable(path: Path, error: OSError) -> UsageError:
    return UsageError(f"{str(path)!r} cannot be written ({error.strerror})", remedy="name another --output")


class _Bar:
    """A progress bar on stderr for work over a second, where a person is watching."""

    def __init__(self) -> None:
        self._start = time.monotonic()
        self._progress: Progress | None = None
        self._task = TaskID(0)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._progress is not None:
            self._progress.stop()

    def update(self, done: int, total: int) -> None:
        """Show how much of a model's work is done."""
        if not sys.stderr.isatty() or time.monotonic() - self._start < _BAR_AFTER:
            return
        if self._progress is None:
            self._progress = Progress(console=Console(stderr=True), transient=True)
            self._progress.start()
            self._task = self._progress.add_task("scanning")
        self._progress.update(self._task, completed=done, total=total)
