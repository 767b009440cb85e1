"""Where the command writes: the result to stdout or a file, the rest to stderr."""

import codecs
import contextlib
import io
import os
import stat
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TextIO, cast

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.text import Text

from scanner.cli.wording import in_options
from scanner.errors import UsageError
from scanner.report.escape import printable
from scanner.sandbox.endpoint import Step

_CUT_OFF = ".part"  # behind the name of a file that is not whole
_BAR_AFTER = 1.0  # seconds
_FILE_WIDTH = 100  # columns of a table that goes to a file or a pipe
_LONGEST_SENTENCE = 2000
_LONGEST_NAME = 40
_ENOUGH = 3  # models before the time of the others can be told
_RECENT = 33  # instants by which it is told: what comes from a cache is soon forgotten
_TWO_MINUTES = 120
_BEGINNING = 4096  # bytes of a file that tell text from everything else
_IN_NO_TEXT = frozenset(range(32)) - frozenset(b"\t\n\r\f\x1b")
# Drawings for a stream that knows no Unicode; rich draws its own boxes in ASCII there.
_ASCII: Mapping[str, str] = {
    **dict(zip("░▒▓█", ".:+#", strict=True)),
    **dict(zip("▁▂▃▄▅▆▇", "__.-=+*", strict=True)),
    **dict(zip("▏▎▍▌▋▊▉", "||||###", strict=True)),
    **dict(zip("▀▐─━│┃┌┐└┘├┤┬┴┼╭╮╰╯", "##--||+++++++++++++", strict=True)),
    # dashes, minus and times
    **dict(zip("\u2013\u2014\u2212\u00d7•≤≥", "---x*<>", strict=True)),
    "…": "...",
}


