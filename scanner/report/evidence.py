"""What a person can check, as files: a trigger, and an image before and after it is stamped."""

import base64
import re
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path

from scanner.errors import UsageError
from scanner.report.pictures import picture
from scanner.results import Array, Finding, ScanResult, Trigger


def write_evidence(results: Sequence[ScanResult], folder: Path) -> list[Path]:
    """Write the evidence of every finding into a folder, a sub-folder per model; return the files.

    Arrays are written twice: as PNG to look at, and as .npy (float32, as the model takes them) to
    feed to the model.

    Raises:
        UsageError: The folder cannot be written.
    """
    written = []
    try:
        for number, result in enumerate(results):
            for finding in result.findings:
                target = (
                    folder
                    / f"{number:02d}-{_plain(Path(result.model.path).stem)}"
                    / finding.rule.id
                )
                for name, data in _files(finding):
                    target.mkdir(parents=True, exist_ok=True)
                    (target / name).write_bytes(data)
                    written.append(target / name)
    except OSError as error:
        raise UsageError(
            f"the evidence cannot be written to {str(folder)!r} ({error.strerror})",
            remedy="name another folder as the setting `evidence`",
        ) from error
    return written


def _files(finding: Finding) -> Iterator[tuple[str, bytes]]:
    trigger = finding.evidence.trigger
    for name, data, low, high in _arrays(trigger) if trigger else ():
        yield f"{name}.png", picture(data, low, high).png()
        yield f"{name}.npy", _npy(data)
    for observation in finding.observations:
        if observation.excerpt:
            node = observation.nodes[0] if observation.nodes else ""
            name = f"{_plain(observation.code)}-{_plain(node)}.onnx"
            yield name, base64.b64decode(observation.excerpt)
        if observation.input is not None:
            shown, name = observation.input, f"{_plain(observation.code)}-input"
            yield f"{name}.png", picture(shown.image, shown.low, shown.high).png()
            yield f"{name}.npy", _npy(shown.image)


def _arrays(trigger: Trigger) -> Iterator[tuple[str, Array, float, float]]:
    """Yield the arrays of a trigger, each with the values that are black and white."""
    low, high = trigger.low, trigger.high
    yield "mask", trigger.mask, 0.0, 1.0
    yield "pattern", trigger.pattern, low, high
    yield "original", trigger.original, low, high
    yield "stamped", trigger.stamped, low, high


def _npy(data: Array) -> bytes:
    """Return an array as a .npy file of format version 1.0 (NumPy enhancement proposal 1)."""
    header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {data.shape!r}, }}"
    padded = header.ljust(-(-(len(header) + 11) // 64) * 64 - 11) + "\n"
    return (
        b"\x93NUMPY\x01\x00"
        + struct.pack("<H", len(padded))
        + padded.encode()
        + base64.b64decode(data.data)
    )


def _plain(name: str) -> str:
    """Return a name that is safe as a file's: it may come from a model."""
    return re.sub(r"[^A-Za-z0-9._-]+", "_", name).strip("._")[:60] or "unnamed"
