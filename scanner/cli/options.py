"""The options of the command `scan`, and the settings they make."""

import re
from pathlib import Path
from typing import Annotated

import typer

from scanner.errors import UsageError
from scanner.limits import Limits
from scanner.settings import Budget, Device, Noise, Settings

Reference = Annotated[
    list[str] | None,
    typer.Option(
        "--reference",
        "-r",
        help="A clean ONNX model of the same input, or a folder of them; repeatable.",
    ),
]
BaselineFile = Annotated[
    Path | None,
    typer.Option(
        "--baseline", "-b", help="Clean models of the same recipe, from 'scan calibrate'."
    ),
]
Alpha = Annotated[
    float,
    typer.Option(min=0.0001, max=0.5, help="Share of clean models that may be called suspicious."),
]
Detectors = Annotated[
    list[str] | None, typer.Option("--detector", "-d", help="Run only this detector; repeatable.")
]
NoiseFamily = Annotated[Noise, typer.Option("--noise", help="Family of noise images.")]
Images = Annotated[int, typer.Option(min=2, help="Number of noise images.")]
Seed = Annotated[int, typer.Option(min=0, help="Of every random generator.")]
InputRange = Annotated[
    tuple[float, float] | None,
    typer.Option(
        metavar="LOW HIGH", help="Lowest and highest value of a valid input. Default: 0 1."
    ),
]
InputShape = Annotated[
    str | None,
    typer.Option(metavar="C,H,W", help="Shape of one input, where the model leaves it open."),
]
Layer = Annotated[
    str | None, typer.Option(help="Measure this value or node, not the first activation.")
]
Logits = Annotated[str | None, typer.Option(help="Name of the value that holds the class scores.")]
Effort = Annotated[Budget, typer.Option("--budget", help="How long triggers are searched for.")]
Classes = Annotated[
    str | None, typer.Option(metavar="0,3,7", help="Search triggers for these classes only.")
]
ImagesFile = Annotated[
    Path | None, typer.Option("--images-npz", help="Clean images as .npz or .npy, not noise.")
]
ImagesFolder = Annotated[
    Path | None, typer.Option("--images-dir", help="A folder of clean images, not noise.")
]
RunOn = Annotated[Device, typer.Option("--device", help="auto takes CUDA where a device is there.")]
Threads = Annotated[int, typer.Option(min=1, help="ONNX Runtime's threads.")]
Timeout = Annotated[
    float | None,
    typer.Option(
        min=1, help="Seconds allowed for one model and its references. Default: by budget."
    ),
]
Memory = Annotated[
    str, typer.Option("--memory-limit", metavar="SIZE", help="Memory a model may need.")
]
FileSize = Annotated[str, typer.Option("--max-file-size", metavar="SIZE", help="Of a model file.")]
Nodes = Annotated[int, typer.Option("--max-nodes", min=1, help="Nodes, functions expanded.")]
Depth = Annotated[
    int, typer.Option("--max-depth", min=1, help="Nesting of sub-graphs and functions.")
]
Trips = Annotated[
    int, typer.Option("--max-trips", min=1, help="Trips of a Loop that nothing ends before.")
]
RequireIsolation = Annotated[
    bool,
    typer.Option(
        "--require-isolation", help="Refuse to scan where a part of the isolation is missing."
    ),
]


def settings(  # noqa: PLR0913 - one an option
    *,
    noise: Noise,
    images: int,
    seed: int,
    input_range: tuple[float, float] | None,
    input_shape: str | None,
    layer: str | None,
    logits: str | None,
    budget: Budget,
    classes: str | None,
    images_npz: Path | None,
    images_dir: Path | None,
    device: Device,
    threads: int,
    detector: list[str] | None,
    timeout: float | None,
    alpha: float = 0.05,
    limits: Limits | None = None,
    require_isolation: bool = False,
) -> Settings:
    """Return the settings that the options make.

    Raises:
        UsageError: An option's value makes no sense.
    """
    if input_range is not None and not input_range[0] < input_range[1]:
        raise UsageError(
            f"--input-range {input_range[0]:g} {input_range[1]:g} is empty",
            remedy="give the lower value first",
        )
    if images_npz and images_dir:
        raise UsageError(
            "--images-npz and --images-dir exclude one another", remedy="give one of them"
        )
    return Settings(
        noise=noise,
        images=images,
        seed=seed,
        input_range=input_range,
        input_shape=numbers("--input-shape", input_shape, "3,224,224", lowest=1)
        if input_shape
        else None,
        layer=layer,
        logits=logits,
        budget=budget,
        classes=numbers("--classes", classes, "0,3,7", lowest=0) if classes else (),
        images_file=str(Path.cwd() / images_npz) if images_npz else None,
        images_folder=str(Path.cwd() / images_dir) if images_dir else None,
        device=device,
        threads=threads,
        detectors=tuple(detector or ()),
        timeout=timeout,
        alpha=alpha,
        limits=limits or Limits(),
        require_isolation=require_isolation,
    )


def references(named: list[str] | None) -> list[str]:
    """Return the reference files: those named, and the .onnx files of the folders named.

    Raises:
        UsageError: A folder holds none.
    """
    found: list[str] = []
    for name in named or ():
        if Path(name).is_dir():
            inside = sorted(str(path) for path in Path(name).glob("*.onnx"))
            if not inside:
                raise UsageError(
                    f"the folder {name!r} holds no .onnx file", remedy="name clean models"
                )
            found += inside
        else:
            found.append(name)
    return found


def numbers(option: str, text: str, example: str, *, lowest: int) -> tuple[int, ...]:
    """Read a list of numbers such as 3,224,224.

    Raises:
        UsageError: It is none.
    """
    try:
        values = tuple(int(part) for part in text.replace("x", ",").split(","))
    except ValueError:
        values = ()
    if not values or min(values) < lowest:
        raise UsageError(
            f"{option} {text!r} is no list of numbers", remedy=f"write it as in {example}"
        )
    return values


def size(option: str, text: str) -> int:
    """Read a size in bytes such as 512MiB, 1.5GB or 2000000.

    Raises:
        UsageError: It is none.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(?:([kMGT])(i?))?B?", text.strip())
    count = 0
    if found:
        number, prefix, binary = found.groups()
        count = int(
            float(number)
            * (1024 if binary else 1000) ** (1 + "kMGT".index(prefix) if prefix else 0)
        )
    if count < 1:
        raise UsageError(
            f"{option} {text!r} is no size", remedy="write it as in 512MiB, 8GiB or 2000000"
        )
    return count
