"""What was typed, read: numbers, sizes, ranges and paths; and what the shell completes."""

import math
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from scanner.cli.policy import ENVIRONMENT
from scanner.errors import UsageError
from scanner.limits import MIB

if TYPE_CHECKING:
    from scanner.judging.population import Baseline

# A process with ONNX Runtime holds about 100 MiB.
_LEAST_MEMORY = 128 * MIB
_DETECTORS = Path(__file__).parent.parent / "detectors"
_RULES = {"translation": "not-the-file"}  # modules that are not called as their detector


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
    count = 0.0
    if found:
        number, prefix, binary = found.groups()
        power = 1 + "kMGT".index(prefix) if prefix else 0
        count = float(number) * (1024 if binary else 1000) ** power
    if not 1 <= count < math.inf:
        raise UsageError(
            f"{option} {text!r} is not a valid size",
            remedy="write it as in 512MiB, 8GiB or 2000000",
        )
    return int(count)


def memory(option: str, text: str) -> int:
    """Read a size that leaves a process room to open a model.

    Raises:
        UsageError: The text is not a size, or too small a one.
    """
    count = size(option, text)
    if count < _LEAST_MEMORY:
        raise UsageError(
            f"{option} {text!r} is less than a process takes before it opens a model",
            remedy=f"give at least {_LEAST_MEMORY // MIB}MiB",
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


def is_auto(option: str, value: object) -> bool:
    """Whether a policy leaves an option to be found out, which is the default."""
    return option == "input-range" and value == "auto"


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


def finds_range(arguments: list[str], environment: Mapping[str, str]) -> bool:
    """Whether a command line, or else the environment, leaves the input range to be found out."""
    left = without_auto(arguments)
    if any(word.startswith("--input-range") for word in left):
        return False
    said = environment.get(f"{ENVIRONMENT}INPUT_RANGE", "")
    return left != arguments or is_auto("input-range", said)


def path(_option: str, named: Path) -> str:
    """Return a path that means the same in another working folder; a link stays a link."""
    return str(Path.cwd() / named)


def files(option: str, named: list[str]) -> list[str]:
    """Return the files named, and the .onnx files of the folders named; say what else is called so.

    Raises:
        UsageError: A folder holds none, or a name is empty.
    """
    from scanner.cli.models import SUFFIX, is_taken  # noqa: PLC0415 - which needs this module

    found: list[str] = []
    for name in named:
        if not name:  # which Path takes for the working folder
            raise UsageError(f"{option} names nothing", remedy="name clean models")
        if os.path.isdir(name):  # noqa: PTH112 - Path.is_dir may raise
            inside = list(filter(is_taken, map(str, sorted(Path(name).glob(f"*{SUFFIX}")))))
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


def baseline_of(path: Path | None, pin: str | None) -> "Baseline | None":
    """Return the baseline in a file; None without one.

    Args:
        path: The file.
        pin: The SHA-256 that it must have; None takes any.

    Raises:
        UsageError: It cannot be read, is another one, or is pinned and not named.
    """
    from scanner.judging.population import read_baseline  # noqa: PLC0415 - nothing for --help

    if pin and path is None:
        raise UsageError(
            "a SHA-256 is pinned and there is no baseline",
            remedy="name the file with the setting `baseline`",
        )
    return None if path is None else read_baseline(path, sha256=pin)