class Output:
    """Where the result goes: stdout, or a file that appears whole under its name, or not at all.

    What a full disk cuts off gets a name of its own, and a report that was there before stays.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self._file: Any = sys.stdout
        self._is_whole = True

    def __enter__(self) -> Self:
        """Find out before the scan whether the file can be written."""
        if self._path is not None:
            _check_place(self._path)
            try:
                self._file = tempfile.NamedTemporaryFile(
                    "w", dir=self._path.parent, suffix=".tmp", delete=False, encoding="utf-8"
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
        temporary, error = Path(self._file.name), self._closed()
        if not self._is_whole:
            with contextlib.suppress(OSError):
                temporary.replace(self._path.with_name(self._path.name + _CUT_OFF))
            if error is not None and kind is None:
                raise error
            return
        try:
            if temporary.stat().st_size:
                # A temporary file is private; a report is as readable as its folder's other files.
                temporary.chmod(0o666 & ~_umask())
                temporary.replace(self._path)
            else:
                temporary.unlink()
        except OSError as error:
            sys.stdout.write(temporary.read_text(encoding="utf-8"))
            raise _unwritable(self._path, error) from error

    def _closed(self) -> OSError | None:
        """Close the file; return what kept its last bytes from being written."""
        try:
            self._file.close()
        except OSError as error:
            self._is_whole = False
            return error
        return None

    def write(self, text: str) -> None:
        """Add text."""
        try:
            self._file.write(text)
            self._file.flush()
        except OSError:
            self._is_whole = False
            raise

    @property
    def console(self) -> Console:
        """A console over the file, for a report that draws."""
        return console(self._file if self._path is None else _Drawn(self))


class _Drawn(io.TextIOBase):
    """A file as a console takes it."""

    encoding = "utf-8"

    def __init__(self, page: Output) -> None:
        self._page = page

    def write(self, text: str) -> int:
        """Add text."""
        self._page.write(text)
        return len(text)


def _check_place(path: Path) -> None:
    """Refuse what is there and is no plain file of text.

    Through a link that somebody planted a report would overwrite another file; to replace a link, a
    device or a pipe would take it away from whoever put it there (/dev/null among them, for root).
    A report is text: what holds something else is no earlier one, but a model or images, as where
    -o was followed by the model to scan.

    Raises:
        UsageError: It is a link, a folder, a device or a pipe, is not text, or cannot be reached.
    """
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    except OSError as error:
        raise _unwritable(path, error) from error
    if not stat.S_ISREG(mode):
        kinds = {stat.S_IFLNK: "a link", stat.S_IFDIR: "a folder"}
        what = kinds.get(stat.S_IFMT(mode), "a device or a pipe")
        raise UsageError(
            f"{str(path)!r} cannot be written (it is {what}, not a file)",
            remedy="name another file to write",
        )
    if not _is_text(path):
        raise UsageError(
            f"{str(path)!r} is no earlier report and would be overwritten (it is not text)",
            remedy="name another file to write",
        )


def _is_text(path: Path) -> bool:
    """Whether a file begins as text does, without other control characters than text has."""
    with contextlib.suppress(OSError), path.open("rb") as file:
        return not _IN_NO_TEXT.intersection(file.read(_BEGINNING))
    return True


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _unwritable(path: Path, error: OSError) -> UsageError:
    return UsageError(
        f"{str(path)!r} cannot be written ({error.strerror})", remedy="name another file to write"
    )


class Bar:
    """A progress bar on stderr for work over a second, where a person is watching."""

    def __init__(self, *, quiet: bool = False) -> None:
        self._hidden = quiet or not sys.stderr.isatty()
        self._start = time.monotonic()
        self._ends = deque([self._start], maxlen=_RECENT)  # when the last models were done
        self._counted = 0, 1, ""
        self._lock = threading.Lock()  # several models are measured at a time
        self._progress: Progress | None = None
        self._task = TaskID(0)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._progress is not None:
            self._progress.stop()

    def measuring(self, step: Step) -> None:
        """Show the progress of one model and its references.

        A class's search takes seconds or minutes, and the next one another time: the bar tells what
        is done, and no time.
        """
        self._show(step.done, step.total, _at(step))

    def counting(self, done: int, total: int, model: str = "") -> None:
        """Show how many models are done, and when the others will be, if they are like the last."""
        now = time.monotonic()
        self._ends.append(now)
        text = f"{done} of {total} models"
        if len(self._ends) > _ENOUGH and done < total:
            pace = (now - self._ends[0]) / (len(self._ends) - 1)
            text += f", about {_duration(pace * (total - done))} left"
        self._counted = done, total, text
        self._show(done, total, f"{text}; {_name(model)}" if model else text)

    def inputs(self, done: int) -> None:
        """Show how many inputs are done; how many there are, a stream does not tell."""
        self._show(0, 1, f"{done:,} inputs")

    def among(self, step: Step) -> None:
        """Show what is under way of many models."""
        done, total, text = self._counted
        self._show(done, total, f"{text}; {_at(step)}" if text else _at(step))

    def _show(self, done: int, total: int, text: str) -> None:
        if self._hidden or time.monotonic() - self._start < _BAR_AFTER:
            return
        with self._lock:
            if self._progress is None:
                columns = (BarColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
                self._progress = Progress(*columns, console=Console(stderr=True), transient=True)
                self._progress.start()
                self._task = self._progress.add_task("")
        shown = escape(text)
        self._progress.update(self._task, completed=done, total=total, description=shown)


def _at(step: Step) -> str:
    """Say what is under way: model, detector and class, as far as they are known."""
    rule = f": {step.rule}" if step.rule else ""
    searched = f", class {step.class_id}" if step.rule and step.class_id is not None else ""
    return f"{_name(Path(step.model).name)}{rule}{searched}"


def _name(model: str) -> str:
    return printable(model, _LONGEST_NAME)


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < _TWO_MINUTES else f"{seconds / 60:.0f} min"


def console(file: TextIO | io.TextIOBase) -> Console:
    """Return a console; without a terminal behind it, one of fixed width and without colour."""
    width = None if file.isatty() or "COLUMNS" in os.environ else _FILE_WIDTH
    return Console(file=cast("TextIO", file), width=width, highlight=False)


def complain(sentence: str) -> None:
    """Say on stderr what went wrong."""
    _say(Text("error: ", "bold red").append(_shown(sentence), "default"))


def note(sentence: str) -> None:
    """Say on stderr what was done."""
    _say(Text(_shown(sentence), "dim"))


def _shown(sentence: str) -> str:
    return printable(in_options(sentence), _LONGEST_SENTENCE)


def _say(text: Text) -> None:
    Console(stderr=True, highlight=False, soft_wrap=True).print(text)


def draw_in_ascii_where_needed() -> None:
    """Let stdout and stderr replace what their encoding cannot say, instead of failing.

    A redirect under a legacy code page, or an ASCII locale, cannot encode boxes and blocks.
    """
    codecs.register_error("scan-drawings", _in_ascii)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="scan-drawings")


def _in_ascii(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    lost = error.object[error.start : error.end]
    return "".join(_ASCII.get(c) or _escaped(c) for c in lost), error.end


def _escaped(character: str) -> str:
    return character.encode("ascii", "backslashreplace").decode("ascii")
