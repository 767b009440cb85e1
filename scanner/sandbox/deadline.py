"""The moment when a process must stop: a flag, and what to call when it is raised.

A computation in native code cannot be interrupted from Python, but a native library may check flags
of its own. Whoever starts such a computation says here how to stop it; whoever keeps the time calls
`expire`.
"""

import contextlib
import math
import threading
import time
from collections.abc import Callable, Iterator

from scanner.errors import WorkerTimeoutError

_lock = threading.Lock()
_stops: list[Callable[[], None]] = []
_expired = threading.Event()
_whole = math.inf  # seconds that the present call may take
_end = math.inf  # on the monotonic clock


def expire() -> None:
    """Stop what is running and refuse what has not begun."""
    with _lock:
        _expired.set()
        for stop in _stops:
            stop()


def renew(seconds: float = math.inf) -> None:
    """Lower the flag before a new call, which may take so many seconds."""
    global _whole, _end
    _expired.clear()
    _whole, _end = seconds, time.monotonic() + seconds


def nearly_over(share: float) -> bool:
    """Whether less than a share of the time is left; never where nobody keeps the time."""
    return left(share) <= 0


def left(share: float) -> float:
    """Return the seconds until less than a share of the time is left; infinite as above."""
    return max(0.0, _end - time.monotonic() - share * _whole) if _whole < math.inf else math.inf


def check() -> None:
    """Return while there is time left.

    Raises:
        WorkerTimeoutError: The deadline has passed.
    """
    if _expired.is_set():
        raise WorkerTimeoutError(
            "the time allowed for this model is used up",
            remedy="raise the setting `timeout`: a large model takes longer, and only one that was "
            "built to hang never ends",
        )


@contextlib.contextmanager
def stopping(stop: Callable[[], None]) -> Iterator[None]:
    """Have `stop` called, from another thread, if the deadline passes inside the block.

    Raises:
        WorkerTimeoutError: The deadline passed before or inside the block; what the block raised
            is its context.
    """
    with _lock:
        check()
        _stops.append(stop)
    try:
        yield
    finally:
        with _lock:
            _stops.remove(stop)
        check()
