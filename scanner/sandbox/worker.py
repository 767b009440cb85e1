"""A child process that answers calls with an answer or a typed failure.

The child is a process of its own (`scanner.sandbox.launch`) without the caller's threads,
descriptors and terminal; it confines itself before the first hostile byte
(`scanner.sandbox.confinement`). This side keeps the time, watches the child's memory and threads,
and checks everything that comes back before believing it.
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
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Self, TypeVar

from scanner.errors import (
    ErrorData,
    ScannerError,
    WorkerCrashedError,
    WorkerLimitError,
    WorkerTimeoutError,
)
from scanner.limits import MIB, Allowance
from scanner.sandbox import launch, messages, twins
from scanner.sandbox.endpoint import Answer, Endpoint, Progress, Request, Step
from scanner.values import UnfitError, from_json, to_json

_GRACE = 1.0  # seconds between asking the child to stop and killing it
_GLANCE = 0.1  # seconds between two checks of the child's memory and threads
_NEAR = 0.75  # of the memory allowed: a child that holds as much may have died for want of more
_AT_ONCE = 3  # times its file, which a child may ask for between two checks of its memory
_MOST_UNREAD = 16  # progress messages that wait to be looked at
_ERROR_BYTES = 4096  # of the child's error output; the last line says why it died

# What C++ and Python print before they end for want of memory.
_NO_MEMORY = ("bad_alloc", "MemoryError", "can't start new thread")
_GUESSES = {
    -6: " (it aborted)",
    -9: " (most likely the system ran out of memory)",
    -11: " (a memory error)",
}


Part = TypeVar("Part")


class Worker:
    """A running child.

    Args:
        preload: Modules that the child imports while it waits for its first call.
        child: It, where it was started together with others.
    """

    def __init__(self, preload: Sequence[str] = (), child: launch.Child | None = None) -> None:
        self._child = child or launch.start(preload)
        self._messages: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
        self._listener: threading.Thread | None = None
        self._most = 0  # bytes that the child was seen to hold
        self._parts = messages.Shelf()

    def ask(
        self,
        endpoint: Endpoint[Request, Answer],
        request: Request,
        allowance: Allowance,
        progress: Progress | None = None,
    ) -> Answer:
        """Have the child carry out a request, and return its answer.

        At the deadline the child is asked to stop, and may still answer with what it has; a moment
        later it is killed.

        Args:
            endpoint: What to ask.
            request: Of the endpoint's type.
            allowance: What the call may use. The first call's files and resources hold for the
                child's whole life.
            progress: Called on this side as the child makes progress.

        Raises:
            ScannerError: Raised by the endpoint's function, rebuilt here.
            WorkerTimeoutError: The deadline passed.
            WorkerLimitError: The child needed more memory, threads or processor time than
                allowed, or the request is larger than a message may be.
            WorkerCrashedError: The child died, or sent something other than an answer of the
                endpoint's type.
        """
        message = {
            "function": endpoint.function,
            "request": to_json(request),
            "allowance": dataclasses.asdict(allowance),
        }
        answer = self._exchange(message, allowance, progress)
        try:
            return endpoint.read(answer)
        except UnfitError as error:
            self.kill()
            raise WorkerCrashedError.no_answer(error.field or "the whole of it") from error

    def parts(self, kind: type[Part]) -> list[Part]:
        """Return what the child had finished of its last call, where no answer came.

        Args:
            kind: What the endpoint's function hands over (`scanner.sandbox.handover`).

        Raises:
            WorkerCrashedError: It sent something else.
        """
        try:
            return [from_json(kind, messages.parsed(data)["part"]) for data in self._parts.held]
        except UnfitError as error:
            raise WorkerCrashedError.no_answer(error.field) from error
        except ValueError as error:  # nested too deeply for this thread, which has called further
            raise WorkerCrashedError.no_answer() from error

    def _exchange(
        self, request: dict[str, Any], allowance: Allowance, progress: Progress | None
    ) -> Any:
        """Send a message and return the answer to it, as JSON data."""
        self._parts = messages.Shelf()
        # Only while an answer is awaited, so that this process has one thread again afterwards, and
        # may fork the next child.
        listener = threading.Thread(target=self._converse, args=(_packed(request),), daemon=True)
        listener.start()
        self._listener = listener  # known only once it runs: whoever kills the child waits for it
        said = self._until_deadline(allowance)
        while True:
            message = next(said)
            if message is None:
                raise self._death(allowance)
            try:
                if "progress" not in message:
                    listener.join(_GRACE)
                    return _answer(message)
            except UnfitError as error:
                self.kill()
                raise WorkerCrashedError.no_answer(error.field) from error
            if progress:
                progress(message["progress"])

    def kill(self) -> None:
        """End the child at once and forget its folder."""
        self._child.kill()
        if self._listener is not None:
            self._listener.join(_GRACE)
        self._child.answers.close()
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

    def _send(self, data: bytes) -> None:
        """Send a message, in a thread: a child that does not read would keep this side waiting."""
        # A dead child is noticed later, when its answer is awaited; then the pipe is closed.
        with contextlib.suppress(BrokenPipeError, ValueError):
            self._child.commands.write(data)
            self._child.commands.flush()

    def _converse(self, request: bytes) -> None:
        """Send a message, and take in progress and parts until there is an answer, or an end.

        What a child sends after its answer stays in the pipe, which soon is full.
        """
        self._send(request)
        try:
            while (data := messages.receive(self._child.answers)) is not None:
                message = messages.parsed(data)
                if "part" in message:
                    self._parts.put(data)
                elif "progress" in message:
                    self._take_in(message["progress"])
                else:
                    self._messages.put(message)
                    return
        except ValueError:
            self._messages.put({"error": WorkerCrashedError.no_answer().to_dict()})
        self._messages.put(None)

    def _take_in(self, progress: Any) -> None:
        """Keep progress for whoever waits for it.

        What nobody has looked at yet is dropped, so that a child which floods this process does not
        fill its memory.

        Raises:
            UnfitError: It is not a `Step`.
        """
        step = dataclasses.replace(from_json(Step, progress), model="")
        if self._messages.qsize() < _MOST_UNREAD:
            self._messages.put({"progress": step})

    def _until_deadline(self, allowance: Allowance) -> Iterator[dict[str, Any] | None]:
        """Yield what the child says, None once it has closed its pipe.

        At the deadline it is asked to stop, and killed a moment later; past its memory or its
        threads it is killed at once.
        """
        asked, end = False, time.monotonic() + allowance.seconds
        while True:
            left = end - time.monotonic()
            if left <= 0 and asked:
                self.kill()
                raise WorkerTimeoutError(
                    f"the scan did not end within {allowance.seconds:g} seconds",
                    remedy="raise the setting `timeout`: a large model takes longer, and only one "
                    "that was built to hang never ends",
                )
            if left <= 0:
                cancel = messages.packed({"cancel": True})
                threading.Thread(target=self._send, args=(cancel,), daemon=True).start()
                asked, end = True, time.monotonic() + _GRACE
                continue
            now = launch.held(self._child.pid)
            # Where the kernel does not limit what a process asks for, it may ask for far more.
            watched = allowance.cuda or allowance.unconfined
            self._most = max(self._most, now.memory if watched else now.asked)
            if now.memory > allowance.limits.memory:
                self.kill()
                raise WorkerLimitError.memory(allowance.limits.memory)
            if now.threads > allowance.most_threads:
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
        if code is None:  # it closed its pipe, but is still running
            return WorkerCrashedError.no_answer()
        self._child.errors.seek(max(0, self._child.errors.seek(0, os.SEEK_END) - _ERROR_BYTES))
        lines = self._child.errors.read().decode(errors="replace").strip().splitlines()
        if any(sign in line for sign in _NO_MEMORY for line in lines):
            return WorkerLimitError.memory(allowance.limits.memory)
        if sys.platform != "win32" and code == -signal.SIGXCPU:
            return WorkerLimitError(
                "the model needs more processor time than its deadline allows",
                remedy="raise the setting `timeout`",
            )
        said = f" ({lines[-1]})" if lines else _GUESSES.get(code, "")
        how = f"by signal {-code}" if code < 0 else f"with exit code {code}"
        allowed = allowance.limits.memory
        if code < 0 and self._most >= _near(allowance):
            # Libraries that do not look whether they got what they asked for die in many ways.
            return WorkerLimitError(
                f"the process that ran the model died {how}{said} when it held "
                f"{self._most / MIB:,.0f} MiB of the {allowed / MIB:,.0f} MiB of memory that are "
                "allowed",
                remedy="raise the setting `memory` if you trust the file",
            )
        return WorkerCrashedError(
            f"the process that ran the model died {how}{said}",
            remedy="the model may be built to crash the program that reads it: do not deploy it; "
            "report it if you trust its source",
        )


def _near(allowance: Allowance) -> float:
    """Return from how many bytes on a child may have died for want of more.

    A large file is copied as a whole, and what it is written to doubles.
    """
    allowed = allowance.limits.memory
    largest = 0
    for path in map(Path, (*allowance.models, *allowance.readable)):
        with contextlib.suppress(OSError):
            if path.is_file():  # a folder's size is not that of what is read of it
                largest = max(largest, path.stat().st_size)
    return min(_NEAR * allowed, allowed - _AT_ONCE * largest)


def _packed(request: dict[str, Any]) -> bytes:
    """Return the bytes of a request.

    Raises:
        WorkerLimitError: It is larger than a message may be.
    """
    try:
        return messages.packed(request)
    except ValueError as error:
        raise WorkerLimitError(
            f"what a process has to be told is more than a message may hold ({error})",
            remedy="name fewer clean models; if you name few, the model may have taken over the "
            "process that ran it: do not deploy it, and report it",
        ) from error


def _answer(message: dict[str, Any]) -> Any:
    """Return an answer, or raise the error that came in its place.

    Raises:
        UnfitError: It is neither.
    """
    if "error" in message:
        raise ScannerError.from_dict(from_json(ErrorData, message["error"]))
    if "answer" not in message:
        raise UnfitError("neither an answer nor an error")
    return message["answer"]


_warm: list[Worker] = []


def prestart(preload: Sequence[str], count: int = 1) -> None:
    """Start children for the next calls of `take`.

    They import while the caller does something else, and several import only once.
    """
    _warm.extend(Worker(child=child) for child in twins.start(preload, count - len(_warm)))


def take(preload: Sequence[str]) -> Worker:
    """Return the child started earlier, or a new one."""
    return _warm.pop() if _warm else Worker(preload)


def discard() -> None:
    """End the children that were started but never used."""
    while _warm:
        _warm.pop().kill()


atexit.register(discard)  # once, however many scans this process makes
