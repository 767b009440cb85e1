"""What a person can check, as files: a trigger, and an image before and after it is stamped."""

import base64
import contextlib
import errno
import itertools
import os
import re
import stat
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path

from scanner.errors import UsageError
from scanner.report import charts
from scanner.report.pictures import picture
from scanner.results import Array, Finding, ScanResult, Trigger

_LINKED = frozenset({errno.ELOOP, errno.EMLINK})  # what systems answer to O_NOFOLLOW
_MOST_FILES = 256  # of one finding
_LEAST = 256  # pixels of the longer side of a picture

# Windows has no descriptors of folders; there each step is looked at before it is taken.
_STEP_BY_STEP = os.open in os.supports_dir_fd and os.mkdir in os.supports_dir_fd
_FOLDER = getattr(os, "O_DIRECTORY", 0) | getattr(os, "O_NOFOLLOW", 0)
_NEW = (
    os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
)


def write_evidence(results: Sequence[ScanResult], folder: Path) -> list[Path]:
    """Write the evidence of every finding into a folder, a sub-folder per model; return the files.

    Arrays are written twice: as PNG to look at, of at least 256 pixels, and as .npy (float32, as
    the model takes them) to feed to the model. Charts are those of the HTML report, as SVG. No name
    of a file comes from a model, and below the folder no link is followed: a file of the same name
    is replaced, never written through.

    Raises:
        UsageError: The folder cannot be written, or a link lies in it where a folder should be.
    """
    written = []
    try:
        for number, result in enumerate(results):
            model = f"{number:02d}-{plain(Path(result.model.path).stem)}"
            for finding in result.findings:
                rule = plain(finding.rule.id)
                for name, data in itertools.islice(_files(finding), _MOST_FILES):
                    write_file(folder, (model, rule), name, data)
                    written.append(folder / model / rule / name)
    except OSError as error:
        raise unwritable(folder, error) from error
    return written


def unwritable(folder: Path, error: OSError) -> UsageError:
    """Return what to say where a folder cannot be written."""
    reason = "a link lies in the way" if error.errno in _LINKED else error.strerror
    return UsageError(
        f"the evidence cannot be written to {str(folder)!r} ({reason})",
        remedy="name another folder as the setting `evidence`",
    )


def write_file(folder: Path, steps: Sequence[str], name: str, data: bytes) -> None:
    """Write a new file below a folder without following a link on the way."""
    folder.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as opened:
        here: int | Path = folder
        if _STEP_BY_STEP:
            here = os.open(folder, os.O_RDONLY | getattr(os, "O_DIRECTORY", 0))
            opened.callback(os.close, here)
        for step in steps:
            here = _enter(here, step)
            if isinstance(here, int):
                opened.callback(os.close, here)
        with os.fdopen(_create(here, name), "wb") as file:
            file.write(data)


def _enter(parent: int | Path, name: str) -> int | Path:
    """Return a folder inside another, made if it is not there.

    Raises:
        OSError: A link or a file has its name.
    """
    if isinstance(parent, Path):
        (parent / name).mkdir(exist_ok=True)
        if (parent / name).is_symlink() or parent.joinpath(
            name
        ).resolve().parent != parent.resolve():
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
        return parent / name
    with contextlib.suppress(FileExistsError):
        os.mkdir(name, dir_fd=parent)
    if stat.S_ISLNK(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode):
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
    return os.open(name, os.O_RDONLY | _FOLDER, dir_fd=parent)


def _create(parent: int | Path, name: str) -> int:
    """Return the descriptor of a new file, whatever had its name before."""
    if isinstance(parent, Path):
        (parent / name).unlink(missing_ok=True)
        return os.open(parent / name, _NEW, 0o666)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(name, dir_fd=parent)
    return os.open(name, _NEW, 0o666, dir_fd=parent)


def _files(finding: Finding) -> Iterator[tuple[str, bytes]]:
    trigger = finding.evidence.trigger
    for name, data, low, high in _arrays(trigger) if trigger else ():
        yield f"{name}.png", picture(data, low, high).png(_LEAST)
        yield f"{name}.npy", npy(data)
    for name, chart in charts.of(finding):
        yield f"{name}.svg", charts.alone(chart).encode()
    for number, observation in enumerate(finding.observations):
        name = f"{number:02d}-{plain(observation.code)}"
        if (drawing := charts.way(observation)) is not None:
            yield f"{name}-path.svg", charts.alone(drawing).encode()
        if observation.excerpt:
            yield f"{name}.onnx", base64.b64decode(observation.excerpt)
        if observation.input is not None:
            shown = observation.input
            yield f"{name}-input.png", picture(shown.image, shown.low, shown.high).png(_LEAST)
            yield f"{name}-input.npy", npy(shown.image)
            if shown.original is not None:
                before = picture(shown.original, shown.low, shown.high)
                yield f"{name}-original.png", before.png(_LEAST)
                yield f"{name}-original.npy", npy(shown.original)


def _arrays(trigger: Trigger) -> Iterator[tuple[str, Array, float, float]]:
    """Yield the arrays of a trigger, each with the values that are black and white."""
    low, high = trigger.low, trigger.high
    yield "mask", trigger.mask, 0.0, 1.0
    yield "pattern", trigger.pattern, low, high
    yield "original", trigger.original, low, high
    yield "stamped", trigger.stamped, low, high


def npy(data: Array) -> bytes:
    """Return an array as a .npy file of format version 1.0 (NumPy enhancement proposal 1)."""
    header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {data.shape!r}, }}"
    padded = header.ljust(-(-(len(header) + 11) // 64) * 64 - 11) + "\n"
    return (
        b"\x93NUMPY\x01\x00"
        + struct.pack("<H", len(padded))
        + padded.encode()
        + base64.b64decode(data.data)
    )


def plain(name: str) -> str:
    """Return a name that is safe as a file's: it may come from a model."""
    return re.sub(r"[^A-Za-z0-9._-]+", "_", name).strip("._")[:60] or "unnamed"
