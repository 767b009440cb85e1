"""The options that a scan and a calibration share, and the settings that they make."""

import stat
from pathlib import Path
from typing import Annotated

from scanner.cli.fields import DISPLAY, IMAGES, LIMITS, MEASURE, SEARCH, Fills, filled, option
from scanner.cli.output_options import PrintOptions
from scanner.cli.readers import detector_names, numbers, path, span
from scanner.errors import UsageError
from scanner.limits import Limits
from scanner.settings import Budget, Device, Noise, Settings
from scanner.values import frozen

_DEFAULT = Settings()


# Declared once for several commands.
Logits = Annotated[
    str | None,
    option(
        MEASURE,
        "--logits",
        metavar="NAME",
        help="Name of the value that holds the class scores.",
    ),
    Fills("logits"),
]
InputRange = Annotated[
    tuple[float, float] | None,
    option(
        IMAGES,
        "--input-range",
        metavar="LOW HIGH",
        help="Lowest and highest value of a valid input; 'auto' finds them. "
        "[dim]\\[default: auto][/dim]",
    ),
    Fills("input_range", read=span),
]
InputShape = Annotated[
    str | None,
    option(
        IMAGES,
        "--input-shape",
        metavar="C,H,W",
        help="Shape of one input, where the model leaves it open.",
    ),
    Fills("input_shape", read=numbers("3,224,224", lowest=1)),
]
OnDevice = Annotated[
    Device,
    option(LIMITS, "--device", help="auto uses CUDA where a device is usable."),
    Fills("device"),
]
Threads = Annotated[
    int,
    option(
        LIMITS,
        "--threads",
        metavar="N",
        min=0,
        help="Threads of ONNX Runtime; 0 takes one per core for a model of 4 MiB or more, unless "
        "several are measured at a time; of a smaller model it searches as many classes at a time, "
        "each with one thread.",
    ),
    Fills("threads"),
]
RequireIsolation = Annotated[
    bool,
    option(
        LIMITS,
        "--require-isolation",
        help="Refuse to run where a part of the isolation is missing.",
    ),
    Fills("require_isolation"),
]
Unconfined = Annotated[
    bool,
    option(
        LIMITS,
        "--unconfined",
        help="Leave the process that opens models its rights, for trusted models on CUDA.",
    ),
    Fills("unconfined"),
]


@frozen
class MeasureOptions(PrintOptions):
    """What a scan and a calibration share: what to measure, on what, and where."""

    detector: Annotated[
        list[str] | None,
        option(
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
        option(
            MEASURE,
            "--layer",
            metavar="NAME",
            help="Measure this value or node instead of the first activation. "
            "'scan layers MODEL' lists them.",
        ),
        Fills("layer"),
    ] = None
    logits: Logits = None
    noise: Annotated[
        Noise,
        option(
            IMAGES,
            "--noise",
            metavar="FAMILY",
            help=f"Family of noise images: {', '.join(family.value for family in Noise)}.",
        ),
        Fills("noise"),
    ] = _DEFAULT.noise
    images: Annotated[
        int,
        option(IMAGES, "--images", metavar="N", min=2, help="Number of noise images."),
        Fills("images"),
    ] = _DEFAULT.images
    images_npz: Annotated[
        Path | None,
        option(
            IMAGES,
            "--images-npz",
            metavar="FILE",
            help="Clean images (.npz or .npy) instead of noise.",
        ),
        Fills("images_file", read=path),
    ] = None
    images_dir: Annotated[
        Path | None,
        option(
            IMAGES,
            "--images-dir",
            metavar="FOLDER",
            help="A folder of clean images instead of noise.",
        ),
        Fills("images_folder", read=path),
    ] = None
    input_range: InputRange = None
    input_shape: InputShape = None
    seed: Annotated[
        int,
        option(IMAGES, "--seed", metavar="N", min=0, help="Seed of every random generator."),
        Fills("seed"),
    ] = _DEFAULT.seed
    budget: Annotated[
        Budget,
        option(SEARCH, "--budget", help="How long to search for triggers."),
        Fills("budget"),
    ] = _DEFAULT.budget
    device: OnDevice = _DEFAULT.device
    threads: Threads = _DEFAULT.threads
    timeout: Annotated[
        float | None,
        option(
            LIMITS,
            "--timeout",
            metavar="SECONDS",
            min=1,
            help="Time allowed for one model and its references. [dim]\\[default: by budget][/dim]",
        ),
        Fills("timeout"),
    ] = None
    require_isolation: RequireIsolation = _DEFAULT.require_isolation
    unconfined: Unconfined = _DEFAULT.unconfined
    quiet: Annotated[
        bool,
        option(DISPLAY, "--quiet", "-q", help="Show errors, but no progress and no notes."),
    ] = False


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
    if options.images_npz:
        _mode("file", options.images_npz, "--images-npz")
    if options.images_dir and not stat.S_ISDIR(_mode("folder", options.images_dir, "--images-dir")):
        raise _missing("folder", options.images_dir, "--images-dir")
    return made


def _mode(kind: str, path: Path, typed: str) -> int:
    """Return the type and the rights of what a path names.

    Args:
        kind: What it should be.
        path: The path.
        typed: The option that it stands in.

    Raises:
        UsageError: There is nothing, or it cannot be reached.
    """
    try:
        return path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError, ValueError) as error:
        raise _missing(kind, path, typed) from error
    except OSError as error:
        raise UsageError(
            f"{str(path)!r} cannot be read ({error.strerror})", remedy=f"check the path in {typed}"
        ) from error


def _missing(kind: str, path: Path, typed: str) -> UsageError:
    return UsageError(f"there is no {kind} {str(path)!r}", remedy=f"check the path in {typed}")
