"""The moment when a process must stop: a flag, and what to call when it is raised.

A computation in native code cannot be interrupted from Python, but a native library may check flags
of its own. Whoever starts such a computation says here how to stop it; whoever keeps the time calls
`expire`.
"""

import contextlib
import threading
from collections.abc import Callable, Iterator

from scanner.errors import WorkerTimeoutError

_lock = threading.Lock()
_stops: list[Callable[[], None]] = []
_expired = threading.Event()


def expire() -> None:
    """Stop what is running and refuse what has not begun."""
    with _lock:
        _expired.set()
        for stop in _stops:
            stop()


def renew() -> None:
    """Lower the flag before a new call."""
    _expired.clear()


def check() -> None:
    """Return while there is time left.

    Raises:
        WorkerTimeoutError: The deadline has passed.
    """
    if _expired.is_set():
        raise WorkerTimeoutError(
            "the time allowed for this model is used up",
            remedy="raise the setting `timeout`; a model that never ends is itself suspect",
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
