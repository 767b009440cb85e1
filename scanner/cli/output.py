"""Where the command writes: the result to stdout or a file, its progress to stderr."""

import errno
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TextIO

from rich.console import Console
from rich.progress import Progress, TaskID

from scanner.errors import UsageError

_BAR_AFTER = 1.0  # seconds
_FILE_WIDTH = 100  # columns of a table that goes to a file or a pipe


class Output:
    """Where the result goes: stdout, or a file that appears whole under its name, or not at all."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._file: Any = sys.stdout

    def __enter__(self) -> Self:
        """Find out before the scan whether the file can be written."""
        if self._path is not None:
            try:
                if self._path.is_dir():
                    raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
                self._file = tempfile.NamedTemporaryFile(
                    "w", dir=self._path.parent, suffix=".tmp", delete=False
                )
            except OSError as error:
                raise _unwritable(self._path, error) from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: object, trace: TracebackType | None
    ) -> None:
        """Give the file its name; what was written before an error is kept."""
        if self._path is None:
            return
        written, temporary = self._file.tell() > 0, Path(self._file.name)
        self._file.close()
        try:
            if written:
                # A temporary file is private; a report is as readable as its folder's other files.
                temporary.chmod(0o666 & ~_umask())
                temporary.replace(self._path)
            else:
                temporary.unlink()
        except OSError as error:
            sys.stdout.write(temporary.read_text())
            raise _unwritable(self._path, error) from error

    def write(self, text: str) -> None:
        """Add text."""
        self._file.write(text)
        self._file.flush()

    def print(self, render: Callable[[Console], None]) -> None:
        """Let a report draw on a console over the file."""
        render(console(self._file))


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _unwritable(path: Path, error: OSError) -> UsageError:
    return UsageError(
        f"{str(path)!r} cannot be written ({error.strerror})", remedy="name another --output"
    )


class Bar:
    """A progress bar on stderr for work over a second, where a person is watching."""

    def __init__(self) -> None:
        self._start = time.monotonic()
        self._progress: Progress | None = None
        self._task = TaskID(0)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._progress is not None:
            self._progress.stop()

    def update(self, done: int, total: int) -> None:
        """Show how much of a model's work is done."""
        if not sys.stderr.isatty() or time.monotonic() - self._start < _BAR_AFTER:
            return
        if self._progress is None:
            self._progress = Progress(console=Console(stderr=True), transient=True)
            self._progress.start()
            self._task = self._progress.add_task("scanning")
        self._progress.update(self._task, completed=done, total=total)


def console(file: TextIO) -> Console:
    """Return a console; without a terminal behind it, one of fixed width and without colour."""
    width = None if file.isatty() or "COLUMNS" in os.environ else _FILE_WIDTH
    return Console(file=file, width=width, highlight=False)
