"""The command `scan`: words in, values out, an exit code."""

import enum
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
import typer.core
from rich.console import Console
from rich.table import Table
from rich.text import Text

from scanner import pipeline
from scanner.cli import options
from scanner.cli.output import Bar, Output, console
from scanner.errors import ScannerError, UsageError
from scanner.judging import unanalysable
from scanner.judging.calibration import read_baseline, write_baseline
from scanner.limits import Confinement, Limits
from scanner.report import json as json_report
from scanner.report import terminal
from scanner.report.escape import printable
from scanner.report.evidence import write_evidence
from scanner.results import ScanResult, Verdict
from scanner.settings import Budget, Device, Noise
from scanner.values import from_json

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
_LIMITS = Limits()
_GROUP_OPTIONS = ("--version", "--install-completion", "--show-completion")

_EPILOG = """
[bold]Examples[/bold]

scan model.onnx --reference clean.onnx

scan model.onnx -r clean.onnx --noise gaussian --input-range -1 1 --format json --output result.json

scan a.onnx b.onnx -r clean.onnx

scan model.onnx -r clean.onnx --budget standard --images-npz images.npz --evidence evidence/

[bold]Beside it[/bold]

scan calibrate CLEAN... --output baseline.json: measure clean models once, then scan with --baseline baseline.json

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
        from importlib.metadata import version  # noqa: PLC0415 - a fifth of the command's own start-up, for one option

        typer.echo(f"overactivation {version('overactivation')}")
        raise typer.Exit


@app.callback()
def _group(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """Does this ONNX model hide a backdoor?"""


@app.command(_DEFAULT_COMMAND, epilog=_EPILOG)
def scan_command(  # noqa: PLR0913, PLR0917 - one a command-line option
    models: Annotated[
        list[str], typer.Argument(metavar="MODEL", help="ONNX files to scan.", show_default=False)
    ],
    reference: options.Reference = None,
    baseline: options.BaselineFile = None,
    alpha: options.Alpha = 0.05,
    detector: options.Detectors = None,
    noise: options.NoiseFamily = Noise.UNIFORM,
    images: options.Images = 200,
    seed: options.Seed = 0,
    input_range: options.InputRange = None,
    input_shape: options.InputShape = None,
    layer: options.Layer = None,
    logits: options.Logits = None,
    budget: options.Effort = Budget.QUICK,
    classes: options.Classes = None,
    images_npz: options.ImagesFile = None,
    images_dir: options.ImagesFolder = None,
    device: options.RunOn = Device.AUTO,
    threads: options.Threads = 1,
    timeout: options.Timeout = None,
    memory_limit: options.Memory = "8GiB",
    max_file_size: options.FileSize = "2GiB",
    max_nodes: options.Nodes = _LIMITS.nodes,
    max_depth: options.Depth = _LIMITS.depth,
    max_trips: options.Trips = _LIMITS.trips,
    require_isolation: options.RequireIsolation = False,
    output_format: Annotated[
        Format, typer.Option("--format", help="For people, or for programs.")
    ] = Format.TABLE,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write the result here, not to stdout.")
    ] = None,
    evidence: Annotated[
        Path | None,
        typer.Option(
            help="Write what a person can check into this folder: triggers, stamped images."
        ),
    ] = None,
) -> None:
    """Compare a model with clean ones, and say whether it hides a backdoor."""
    limits = Limits(
        memory=options.size("--memory-limit", memory_limit),
        file_size=options.size("--max-file-size", max_file_size),
        nodes=max_nodes,
        depth=max_depth,
        trips=max_trips,
    )
    settings = options.settings(
        noise=noise, images=images, seed=seed, input_range=input_range, input_shape=input_shape, layer=layer,
        logits=logits, budget=budget, classes=classes, images_npz=images_npz, images_dir=images_dir, device=device,
        threads=threads, detector=detector, timeout=timeout, alpha=alpha, limits=limits,
        require_isolation=require_isolation,
    )  # fmt: skip
    population = read_baseline(baseline) if baseline else None
    references = options.references(reference)
    results = []
    with Output(output) as out:
        with Bar() as bar:
            for result in pipeline.scan_each(
                models, references, settings, baseline=population, progress=bar.update
            ):
                results.append(result)
                if output_format is Format.JSON:
                    out.write(json_report.render(result, indent=2 if len(models) == 1 else None))
        if output_format is Format.TABLE:
            _explain_failures(results)
            if measured := [r for r in results if r.runtime is not None or r.findings]:
                out.print(lambda console: terminal.render(measured, console))
    if evidence is not None:
        for path in write_evidence(results, evidence):
            _note(f"wrote {path}")
    raise typer.Exit(exit_code(results))


@app.command("calibrate")
def calibrate_command(  # noqa: PLR0913, PLR0917 - one a command-line option
    models: Annotated[
        list[str], typer.Argument(metavar="CLEAN", help="Clean ONNX files, or folders of them.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="The baseline file to write.")],
    name: Annotated[str, typer.Option(help="Name of the recipe.")] = "",
    provenance: Annotated[
        str, typer.Option(help="Where the models come from, in words.")
    ] = "not stated",
    detector: options.Detectors = None,
    noise: options.NoiseFamily = Noise.UNIFORM,
    images: options.Images = 200,
    seed: options.Seed = 0,
    input_range: options.InputRange = None,
    input_shape: options.InputShape = None,
    layer: options.Layer = None,
    logits: options.Logits = None,
    budget: options.Effort = Budget.QUICK,
    images_npz: options.ImagesFile = None,
    images_dir: options.ImagesFolder = None,
    device: options.RunOn = Device.AUTO,
    threads: options.Threads = 1,
    timeout: options.Timeout = None,
    require_isolation: options.RequireIsolation = False,
) -> None:
    """Measure clean models of one recipe once, so that a scan can judge a model by its rank among them."""
    settings = options.settings(
        noise=noise, images=images, seed=seed, input_range=input_range, input_shape=input_shape, layer=layer,
        logits=logits, budget=budget, classes=None, images_npz=images_npz, images_dir=images_dir, device=device,
        threads=threads, detector=detector, timeout=timeout, require_isolation=require_isolation,
    )  # fmt: skip
    with Output(output) as out:
        with Bar() as bar:
            baseline = pipeline.calibrate(
                options.references(models), settings, name=name or output.stem, provenance=provenance,
                progress=bar.update,
            )  # fmt: skip
        out.write(write_baseline(baseline))
    _note(
        f"{output}: {len(baseline.records)} clean models; p-values from "
        f"1/{len(baseline.records) + 1} up"
    )


@app.command("layers")
def layers_command(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="An ONNX file.", show_default=False)
    ],
    output_format: Annotated[
        Format, typer.Option("--format", help="For people, or for programs.")
    ] = Format.TABLE,
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
    console(sys.stdout).print(table)


@app.command("detectors")
def detectors_command(
    output_format: Annotated[
        Format, typer.Option("--format", help="For people, or for programs.")
    ] = Format.TABLE,
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
        table.add_row(
            row["rule"]["id"],
            ", ".join(row["needs"]),
            row["rule"]["summary"],
            row["rule"]["reference"],
        )
    console(sys.stdout).print(table)


@app.command("doctor")
def doctor_command() -> None:
    """Show versions, the providers that are really usable, and what is switched off."""
    facts = pipeline.ask("diagnose")
    isolation = from_json(Confinement, facts["isolation"])
    devices = ", ".join(facts["cuda_devices"]) or "none usable"
    rows = {
        "python": sys.version.split()[0],
        **facts["versions"],
        "runtimes installed": ", ".join(
            f"{name} {version}" for name, version in facts["runtimes"].items()
        ),
        "providers": "CPU" + (", CUDA" if facts["cuda_devices"] else ""),
        "CUDA devices": devices,
        "telemetry": "on" if facts["telemetry"] else "off",
        "isolation": "\n".join(isolation.granted()),
        "not isolated": "\n".join(isolation.missing()) or "nothing missing",
    }
    table = Table(box=None, padding=(0, 2, 0, 0), show_header=False)
    for name, value in rows.items():
        table.add_row(name, value)
    console(sys.stdout).print(table)
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
    if result.verdict is not Verdict.SUSPICIOUS and not all(
        map(unanalysable.explains, result.failures)
    ):
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


def _note(sentence: str) -> None:
    Console(stderr=True, highlight=False, soft_wrap=True).print(
        Text(printable(sentence, 2000), "dim")
    )
