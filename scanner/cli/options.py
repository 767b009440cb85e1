"""The options of every command, each written once: what a person sees, and what it fills.

An option is one field of an option class below. From the field come the command's parameter, its
panel in the help, the setting that it fills, and the words that stand for that setting in
sentences (`scanner.cli.wording`).
"""

import dataclasses
import functools
import inspect
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any, get_args

import typer

from scanner import report
from scanner.cli import exits, policy
from scanner.errors import UsageError
from scanner.limits import GIB, Limits
from scanner.settings import Budget, Device, Noise, Settings
from scanner.values import frozen

COMPARE = "Compare with"
REGISTRY = "Many models"
MEASURE = "What to measure"
IMAGES = "Images and range"
SEARCH = "Search"
LIMITS = "Limits"
OUTPUT = "Output"
DISPLAY = "Display"
PANELS = (COMPARE, REGISTRY, MEASURE, IMAGES, SEARCH, LIMITS, OUTPUT, DISPLAY)

_DEFAULT = Settings()
_DETECTORS = Path(__file__).parent.parent / "detectors"
_RULES = {"translation": "not-the-file"}  # modules that are not called as their detector


class Call:
    """What a call of `scan` takes beside its settings: `references`, `baseline`, `evidence`.

    With the baseline goes `baseline_sha256`, which pins its file.
    """


class Fills:
    """What an option fills.

    Args:
        name: A field of `of`.
        of: `Settings`, `Limits`, or `Call` for what the command itself passes on.
        read: Makes the value from the option's name and what was typed.
    """

    def __init__(
        self, name: str, of: type = Settings, *, read: Callable[[str, Any], Any] | None = None
    ) -> None:
        self.name = name
        self.of = of
        self.read = read or (lambda _, typed: typed)


def numbers(example: str, *, lowest: int) -> Callable[[str, str], tuple[int, ...]]:
    """Return a reader of a list of numbers such as 3,224,224.

    The reader raises a `UsageError` for anything else.
    """

    def read(option: str, text: str) -> tuple[int, ...]:
        try:
            values = tuple(int(part) for part in text.replace("x", ",").split(","))
        except ValueError:
            values = ()
        if not values or min(values) < lowest:
            raise UsageError(
                f"{option} {text!r} is not a list of numbers", remedy=f"write it as in {example}"
            )
        return values

    return read


