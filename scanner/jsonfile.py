"""JSON files that somebody else may have written, read within limits."""

import json
import os
import stat
from pathlib import Path
from typing import Any

# As much as one message to the sandbox may hold (`scanner.sandbox.messages`), where it is going.
LARGEST = 2**26  # bytes
MOST_VALUES = 2**21  # numbers, texts, lists and objects: 200 MiB at most

_READ = os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
_NO_WAITING = getattr(os, "O_NONBLOCK", 0)  # for whoever writes into a pipe, perhaps never


class UnreadableError(ValueError):
    """A file is not JSON within the limits; the message says why, to follow "the file"."""


def read(path: Path) -> bytes:
    """Return the bytes of a regular file of no more than `LARGEST` bytes.

    Raises:
        UnreadableError: It is not there, something other than a file, or too large.
    """
    try:
        descriptor = os.open(path, _READ | _NO_WAITING)
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise UnreadableError("is a folder, a pipe or a device, not a file")
            if status.st_size > LARGEST:
                raise UnreadableError(f"has more than {LARGEST / 2**20:.0f} MiB")
            with os.fdopen(descriptor, "rb", closefd=False) as file:
                return file.read(status.st_size)  # and no more, should it grow
        finally:
            os.close(descriptor)
    except OSError as error:
        raise UnreadableError(f"cannot be read ({error.strerror})") from error


def parse(data: bytes) -> Any:
    """Return what JSON text in UTF-8 says.

    NaN and infinity, which Python reads and JSON does not know, are refused: nothing can be ranked
    among them.

    Raises:
        UnreadableError: It is not JSON, nested too deeply, or of too many values.
    """
    # What looks like a value inside a text counts too; honest texts hold few commas.
    if 1 + sum(data.count(sign) for sign in (b",", b"[", b"{")) > MOST_VALUES:
        raise UnreadableError(f"has more than {MOST_VALUES:,} values")
    try:
        return json.loads(data.decode(), parse_constant=_refuse)
    except RecursionError as error:
        raise UnreadableError("is damaged: it is nested too deeply") from error
    except ValueError as error:
        raise UnreadableError("is damaged: it is not valid JSON") from error


def _refuse(constant: str) -> None:
    raise ValueError(constant)
