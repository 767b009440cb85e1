"""What a person can check, as files: a trigger, and an image before and after it is stamped."""

import base64
import errno
import itertools
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path

from scanner.errors import UsageError
from scanner.report import charts
from scanner.report.escape import file_name
from scanner.report.folder import make, write_file
from scanner.report.pictures import picture
from scanner.results import Array, Finding, ScanResult, Trigger

_LINKED = frozenset({errno.ELOOP, errno.EMLINK})  # what systems answer to O_NOFOLLOW
_MOST_FILES = 256  # of one finding
_LEAST = 256  # pixels of the longer side of a picture


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
            model = _folder(number, result)
            for finding in result.findings:
                rule = file_name(finding.rule.id)
                for name, data in itertools.islice(_files(finding), _MOST_FILES):
                    write_file(folder, (model, rule), name, data)
                    written.append(folder / model / rule / name)
    except OSError as error:
        raise unwritable(folder, error) from error
    return written


def make_folder(folder: Path) -> None:
    """Make the folder before anything is measured, so that no evidence is lost for want of one.

    Raises:
        UsageError: The folder cannot be written.
    """
    try:
        make(folder)
    except OSError as error:
        raise unwritable(folder, error) from error


def left_over(results: Sequence[ScanResult], folder: Path, written: Sequence[Path]) -> list[Path]:
    """Return the files beside the evidence of these models that this scan did not write.

    An earlier scan's lie there under the same names, and would pass for this one's.
    """
    own = set(written)
    folders = (folder / _folder(number, result) for number, result in enumerate(results))
    return [
        path
        for model in folders
        for path in sorted(model.rglob("*"))
        if path.is_file() and path not in own
    ]


def _folder(number: int, result: ScanResult) -> str:
    return f"{number:02d}-{file_name(Path(result.model.path).stem)}"


def unwritable(folder: Path, error: OSError) -> UsageError:
    """Return what to say where a folder cannot be written."""
    reason = "a link lies in the way" if error.errno in _LINKED else error.strerror
    return UsageError(
        f"the evidence cannot be written to {str(folder)!r} ({reason})",
        remedy="name another folder as the setting `evidence`",
    )


def _files(finding: Finding) -> Iterator[tuple[str, bytes]]:
    trigger = finding.evidence.trigger
    for name, data, low, high in _arrays(trigger) if trigger else ():
        yield f"{name}.png", picture(data, low, high).png(_LEAST)
        yield f"{name}.npy", npy(data)
    for name, chart in charts.of(finding):
        yield f"{name}.svg", charts.alone(chart).encode()
    for number, observation in enumerate(finding.observations):
        name = f"{number:02d}-{file_name(observation.code)}"
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
