"""A process that does one thing after the other for a caller that cannot fork.

Whoever has threads or has loaded NumPy starts each child as a fresh interpreter
(`scanner.sandbox.launch`). A lane has one thread and holds the libraries, and so forks its
children. It reads no model. What passes between it and its caller are Python objects: both are this
program, and trust one another.
"""

import contextlib
import enum
import os
import pickle
import signal
import struct
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import BrokenExecutor
from typing import IO, Any, TypeVar

from scanner.sandbox import launch

T = TypeVar("T")
Told = Callable[[Any], None]

_GRACE = 1.0  # seconds between asking a lane to end and killing it
_LENGTH = struct.Struct("=Q")
_caller: IO[bytes] | None = None  # in a lane, where answers go; elsewhere None
_held = threading.local()  # of this thread: its lane, and who ends that


class _Kind(enum.Enum):
    """What a lane says: in between, or at the end of a call."""

    TOLD = 0
    DONE = 1
    RAISED = 2


class Lane:
    """A running lane.

    Args:
        modules: What its children will need.
    """

    def __init__(self, modules: Sequence[str]) -> None:
        import subprocess  # noqa: PLC0415 - a single scan does not come here

        pipe = subprocess.PIPE
        self._process = launch.Spawned(launch.interpreter("lane", modules), stdin=pipe, stdout=pipe)
        self._commands, self._answers = self._process.pipes()

    def call(self, function: Callable[..., T], *arguments: Any, told: Told | None = None) -> T:
        """Have a function called there, and return or raise what it does.

        Args:
            function: Found by its name in the lane.
            *arguments: Of the function.
            told: Called with whatever the function says meanwhile (`tell`).

        Raises:
            BrokenExecutor: The lane has ended.
        """
        try:
            _write(self._commands, pickle.dumps((function, arguments)))
            while (message := pickle.loads(_read(self._answers)))[0] is _Kind.TOLD:  # noqa: S301 - our own process
                if told:
                    told(message[1])
        except (OSError, EOFError, ValueError) as error:
            raise BrokenExecutor("a process that starts the children has ended") from error
        kind, answer = message
        if kind is _Kind.RAISED:
            raise answer
        made: T = answer
        return made

    def kill(self) -> None:
        """End it and its child, whose folder it still removes if it can do that at once."""
        if self._process.wait() is None and sys.platform != "win32":
            os.kill(self._process.pid, signal.SIGTERM)
            self._process.wait(_GRACE)
        self._process.kill()
        for pipe in (self._answers, self._commands):
            with contextlib.suppress(OSError):
                pipe.close()

    def __del__(self) -> None:
        with contextlib.suppress(Exception):  # it was never started, or Python itself ends
            self.kill()


def in_lane(modules: Sequence[str], function: Callable[..., T], *arguments: Any) -> T:
    """Call a function in the lane of this thread, which is started where there is none.

    Args:
        modules: What children of a new lane will need.
        function: Found by its name in the lane.
        *arguments: Of the function.

    Raises:
        BrokenExecutor: The lane has ended.
    """
    if _caller is not None:
        return function(*arguments)
    lane: Lane | None = getattr(_held, "lane", None)
    if lane is None:
        lane = _held.lane = Lane(modules)
        if (keeper := getattr(_held, "keeper", None)) is not None:
            keeper.take(lane)
    try:
        return lane.call(function, *arguments, told=getattr(_held, "told", None))
    except BrokenExecutor:
        lane.kill()
        _held.lane = None
        raise


class Keeper:
    """Ends the lanes of several threads, also one that is starting while it does.

    Args:
        told: Called, in these threads, with what is said in the lanes while they work.
    """

    def __init__(self, told: Told | None = None) -> None:
        self._told = told
        self._lanes: list[Lane] = []
        self._over = False

    def hold(self) -> None:
        """Take every lane that this thread will start."""
        _held.keeper, _held.told = self, self._told

    def take(self, lane: Lane) -> None:
        """Take a lane, and end it if the others have been ended."""
        self._lanes.append(lane)
        if self._over:
            lane.kill()

    def end(self) -> None:
        """End all of them."""
        self._over = True
        for lane in self._lanes:
            lane.kill()


def serve(modules: Sequence[str]) -> None:
    """Be a lane, until the caller's end of the pipe closes."""
    global _caller  # noqa: PLW0603 - what this process is, for good
    commands, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    _caller = answers
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    os.dup2(2, 1)  # whatever prints must not be taken for an answer
    with contextlib.suppress(Exception):  # what fails is tried again, and said, by each child
        launch.preload(modules)
    with contextlib.suppress(EOFError, BrokenPipeError):
        while True:
            _write(answers, _answer(_read(commands)))


def tell(what: Any) -> None:
    """Tell the caller something while its call is under way; elsewhere than in a lane, nobody."""
    if _caller is not None:
        _write(_caller, pickle.dumps((_Kind.TOLD, what)))


def _answer(request: bytes) -> bytes:
    try:
        function, arguments = pickle.loads(request)  # noqa: S301 - our own caller
        return pickle.dumps((_Kind.DONE, function(*arguments)))
    except Exception as error:  # noqa: BLE001 - it is the caller's, as if called there
        with contextlib.suppress(Exception):
            return pickle.dumps((_Kind.RAISED, error))
        return pickle.dumps((_Kind.RAISED, RuntimeError(repr(error))))


def _write(pipe: IO[bytes], data: bytes) -> None:
    pipe.write(_LENGTH.pack(len(data)) + data)
    pipe.flush()


def _read(pipe: IO[bytes]) -> bytes:
    header = pipe.read(_LENGTH.size)
    if len(header) < _LENGTH.size:
        raise EOFError
    (length,) = _LENGTH.unpack(header)
    data = pipe.read(length)
    if len(data) < length:
        raise EOFError
    return data
