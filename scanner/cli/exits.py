"""How the command ends: a verdict, an error, or a bug, each with an exit code of its own.

This module imports neither Typer nor rich, so that it can still speak where they are broken.
"""

import contextlib
import errno
import os
import re
import signal
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from scanner.judging import unanalysable
from scanner.judging.ranks import STRENGTHS, strength
from scanner.report.escape import printable
from scanner.report.totals import place
from scanner.results import ScanResult, Severity, Verdict

CLEAN = 0
SUSPICIOUS = 1
ERROR = 2
INCONCLUSIVE = 3
INTERNAL = 70  # EX_SOFTWARE of sysexits.h
UNDELIVERED = 74  # EX_IOERR of sysexits.h
INTERRUPTED = 130  # as a shell reports SIGINT
TERMINATED = 143  # as it reports SIGTERM
HUNG_UP = 129  # and SIGHUP, where a terminal is closed

MEANINGS = {
    CLEAN: "clean",
    SUSPICIOUS: "suspicious",
    ERROR: "an error, or wrong usage",
    INCONCLUSIVE: "inconclusive",
    INTERNAL: "an internal error, which is a bug",
    UNDELIVERED: "the output could not be delivered",
}
_ENDED_BY = {"SIGTERM": TERMINATED, "SIGHUP": HUNG_UP}
_WORST_FIRST = (SUSPICIOUS, ERROR, INCONCLUSIVE, CLEAN)
_VERDICTS = {
    Verdict.CLEAN: CLEAN,
    Verdict.SUSPICIOUS: SUSPICIOUS,
    Verdict.INCONCLUSIVE: INCONCLUSIVE,
}
# What the other end of a stream does to us, a full disk or a closed pipe; not a bug of ours.
_DELIVERY = frozenset({errno.EPIPE, errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EFBIG})
_FRAMES = 6
_ROOT = Path(__file__).parent.parent.parent


Condition = Callable[[ScanResult], bool]


def _at_least(word: str) -> Condition:
    """Return whether a model lies so far out, or its graph alone makes it suspicious."""

    def met(result: ScanResult) -> bool:
        size = _size(result)
        if size is None:
            return result.verdict is Verdict.SUSPICIOUS
        own = strength(size)
        return own is not None and STRENGTHS.index(own) >= STRENGTHS.index(word)

    return met


# What a pipeline can be told to fail on, besides a size.
CONDITIONS: Mapping[str, Condition] = {
    "suspicious": lambda result: result.verdict is Verdict.SUSPICIOUS,
    "inconclusive": lambda result: result.verdict is Verdict.INCONCLUSIVE,
    "note": lambda result: _severity(result) >= Severity.NOTE,
    "warning": lambda result: _severity(result) >= Severity.WARNING,
    "confirmed": lambda result: _severity(result) >= Severity.CONFIRMED,
    **{word: _at_least(word) for word in STRENGTHS},
    "nothing": lambda _: False,
}


def condition(word: str) -> Condition:
    """Return the condition that a word stands for: one of `CONDITIONS`, or "size=N".

    A result has a size of N if it lies N times as far out as the furthest clean model, by its rank
    among them; what the graph itself shows needs no size.

    Raises:
        ValueError: It stands for none.
    """
    if word in CONDITIONS:
        return CONDITIONS[word]
    found = re.fullmatch(r"size=(\d+(?:\.\d+)?)", word)
    if found is None:
        raise ValueError(f"{word!r} is no condition")
    least = float(found[1])
    return lambda result: (
        result.verdict is Verdict.SUSPICIOUS and ((size := _size(result)) is None or size >= least)
    )


def _size(result: ScanResult) -> float | None:
    """Return how far out a model lies; None where its verdict is about what the graph shows.

    Where clean models are at hand the result has a size beside such a verdict, of what the
    statistics say, and a planted graph need not show in these.
    """
    return place(result)[1]


def _severity(result: ScanResult) -> int:
    return max((o.severity for f in result.findings for o in f.observations), default=0)