def size(option: str, text: str) -> int:
    """Read a size in bytes such as 512MiB, 1.5GB or 2000000.

    Raises:
        UsageError: The text is not a size.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(?:([kMGT])(i?))?B?", text.strip())
    count = 0
    if found:
        number, prefix, binary = found.groups()
        power = 1 + "kMGT".index(prefix) if prefix else 0
        count = int(float(number) * (1024 if binary else 1000) ** power)
    if count < 1:
        raise UsageError(
            f"{option} {text!r} is not a valid size",
            remedy="write it as in 512MiB, 8GiB or 2000000",
        )
    return count


def sha256(option: str, text: str) -> str:
    """Read a SHA-256 in hexadecimal.

    Raises:
        UsageError: The text is none.
    """
    if not re.fullmatch("[0-9A-Fa-f]{64}", text.strip()):
        raise UsageError(
            f"{option} {text!r} is not a SHA-256", remedy="give its 64 hexadecimal digits"
        )
    return text.strip().lower()


def span(option: str, ends: tuple[float, float]) -> tuple[float, float]:
    """Read the two ends of a range.

    Raises:
        UsageError: The range is empty.
    """
    low, high = ends
    if not low < high:
        raise UsageError(f"{option} {low:g} {high:g} is empty", remedy="give the lower value first")
    return low, high


def without_auto(arguments: list[str]) -> list[str]:
    """Return a command line without `--input-range auto`."""
    rest, left = list(arguments), []
    while rest:
        word = rest.pop(0)
        if word == "--input-range=auto":
            continue
        if word == "--input-range" and rest[:1] == ["auto"]:
            rest.pop(0)
            continue
        left.append(word)
    return left


def path(_option: str, named: Path) -> str:
    """Return a path that means the same in another working folder; a link stays a link."""
    return str(Path.cwd() / named)


def files(_option: str, named: list[str]) -> list[str]:
    """Return the files named, and the .onnx files of the folders named.

    Raises:
        UsageError: A folder holds none.
    """
    found: list[str] = []
    for name in named:
        if Path(name).is_dir():
            inside = sorted(str(file) for file in Path(name).glob("*.onnx"))
            if not inside:
                raise UsageError(
                    f"the folder {name!r} holds no .onnx file", remedy="name clean models"
                )
            found += inside
        else:
            found.append(name)
    return found


def detector_names(incomplete: str = "") -> list[str]:
    """Return the detectors whose names start so; their files say, so that completion is instant."""
    files = sorted(file.stem for file in _DETECTORS.glob("[!_]*.py"))
    names = [_RULES.get(name, name) for name in files]
    return [name for name in names if name.startswith(incomplete)]


def _format(name: str) -> str:
    if name not in report.FORMATS:
        choices = ", ".join(map(repr, report.FORMATS))
        raise typer.BadParameter(f"{name!r} is not one of {choices}.")
    return name


def _formats(texts: list[str] | None) -> list[str]:
    for text in texts or []:
        name, _, path = text.partition("=")
        if "=" in text and not path:
            raise typer.BadParameter(f"{text!r} names no file, as {name}=FILE would.")
        _format(name)
    return texts or []


def _format_names(incomplete: str) -> list[str]:
    return [name for name in report.FORMATS if name.startswith(incomplete)]


def _fail_on(words: list[str] | None) -> list[str]:
    for word in words or []:
        try:
            exits.condition(word)
        except ValueError as error:
            choices = ", ".join(exits.CONDITIONS)
            raise typer.BadParameter(f"{word!r} is not one of {choices}, size=N.") from error
    return words or []


def _fail_on_words(incomplete: str) -> list[str]:
    return [word for word in (*exits.CONDITIONS, "size=") if word.startswith(incomplete)]


def _without_color(chosen: bool) -> bool:
    # Every console that is made from here on asks the environment, Typer's included.
    if chosen:
        os.environ["NO_COLOR"] = "1"
    return chosen


def _option(panel: str, *flags: str, **more: Any) -> Any:
    variable = policy.ENVIRONMENT + flags[0].removeprefix("--").replace("-", "_").upper()
    return typer.Option(*flags, rich_help_panel=panel, envvar=variable, show_envvar=False, **more)


@frozen
class PrintOptions:
    """How every command prints."""

    no_color: Annotated[
        bool,
        _option(
            DISPLAY,
            "--no-color",
            help="Print without colour.",
            callback=_without_color,
            is_eager=True,
        ),
    ] = False


@frozen
class FormatOptions(PrintOptions):
    """How a command prints that knows several formats."""

    format: Annotated[
        str,
        _option(
            OUTPUT,
            "--format",
            metavar="table|json",
            help="table is for people, json for programs.",
            callback=_format,
            autocompletion=_format_names,
        ),
    ] = "table"


@frozen
class CheckOptions(FormatOptions):
    """What a check takes."""

    input_shape: Annotated[
        str | None,
        _option(
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


@frozen
class ReportOptions(PrintOptions):
    """Where the reports of results go, and what of them fails a pipeline."""

    format: Annotated[
        list[str] | None,
        _option(
            OUTPUT,
            "--format",
            metavar="NAME[=FILE]",
            help=f"Write this report: {', '.join(report.FORMATS)}. Repeatable, each with a file: "
            "--format sarif=out.sarif. Without a file it replaces the table on stdout.",
            callback=_formats,
            autocompletion=_format_names,
        ),
    ] = None
    output: Annotated[
        Path | None,
        _option(
            OUTPUT,
            "--output",
            "-o",
            metavar="FILE",
            help="Write to this file what would go to stdout.",
        ),
    ] = None
    config: Annotated[
        Path | None,
        _option(
            OUTPUT,
            "--config",
            metavar="FILE",
            help="The policy to follow. [dim]\\[default: the nearest scan.toml, or "
            "pyproject.toml with a table tool.overactivation][/dim]",
        ),
    ] = None
    fdr: Annotated[
        float | None,
        _option(
            OUTPUT,
            "--fdr",
            metavar="SHARE",
            min=0.0001,
            max=0.5,
            help="Say of several models how many stand out with this share of false discoveries "
            "(Benjamini-Hochberg).",
        ),
    ] = None
    verbose: Annotated[
        bool,
        _option(
            DISPLAY,
            "--verbose",
            "-v",
            help="Show every detector in full, with the triggers drawn, and every model.",
        ),
    ] = False
    fail_on: Annotated[
        list[str] | None,
        _option(
            OUTPUT,
            "--fail-on",
            metavar="WHAT",
            help="What ends with an exit code other than 0: suspicious, inconclusive, a severity "
            "(note, warning, confirmed), size=N, or nothing. Repeatable. "
            "[dim]\\[default: suspicious and inconclusive][/dim]",
            callback=_fail_on,
            autocompletion=_fail_on_words,
        ),
    ] = None


@frozen
class MeasureOptions(PrintOptions):
    """What a scan and a calibration share: what to measure, on what, and where."""

    detector: Annotated[
        list[str] | None,
        _option(
            MEASURE,
            "--detector",
            "-d",
            metavar="NAME",
            help="Run only this detector; repeatable. 'scan detectors' lists them.",
            autocompletion=detector_names,
        ),
        Fills("detectors", read=lambda _, names: tuple(names)),
    ] = None
    layer: Annotated[
        str | None,
        _option(
            MEASURE,
            "--layer",
            metavar="NAME",
            help="Measure this value or node instead of the first activation. "
            "'scan layers MODEL' lists them.",
        ),
        Fills("layer"),
    ] = None
    logits: Annotated[
        str | None,
        _option(
            MEASURE,
            "--logits",
            metavar="NAME",
            help="Name of the value that holds the class scores.",
        ),
        Fills("logits"),
    ] = None
    noise: Annotated[
        Noise,
        _option(
            IMAGES,
            "--noise",
            metavar="FAMILY",
            help=f"Family of noise images: {', '.join(family.value for family in Noise)}.",
        ),
        Fills("noise"),
    ] = _DEFAULT.noise
    images: Annotated[
        int,
        _option(IMAGES, "--images", metavar="N", min=2, help="Number of noise images."),
        Fills("images"),
    ] = _DEFAULT.images
    images_npz: Annotated[
        Path | None,
        _option(
            IMAGES,
            "--images-npz",
            metavar="FILE",
            help="Clean images (.npz or .npy) instead of noise.",
        ),
        Fills("images_file", read=path),
    ] = None
    images_dir: Annotated[
        Path | None,
        _option(
            IMAGES,
            "--images-dir",
            metavar="FOLDER",
            help="A folder of clean images instead of noise.",
        ),
        Fills("images_folder", read=path),
    ] = None
    input_range: Annotated[
        tuple[float, float] | None,
        _option(
            IMAGES,
            "--input-range",
            metavar="LOW HIGH",
            help="Lowest and highest value of a valid input; 'auto' finds them. "
            "[dim]\\[default: auto][/dim]",
        ),
        Fills("input_range", read=span),
    ] = None
    input_shape: Annotated[
        str | None,
        _option(
            IMAGES,
            "--input-shape",
            metavar="C,H,W",
            help="Shape of one input, where the model leaves it open.",
        ),
        Fills("input_shape", read=numbers("3,224,224", lowest=1)),
    ] = None
    seed: Annotated[
        int,
        _option(IMAGES, "--seed", metavar="N", min=0, help="Seed of every random generator."),
        Fills("seed"),
    ] = _DEFAULT.seed
    budget: Annotated[
        Budget,
        _option(SEARCH, "--budget", help="How long to search for triggers."),
        Fills("budget"),
    ] = _DEFAULT.budget
    device: Annotated[
        Device,
        _option(LIMITS, "--device", help="auto uses CUDA where a device is usable."),
        Fills("device"),
    ] = _DEFAULT.device
    threads: Annotated[
        int,
        _option(LIMITS, "--threads", metavar="N", min=1, help="Threads of ONNX Runtime."),
        Fills("threads"),
    ] = _DEFAULT.threads
    timeout: Annotated[
        float | None,
        _option(
            LIMITS,
            "--timeout",
            metavar="SECONDS",
            min=1,
            help="Time allowed for one model and its references. [dim]\\[default: by budget][/dim]",
        ),
        Fills("timeout"),
    ] = None
    require_isolation: Annotated[
        bool,
        _option(
            LIMITS,
            "--require-isolation",
            help="Refuse to run where a part of the isolation is missing.",
        ),
        Fills("require_isolation"),
    ] = _DEFAULT.require_isolation
    quiet: Annotated[
        bool,
        _option(DISPLAY, "--quiet", "-q", help="Show errors, but no progress and no notes."),
    ] = False


def _bytes(count: int) -> str:
    return f"{count // GIB}GiB"


@frozen
class ScanOptions(MeasureOptions, ReportOptions):
    """What only a scan takes: what to compare with, what a model may cost, where results go."""

    reference: Annotated[
        list[str] | None,
        _option(
            COMPARE,
            "--reference",
            "-r",
            metavar="MODEL|FOLDER",
            help="A clean ONNX model with the same input, or a folder of them; repeatable.",
        ),
        Fills("references", Call, read=files),
    ] = None
    baseline: Annotated[
        Path | None,
        _option(
            COMPARE,
            "--baseline",
            "-b",
            metavar="FILE",
            help="Clean models of the same recipe, measured by 'scan calibrate'.",
        ),
        Fills("baseline", Call),
    ] = None
    baseline_sha256: Annotated[
        str | None,
        _option(
            COMPARE,
            "--baseline-sha256",
            metavar="HEX",
            help="Refuse a baseline whose file has another SHA-256.",
        ),
        Fills("baseline_sha256", Call, read=sha256),
    ] = None
    alpha: Annotated[
        float,
        _option(
            COMPARE,
            "--alpha",
            metavar="SHARE",
            min=0.0001,
            max=0.5,
            help="Share of clean models that may be called suspicious.",
        ),
        Fills("alpha"),
    ] = _DEFAULT.alpha
    miss: Annotated[
        float,
        _option(
            COMPARE,
            "--miss",
            metavar="SHARE",
            min=0.0,
            max=0.5,
            help="Share of backdoored networks that may stand out no further than a model called "
            "clean, where networks of other recipes judge it.",
        ),
        Fills("miss"),
    ] = _DEFAULT.miss
    classes: Annotated[
        str | None,
        _option(
            SEARCH, "--classes", metavar="0,3,7", help="Search for triggers of these classes only."
        ),
        Fills("classes", read=numbers("0,3,7", lowest=0)),
    ] = None
    memory_limit: Annotated[
        str,
        _option(
            LIMITS, "--memory-limit", metavar="SIZE", help="Most memory that a model may need."
        ),
        Fills("memory", Limits, read=size),
    ] = _bytes(_DEFAULT.limits.memory)
    max_file_size: Annotated[
        str,
        _option(LIMITS, "--max-file-size", metavar="SIZE", help="Largest model file to open."),
        Fills("file_size", Limits, read=size),
    ] = _bytes(_DEFAULT.limits.file_size)
    max_nodes: Annotated[
        int,
        _option(
            LIMITS, "--max-nodes", metavar="N", min=1, help="Most graph nodes, functions expanded."
        ),
        Fills("nodes", Limits),
    ] = _DEFAULT.limits.nodes
    max_depth: Annotated[
        int,
        _option(
            LIMITS,
            "--max-depth",
            metavar="N",
            min=1,
            help="Deepest nesting of sub-graphs and functions.",
        ),
        Fills("depth", Limits),
    ] = _DEFAULT.limits.depth
    max_trips: Annotated[
        int,
        _option(
            LIMITS,
            "--max-trips",
            metavar="N",
            min=1,
            help="Most iterations of a Loop that nothing ends earlier.",
        ),
        Fills("trips", Limits),
    ] = _DEFAULT.limits.trips
    max_parts: Annotated[
        int,
        _option(
            LIMITS,
            "--max-parts",
            metavar="N",
            min=1,
            help="Most names, nodes, dimensions and other parts of a file's description.",
        ),
        Fills("parts", Limits),
    ] = _DEFAULT.limits.parts
    max_interface: Annotated[
        int,
        _option(
            LIMITS,
            "--max-interface",
            metavar="N",
            min=1,
            help="Most inputs and outputs of a graph.",
        ),
        Fills("interface", Limits),
    ] = _DEFAULT.limits.interface
    lenient: Annotated[
        bool,
        _option(
            LIMITS,
            "--lenient",
            help="Measure a file even if it can be read in several ways.",
        ),
        Fills("lenient", Limits),
    ] = _DEFAULT.limits.lenient
    include: Annotated[
        list[str] | None,
        _option(
            REGISTRY,
            "--include",
            metavar="PATTERN",
            help="Of folders, scan only what matches, as in 'resnet*'; repeatable.",
        ),
    ] = None
    exclude: Annotated[
        list[str] | None,
        _option(
            REGISTRY, "--exclude", metavar="PATTERN", help="Leave out what matches; repeatable."
        ),
    ] = None
    jobs: Annotated[
        int,
        _option(
            REGISTRY, "--jobs", "-j", metavar="N", min=1, help="Measure so many models at a time."
        ),
    ] = 1
    cache: Annotated[
        Path | None,
        _option(
            REGISTRY,
            "--cache",
            metavar="FOLDER",
            help="Keep what was measured here; an unchanged model is not measured again.",
        ),
        Fills("cache", Call),
    ] = None
    evidence: Annotated[
        Path | None,
        _option(
            OUTPUT,
            "--evidence",
            metavar="FOLDER",
            help="Write what a person can check into this folder: triggers, stamped images.",
        ),
        Fills("evidence", Call),
    ] = None


@frozen
class CalibrateOptions(MeasureOptions):
    """What only a calibration takes: the baseline file, and where its models come from."""

    output: Annotated[
        Path,
        _option(OUTPUT, "--output", "-o", metavar="FILE", help="The baseline file to write."),
    ]
    name: Annotated[
        str,
        _option(
            OUTPUT,
            "--name",
            help="Name of the recipe. [dim]\\[default: the file's name][/dim]",
            show_default=False,
        ),
    ] = ""
    provenance: Annotated[
        str,
        _option(
            OUTPUT, "--provenance", metavar="TEXT", help="Where the models come from, in words."
        ),
    ] = "not stated"
    keep: Annotated[
        list[str] | None,
        _option(
            REGISTRY,
            "--keep",
            metavar="NAME",
            help="Confirm that this model is clean although it stands far apart from the others; "
            "repeatable.",
        ),
        Fills("keep", Call, read=lambda _, names: names),
    ] = None
    cache: Annotated[
        Path | None,
        _option(
            REGISTRY,
            "--cache",
            metavar="FOLDER",
            help="Keep what was measured here; a calibration that was interrupted resumes.",
        ),
        Fills("cache", Call),
    ] = None


def takes_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command one parameter for each field of the option classes in its signature.

    Typer builds a command from a function's parameters. This writes them: a parameter `options:
    ScanOptions` becomes one parameter per option, in the order of the panels.
    """
    options: dict[str, Any] = {}
    parameters = []
    for parameter in inspect.signature(command).parameters.values():
        kind = parameter.annotation
        if not dataclasses.is_dataclass(kind):
            parameters.append(parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY))
            continue
        options[parameter.name] = kind
        parameters += [
            inspect.Parameter(
                field.name,
                inspect.Parameter.KEYWORD_ONLY,
                annotation=field.type,
                default=inspect.Parameter.empty if _is_required(field) else field.default,
            )
            for field in dataclasses.fields(kind)
        ]
    parameters.sort(key=lambda parameter: _panel(parameter.annotation))

    @functools.wraps(command)
    def spread(**given: Any) -> None:
        gathered = {
            name: kind(**{field.name: given.pop(field.name) for field in dataclasses.fields(kind)})
            for name, kind in options.items()
        }
        command(**given, **gathered)

    spread.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    spread.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return spread


