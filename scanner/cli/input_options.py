"""The options of `scan inputs`."""

from pathlib import Path
from typing import Annotated

from scanner.cli.fields import (
    COMPARE,
    DISPLAY,
    IMAGES,
    LIMITS,
    OUTPUT,
    Fills,
    filled,
    option,
)
from scanner.cli.measure_options import (
    InputRange,
    InputShape,
    Logits,
    OnDevice,
    RequireIsolation,
    Threads,
    Unconfined,
)
from scanner.cli.options import MemoryLimit
from scanner.cli.output_options import InsteadOfStdout, PrintOptions, format_names, formats, share
from scanner.limits import GIB, Limits
from scanner.settings import INPUT_ALPHA, Settings
from scanner.values import frozen

_DEFAULT = Settings()


@frozen
class InputOptions(PrintOptions):
    """What `scan inputs` takes.

    Where a field is called otherwise than its option, a policy for scans of models must not set it:
    there `--alpha` is a share of models.
    """

    clean: Annotated[
        Path,
        option(
            COMPARE,
            "--clean",
            metavar="IMAGES",
            help="Images that carry no trigger: a folder, or an .npz or .npy file. Some 200 do; "
            "109 are needed at alpha 0.01.",
        ),
    ]
    level: Annotated[
        float,
        option(
            COMPARE,
            "--alpha",
            metavar="SHARE",
            min=0.0001,
            max=0.5,
            help="Share of clean inputs that may stand out.",
        ),
    ] = INPUT_ALPHA
    false_discoveries: Annotated[
        float | None,
        option(
            COMPARE,
            "--fdr",
            metavar="SHARE",
            min=0.0001,
            max=0.5,
            help="Say how many stand out with this share of false discoveries "
            "(Benjamini-Hochberg).",
            callback=share,
        ),
    ] = None
    triggers: Annotated[
        Path | None,
        option(
            COMPARE,
            "--triggers",
            metavar="RESULT",
            help="A result that 'scan MODEL --format json' wrote: look for the triggers that it "
            "found, too.",
        ),
    ] = None
    logits: Logits = None
    input_range: InputRange = None
    input_shape: InputShape = None
    seed: Annotated[
        int,
        option(
            IMAGES,
            "--seed",
            metavar="N",
            min=0,
            help="Draws which clean images inputs are laid over.",
        ),
        Fills("seed"),
    ] = _DEFAULT.seed
    device: OnDevice = _DEFAULT.device
    threads: Threads = _DEFAULT.threads
    timeout: Annotated[
        float | None,
        option(
            LIMITS,
            "--timeout",
            metavar="SECONDS",
            min=1,
            help="Time allowed for the clean images, and again for each part of the inputs.",
        ),
        Fills("timeout"),
    ] = None
    memory_limit: MemoryLimit = f"{_DEFAULT.limits.memory // GIB}GiB"
    require_isolation: RequireIsolation = _DEFAULT.require_isolation
    unconfined: Unconfined = _DEFAULT.unconfined
    reports: Annotated[
        list[str] | None,
        option(
            OUTPUT,
            "--format",
            metavar="NAME[=FILE]",
            help="Write this report: table, json, jsonl, sarif, markdown, html. Repeatable, each "
            "with a file.",
            callback=formats,
            autocompletion=format_names,
        ),
    ] = None
    stdout_file: InsteadOfStdout = None
    pictures: Annotated[
        Path | None,
        option(
            OUTPUT,
            "--evidence",
            metavar="FOLDER",
            help="Write pictures of inputs that stand out into this folder, and of where they do.",
        ),
    ] = None
    verbose: Annotated[
        bool, option(DISPLAY, "--verbose", "-v", help="Show every input that stands out.")
    ] = False
    quiet: Annotated[
        bool,
        option(DISPLAY, "--quiet", "-q", help="Show errors, but no progress and no notes."),
    ] = False


def settings(options: InputOptions) -> Settings:
    """Return the settings that the options make.

    Raises:
        UsageError: An option's value makes no sense.
    """
    return Settings(**filled(options, Settings), limits=Limits(**filled(options, Limits)))