def exit_code(results: Sequence[ScanResult], fail_on: Sequence[str] = ()) -> int:
    """Return the worst code of several results: suspicious, error, inconclusive, clean.

    Args:
        results: Of the run.
        fail_on: Words of `condition`; what meets none of them ends as clean does. An error, and a
            model that could not be measured, is none of them and always counts, unless the word is
            "nothing". Empty takes every verdict for what it is.
    """
    conditions = [condition(word) for word in fail_on]
    codes = {_of_one(result, conditions) for result in results}
    if "nothing" in fail_on:
        return CLEAN
    return next((code for code in _WORST_FIRST if code in codes), CLEAN)


def _of_one(result: ScanResult, conditions: Sequence[Condition]) -> int:
    explained = all(map(unanalysable.explains, result.failures))
    if result.verdict is not Verdict.SUSPICIOUS and not explained:
        return ERROR
    if result.allowed:
        return CLEAN
    if not conditions:
        return _VERDICTS[result.verdict]
    if any(met(result) for met in conditions):
        return INCONCLUSIVE if result.verdict is Verdict.INCONCLUSIVE else SUSPICIOUS
    unmeasured = result.failures or not result.findings
    return INCONCLUSIVE if unmeasured and result.verdict is not Verdict.SUSPICIOUS else CLEAN


class _Terminated(BaseException):
    """The process was asked to end; no library takes this for an error."""

    def __init__(self, code: int) -> None:
        super().__init__()
        self.code = code


def _terminate(number: int, _: object) -> None:
    signal.signal(number, signal.SIG_IGN)  # once is enough
    raise _Terminated(_ENDED_BY[signal.Signals(number).name])


def _catch_signals() -> None:
    """See to it that files that were not finished go, however the run is ended."""
    for name in _ENDED_BY:
        number = getattr(signal, name, None)  # Windows has no SIGHUP
        if number is not None and signal.getsignal(number) is not signal.SIG_IGN:  # as of nohup
            signal.signal(number, _terminate)
    if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def ending(run: Callable[[], int]) -> int:
    """Run the command, and return its exit code whatever happens.

    A verdict that could not be delivered, or a bug of ours, must not look like a verdict: Python
    itself would end with 1, which means suspicious.
    """
    try:
        _catch_signals()
        _open_streams()
        code = run()
        sys.stdout.flush()
    except KeyboardInterrupt:
        code = INTERRUPTED
    except _Terminated as stop:
        code = stop.code
    except OSError as error:
        code = _undelivered(error) if error.errno in _DELIVERY else _internal(error)
    except SystemExit as stop:
        code = _stopped(stop)
    except Exception as bug:  # noqa: BLE001 - the last handler there is
        code = _internal(bug)
    return code


def _open_streams() -> None:
    """Give a closed stdout or stderr somewhere to go; the exit code still tells the verdict."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            nowhere = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115 - it stays open
            setattr(sys, name, nowhere)


def _stopped(stop: SystemExit) -> int:
    """Return the exit code where a library ended the program: nothing of ours does."""
    if isinstance(stop.__context__, BrokenPipeError):
        return _undelivered(stop.__context__)  # Typer and rich would end with 1
    # Typer ends so when it has completed a word for the shell.
    return CLEAN if stop.code in (None, 0) else _internal(stop)


def _undelivered(error: BaseException | None) -> int:
    if isinstance(error, OSError) and error.errno != errno.EPIPE:
        _say(f"error: the output cannot be written ({error.strerror})")
    # What is still in the buffer would fail again while Python shuts down.
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return UNDELIVERED


def _internal(bug: BaseException) -> int:
    _say(
        printable(f"internal error: {type(bug).__name__}: {bug}", 2000)
        + "; please report it with the lines below."
    )
    frames = traceback.extract_tb(bug.__traceback__)[-_FRAMES:]
    for frame in frames:
        file = Path(frame.filename)
        shown = file.relative_to(_ROOT) if file.is_relative_to(_ROOT) else file
        _say(f"  {shown}:{frame.lineno} in {frame.name}")
    return INTERNAL


def _say(line: str) -> None:
    with contextlib.suppress(OSError, ValueError):
        print(line, file=sys.stderr)  # noqa: T201 - rich may be what is broken