def names() -> dict[str, str]:
    """Return the parameter that stands for each option that a policy may set."""
    kinds = (ScanOptions, CalibrateOptions)
    fields = (field for kind in kinds for field in dataclasses.fields(kind))
    flags = {flag(field).removeprefix("--"): field.name for field in fields}
    return {name: field for name, field in flags.items() if name != "config"}


def flag(field: "dataclasses.Field[Any]") -> str:
    """Return the option that an option class's field is."""
    parts = get_args(field.type)
    option: Any = next(part for part in parts if isinstance(part, typer.models.OptionInfo))
    # In an annotation, Typer keeps the first flag where a default would stand.
    return str(option.default)


def _is_required(field: "dataclasses.Field[Any]") -> bool:
    return field.default is dataclasses.MISSING


def _panel(annotation: Any) -> int:
    """Return where in the help a parameter stands; arguments come first."""
    panels = [getattr(part, "rich_help_panel", None) for part in get_args(annotation)]
    return next((PANELS.index(panel) for panel in panels if panel in PANELS), -1)


def filling(kind: type) -> Iterator[tuple[str, str, Fills]]:
    """Yield field, option and what it fills for every option of a class that fills something."""
    for field in dataclasses.fields(kind):
        parts = get_args(field.type)
        for fills in parts:
            if isinstance(fills, Fills):
                yield field.name, flag(field), fills


def filled(options: Any, of: type) -> dict[str, Any]:
    """Return what the options fill in `Settings`, `Limits` or `Call`; what was not typed is absent.

    Raises:
        UsageError: An option's value makes no sense.
    """
    return {
        fills.name: fills.read(flag, typed)
        for name, flag, fills in filling(type(options))
        if fills.of is of and (typed := getattr(options, name)) not in (None, [])
    }


def settings(options: MeasureOptions) -> Settings:
    """Return the settings that the options make.

    Raises:
        UsageError: An option's value makes no sense, or two exclude one another.
    """
    limits = Limits(**filled(options, Limits))
    made = Settings(**filled(options, Settings), limits=limits)
    if made.images_file and made.images_folder:
        raise UsageError(
            "--images-npz and --images-dir exclude one another", remedy="give one of them"
        )
    # Also where no detector that runs looks at them: a typing error is not to go unnoticed.
    if made.images_file and not Path(made.images_file).exists():
        raise UsageError(
            f"there is no file {str(options.images_npz)!r}", remedy="check the path in --images-npz"
        )
    if made.images_folder and not Path(made.images_folder).is_dir():
        raise UsageError(
            f"there is no folder {str(options.images_dir)!r}",
            remedy="check the path in --images-dir",
        )
    return made
