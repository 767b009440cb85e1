"""A child process that answers calls: its answer, or a typed death.

The child is a fresh interpreter, so the caller's threads, descriptors and modules are not in it. Messages are JSON with
a length in front. The child's own standard output is closed to the models: ONNX Runtime prints there in some failures.
"""

import atexit
import contextlib
import importlib
import json
import os
import queue
import struct
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Self

from scanner.errors import ScannerError, WorkerCrashedError, WorkerTimeoutError

_HEADER = struct.Struct(">I")
_STARTER = "import sys; sys.path.insert(0, sys.argv[1]); from scanner.worker import serve; serve(sys.argv[2:])"
_PROGRESS_SECONDS = 0.1

Progress = Callable[[int, int], None]


class Worker:
    """A running child.

    Args:
        preload: Modules that the child imports while it waits for its first call.
    """

    def __init__(self, preload: Sequence[str] = ()) -> None:
        root = str(Path(__file__).resolve().parent.parent)
        self._folder = tempfile.TemporaryDirectory(prefix="scan-")
        self._errors = tempfile.TemporaryFile()
        # -P keeps the folder of the models, which may hold a hostile numpy.py, out of the child's module path.
        self._child = subprocess.Popen(
            [sys.executable, "-P", "-c", _STARTER, root, *preload],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            cwd=self._folder.name,
            env={**os.environ, "ORT_DISABLE_TELEMETRY": "1", "OPENBLAS_NUM_THREADS": "1"},
        )
        self._messages: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
        threading.Thread(target=self._listen, daemon=True).start()

    def call(self, function: str, argument: Any, *, seconds: float, progress: Progress | None = None) -> Any:
        """Call `function` ("module:name") in the child with one JSON argument and return its JSON answer.

        Args:
            function: Takes the argument and a progress callback.
            argument: JSON-serialisable.
            seconds: Deadline on the wall clock; the child is killed when it passes.
            progress: Called here as the child makes progress.

        Raises:
            ScannerError: Raised by the function, rebuilt here.
            WorkerTimeoutError: The deadline passed.
            WorkerCrashedError: The child died.
        """
        deadline = time.monotonic() + seconds
        with contextlib.suppress(BrokenPipeError):
            _write(self._stdin, {"function": function, "argument": argument})
        while True:
            try:
                message = self._messages.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                self.kill()
                raise WorkerTimeoutError(
                    f"the scan did not end within {seconds:g} seconds",
                    remedy="raise --timeout; a model that never ends is itself suspect",
                ) from None
            if message is None:
                raise self._crash()
            if "progress" in message:
                if progress:
                    progress(*message["progress"])
            elif "error" in message:
                raise ScannerError.from_dict(message["error"])
            else:
                return message["answer"]

    def kill(self) -> None:
        """End the child at once and forget its folder."""
        self._child.kill()
        self._child.wait()
        self._stdin.close()
        self._errors.close()
        self._folder.cleanup()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    @property
    def _stdin(self) -> BinaryIO:
        assert self._child.stdin is not None  # noqa: S101 - opened as a pipe above
        return self._child.stdin  # type: ignore[return-value]

    def _listen(self) -> None:
        assert self._child.stdout is not None  # noqa: S101 - opened as a pipe above
        with self._child.stdout as pipe:
            while (message := _read(pipe)) is not None:
                self._messages.put(message)
        self._messages.put(None)

    def _crash(self) -> WorkerCrashedError:
        code = self._child.wait()
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").strip().splitlines()
        said = f" ({lines[-1]})" if lines else ""
        how = f"by signal {-code}" if code < 0 else f"with exit code {code}"
        return WorkerCrashedError(
            f"the process that ran the model died {how}{said}",
            remedy="the model may be built to crash its reader: do not deploy it, and report it if you trust its source",
        )


def serve(preload: Sequence[str]) -> None:
    """Answer calls on standard input until it closes: the child's whole life."""
    pipe = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    refusal = _import(preload)
    while (request := _read(sys.stdin.buffer)) is not None:
        _write(pipe, refusal or _answer(request, pipe))


def _import(modules: Sequence[str]) -> dict[str, Any] | None:
    """Import ahead of the first call; return the answer to every call where a dependency is missing."""
    try:
        for name in modules:
            importlib.import_module(name)
    except ScannerError as error:
        return {"error": error.to_dict()}
    return None


def _answer(request: dict[str, Any], pipe: BinaryIO) -> dict[str, Any]:
    module, name = request["function"].split(":")
    last = 0.0

    def progress(done: int, total: int) -> None:
        nonlocal last
        if time.monotonic() - last > _PROGRESS_SECONDS:
            last = time.monotonic()
            _write(pipe, {"progress": [done, total]})

    try:
        return {"answer": getattr(importlib.import_module(module), name)(request["argument"], progress)}
    except ScannerError as error:
        return {"error": error.to_dict()}
    except Exception as error:  # noqa: BLE001 - the worker's boundary: our own bugs become a typed answer with their trace
        problem = f"internal error: {type(error).__name__}: {error}"
        bug = ScannerError(problem, remedy="please report it with the model's SHA-256", trace=traceback.format_exc())
        return {"error": bug.to_dict()}


def _write(pipe: BinaryIO, message: dict[str, Any]) -> None:
    data = json.dumps(message).encode()
    pipe.write(_HEADER.pack(len(data)) + data)
    pipe.flush()


def _read(pipe: BinaryIO) -> dict[str, Any] | None:
    header = pipe.read(_HEADER.size)
    if len(header) < _HEADER.size:
        return None
    (size,) = _HEADER.unpack(header)
    data = pipe.read(size)
    message: dict[str, Any] | None = json.loads(data) if len(data) == size else None
    return message


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
