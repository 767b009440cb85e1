"""The options of every command, each written once: what a person sees, and what it fills.

Here are those of a scan and of a calibration. The others stand beside them by subject:
`output_options` for whatever prints, `measure_options` for whatever measures. What an option is
says `fields`, and how what was typed is read, `readers`.
"""

import dataclasses
from pathlib import Path
from typing import Annotated

from scanner.cli.fields import (
    COMPARE,
    DISPLAY,
    LIMITS,
    OUTPUT,
    PANELS,
    REGISTRY,
    SEARCH,
    Call,
    Fills,
    filled,
    filling,
    flag,
    help_of,
    option,
    takes_options,
)
from scanner.cli.measure_options import MeasureOptions, settings
from scanner.cli.output_options import CheckOptions, FormatOptions, PrintOptions, ReportOptions
from scanner.cli.readers import (
    files,
    finds_range,
    is_auto,
    memory,
    numbers,
    sha256,
    size,
    without_auto,
)
from scanner.limits import GIB, Limits
from scanner.settings import Settings
from scanner.values import frozen

__all__ = [
    "DISPLAY", "PANELS", "CalibrateOptions", "Call", "CheckOptions", "FormatOptions",
    "MeasureOptions", "PrintOptions", "ReportOptions", "ScanOptions", "files", "filled", "filling",
    "finds_range", "flag", "help_of", "is_auto", "names", "settings", "takes_options",
    "without_auto",
]  # fmt: skip

_DEFAULT = Settings()


# Declared once for several commands.
References = Annotated[
    list[str] | None,
    option(
        COMPARE,
        "--reference",
        "-r",
        metavar="MODEL|FOLDER",
        help="A clean ONNX model with the same input, or a folder of them; repeatable.",
    ),
    Fills("references", Call, read=files),
]
MemoryLimit = Annotated[
    str,
    option(LIMITS, "--memory-limit", metavar="SIZE", help="Most memory that a model may need."),
    Fills("memory", Limits, read=memory),
]
Baseline = Annotated[
    Path | None,
    option(
        COMPARE,
        "--baseline",
        "-b",
        metavar="FILE",
        help="Clean models of the same recipe, measured by 'scan calibrate'.",
    ),
    Fills("baseline", Call),
]
BaselineSha256 = Annotated[
    str | None,
    option(
        COMPARE,
        "--baseline-sha256",
        metavar="HEX",
        help="Refuse a baseline whose file has another SHA-256.",
    ),
    Fills("baseline_sha256", Call, read=sha256),
]


def _bytes(count: int) -> str:
    return f"{count // GIB}GiB"


MEMORY = _bytes(_DEFAULT.limits.memory)
"""As `--memory-limit` takes it, by default."""


@frozen
class ScanOptions(MeasureOptions, ReportOptions):
    """What only a scan takes: what to compare with, what a model may cost, where results go."""

    reference: References = None
    baseline: Baseline = None
    baseline_sha256: BaselineSha256 = None
    alpha: Annotated[
        float,
        option(
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
        option(
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
        option(
            SEARCH, "--classes", metavar="0,3,7", help="Search for triggers of these classes only."
        ),
        Fills("classes", read=numbers("0,3,7", lowest=0)),
    ] = None
    explain_plan: Annotated[
        bool,
        option(
            SEARCH,
            "--explain-plan",
            help="Time a few steps and say what a scan would do, in stages, each with its time "
            "here; nothing is searched, and the exit code is 0.",
        ),
    ] = False
    memory_limit: MemoryLimit = MEMORY
    max_file_size: Annotated[
        str,
        option(LIMITS, "--max-file-size", metavar="SIZE", help="Largest model file to open."),
        Fills("file_size", Limits, read=size),
    ] = _bytes(_DEFAULT.limits.file_size)
    max_nodes: Annotated[
        int,
        option(
            LIMITS, "--max-nodes", metavar="N", min=1, help="Most graph nodes, functions expanded."
        ),
        Fills("nodes", Limits),
    ] = _DEFAULT.limits.nodes
    max_depth: Annotated[
        int,
        option(
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
        option(
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
        option(
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
        option(
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
        option(
            LIMITS,
            "--lenient",
            help="Measure a file even if it can be read in several ways.",
        ),
        Fills("lenient", Limits),
    ] = _DEFAULT.limits.lenient
    include: Annotated[
        list[str] | None,
        option(
            REGISTRY,
            "--include",
            metavar="PATTERN",
            help="Of folders, scan only what matches, as in 'resnet*'; repeatable.",
        ),
    ] = None
    exclude: Annotated[
        list[str] | None,
        option(
            REGISTRY, "--exclude", metavar="PATTERN", help="Leave out what matches; repeatable."
        ),
    ] = None
    jobs: Annotated[
        int,
        option(
            REGISTRY, "--jobs", "-j", metavar="N", min=1, help="Measure so many models at a time."
        ),
    ] = 1
    scheduler: Annotated[
        str | None,
        option(
            REGISTRY,
            "--scheduler",
            metavar="ADDRESS",
            help="Measure on the workers of this dask scheduler, such as tcp://10.0.0.1:8786; they "
            "must find the models under the same paths.",
        ),
        Fills("scheduler", Call),
    ] = None
    cache: Annotated[
        Path | None,
        option(
            REGISTRY,
            "--cache",
            metavar="FOLDER",
            help="Keep what was measured here; an unchanged model is not measured again.",
        ),
        Fills("cache", Call),
    ] = None
    evidence: Annotated[
        Path | None,
        option(
            OUTPUT,
            "--evidence",
            metavar="FOLDER",
            help="Write what a person can check into this folder: triggers, stamped images.",
        ),
        Fills("evidence", Call),
    ] = None


@frozen
class CalibrateOptions(MeasureOptions):
    """What only a calibration takes: the baseline file, and where its models come from.

    That field is not called as its option: what a policy sets for scans is the file of a report.
    """

    baseline_file: Annotated[
        Path,
        option(OUTPUT, "--output", "-o", metavar="FILE", help="The baseline file to write."),
    ]
    name: Annotated[
        str,
        option(
            OUTPUT,
            "--name",
            help="Name of the recipe. [dim]\\[default: the file's name][/dim]",
            show_default=False,
        ),
    ] = ""
    provenance: Annotated[
        str,
        option(
            OUTPUT, "--provenance", metavar="TEXT", help="Where the models come from, in words."
        ),
    ] = "not stated"
    keep: Annotated[
        list[str] | None,
        option(
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
        option(
            REGISTRY,
            "--cache",
            metavar="FOLDER",
            help="Keep what was measured here; a calibration that was interrupted resumes.",
        ),
        Fills("cache", Call),
    ] = None


def names() -> dict[str, str]:
    """Return the parameter that stands for each option that a policy may set."""
    kinds = (CalibrateOptions, ScanOptions)  # the last that has an option says whose it is
    fields = (field for kind in kinds for field in dataclasses.fields(kind))
    flags = {flag(field).removeprefix("--"): field.name for field in fields}
    return {name: field for name, field in flags.items() if name != "config"}
