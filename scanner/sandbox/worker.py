"""A child process that answers calls: its answer, or a typed death.

The child is a process of its own (`scanner.sandbox.launch`) without the caller's threads,
descriptors and terminal; it confines itself before the first hostile byte
(`scanner.sandbox.confinement`). This side holds the clock, watches the child's memory, and believes
nothing that comes back without looking at it.
"""

import atexit
import contextlib
import dataclasses
import os
import queue
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Self

from scanner.errors import ScannerError, WorkerCrashedError, WorkerLimitError, WorkerTimeoutError
from scanner.limits import Allowance
from scanner.sandbox import launch, messages

_GRACE = 1.0  # seconds between the request to stop and the end
_GLANCE = 0.1  # seconds between two looks at the child's memory
_ERROR_BYTES = 4096  # of the child's error output; the last line says why it died

_NO_MEMORY = (
    "bad_alloc",
    "MemoryError",
    "can't start new thread",
)  # what C++ and Python say before they end
_GUESSES = {
    -6: " (it gave itself up)",
    -9: " (most likely the system ran out of memory)",
    -11: " (a memory error)",
}

Progress = Callable[[int, int], None]


class Worker:
    """A running child.

    Args:
        preload: Modules that the child imports while it waits for its first call.
    """

    def __init__(self, preload: Sequence[str] = ()) -> None:
        self._child = launch.start(preload)
        self._messages: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    def call(
        self, function: str, argument: Any, allowance: Allowance, progress: Progress | None = None
    ) -> Any:
        """Call `function` ("module:name") in the child with one JSON argument and return its JSON answer.

        At the deadline the child is asked to stop, and may still answer with what it has; a moment
        later it is killed.

        Args:
            function: Takes the argument and a progress callback.
            argument: JSON-serialisable.
            allowance: What the call may use. The first call's files and resources hold for the
                child's whole life.
            progress: Called here as the child makes progress.

        Raises:
            ScannerError: Raised by the function, rebuilt here.
            WorkerTimeoutError: The deadline passed.
            WorkerLimitError: The child needed more memory or processor time than allowed.
            WorkerCrashedError: The child died, or sent what is no answer.
        """
        request = {
            "function": function,
            "argument": argument,
            "allowance": dataclasses.asdict(allowance),
        }
        self._send(request)
        messages = self._until_deadline(allowance)
        while True:
            message = next(messages)
            if message is None:
                raise self._death(allowance)
            try:
                if "progress" not in message:
                    return _answer(message)
                done, total = map(int, message["progress"])
            except (KeyError, TypeError, ValueError, AttributeError) as error:
                self.kill()
                raise WorkerCrashedError.no_answer() from error
            if progress:
                progress(done, total)

    def kill(self) -> None:
        """End the child at once and forget its folder."""
        self._child.kill()
        self._listener.join(
            _GRACE
        )  # so that this process has one thread again, and may fork the next child
        with contextlib.suppress(BrokenPipeError):
            self._child.commands.close()
        self._child.errors.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    @property
    def pid(self) -> int:
        """The child's process id."""
        return self._child.pid

    def _send(self, message: dict[str, Any]) -> None:
        with contextlib.suppress(
            BrokenPipeError
        ):  # a dead child is noticed when its answer is awaited
            messages.write(self._child.commands, message)

    def _listen(self) -> None:
        with self._child.answers as pipe:
            try:
                while (message := messages.read(pipe)) is not None:
                    self._messages.put(message)
            except ValueError:
                self._messages.put({"error": WorkerCrashedError.no_answer().to_dict()})
        self._messages.put(None)

    def _until_deadline(self, allowance: Allowance) -> Iterator[dict[str, Any] | None]:
        """Yield what the child says; ask it to stop at the deadline, kill it a moment later or past its memory."""
        asked, end = False, time.monotonic() + allowance.seconds
        while True:
            left = end - time.monotonic()
            if left <= 0 and asked:
                self.kill()
                raise WorkerTimeoutError(
                    f"the scan did not end within {allowance.seconds:g} seconds",
                    remedy="raise --timeout; a model that never ends is itself suspect",
                )
            if left <= 0:
                self._send({"cancel": True})
                asked, end = True, time.monotonic() + _GRACE
                continue
            memory, threads = launch.held(self._child.pid)
            if memory > allowance.limits.memory:
                self.kill()
                raise WorkerLimitError.memory(allowance.limits.memory)
            if threads > allowance.most_threads:
                self.kill()
                raise WorkerLimitError(
                    f"the process that ran the model started more than {allowance.most_threads} "
                    "threads",
                    remedy="the model may have taken it over: do not deploy it, and report it",
                )
            with contextlib.suppress(queue.Empty):
                yield self._messages.get(timeout=min(left, _GLANCE))

    def _death(self, allowance: Allowance) -> ScannerError:
        """Return how the child died."""
        code = self._child.wait(_GRACE)
        if code is None:  # it closed its pipe and lives on
            return WorkerCrashedError.no_answer()
        self._child.errors.seek(max(0, self._child.errors.seek(0, os.SEEK_END) - _ERROR_BYTES))
        lines = self._child.errors.read().decode(errors="replace").strip().splitlines()
        if any(sign in line for sign in _NO_MEMORY for line in lines):
            return WorkerLimitError.memory(allowance.limits.memory)
        if sys.platform != "win32" and code == -signal.SIGXCPU:
            return WorkerLimitError(
                "the model needs more processor time than its deadline allows",
                remedy="raise --timeout",
            )
        said = f" ({lines[-1]})" if lines else _GUESSES.get(code, "")
        how = f"by signal {-code}" if code < 0 else f"with exit code {code}"
        return WorkerCrashedError(
            f"the process that ran the model died {how}{said}",
            remedy="the model may be built to crash its reader: do not deploy it; report it if you "
            "trust its source",
        )


def _answer(message: dict[str, Any]) -> Any:
    if "error" in message:
        raise ScannerError.from_dict(message["error"])
    return message["answer"]


_warm: list[Worker] = []


def prestart(preload: Sequence[str]) -> None:
    """Start a child now that the next `take` will hand out, so that it imports while the caller reads its options."""
    if not _warm:
        atexit.register(discard)
        _warm.append(Worker(preload))


def take(preload: Sequence[str]) -> Worker:
    """Return the child started before, or a new one."""
    return _warm.pop() if _warm else Worker(preload)


def discard() -> None:
    """End a child that was started and never used."""
    while _warm:
        _warm.pop().kill()
