"""The child's side of `scanner.sandbox.worker`: it confines itself, then answers calls."""

import contextlib
import gc
import importlib
import math
import os
import queue
import threading
import time
from collections.abc import Sequence
from typing import IO, Any

from scanner.errors import DeviceError, ScannerError, WorkerCrashedError, WorkerLimitError
from scanner.limits import Allowance
from scanner.sandbox import confinement, deadline, handover, messages
from scanner.sandbox.endpoint import Step, carry_out
from scanner.values import from_json, to_json

_PROGRESS_SECONDS = 0.1  # a measurement's first step, and its first at a class, are always told


def serve(preload: Sequence[str]) -> None:
    """Answer calls on standard input until it closes: the child's whole life.

    The first call's allowance confines the process for good. This happens after the imports, before
    the first hostile byte, and while there is only one thread, because Landlock and seccomp bind
    the calling thread and those it starts later.
    """
    confinement.die_with_parent()
    pipe = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    refusal = import_ahead(preload)
    commands = os.fdopen(0, "rb", closefd=False)
    first = messages.read(commands)
    if first is None:
        return
    confinement.confine(from_json(Allowance, first["allowance"]))
    calls: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
    deadline.renew(from_json(Allowance, first["allowance"]).seconds)
    calls.put(first)
    threading.Thread(target=_receive, args=(commands, calls), daemon=True).start()
    while True:
        request = calls.get()
        messages.write(pipe, refusal or _answer(request, pipe))


def import_ahead(modules: Sequence[str]) -> dict[str, Any] | None:
    """Import ahead of the first call; return the answer to every call if a library is missing."""
    # Imports make little garbage but many objects, which the collector would walk over and over.
    gc.disable()
    try:
        for name in modules:
            importlib.import_module(name)
    except ScannerError as error:
        return {"error": error.to_dict()}
    except ImportError as error:
        missing = DeviceError(
            f"a library that a scan needs cannot be loaded ({error})",
            remedy="reinstall this program: pip install 'overactivation[cpu]', or "
            "'overactivation[gpu]' for CUDA",
        )
        return {"error": missing.to_dict()}
    finally:
        gc.freeze()
        gc.enable()
    return None


def _receive(commands: IO[bytes], calls: queue.SimpleQueue[dict[str, Any]]) -> None:
    """Pass on calls, stop one that is cancelled, and end the process when its parent ends."""
    while (message := messages.read(commands)) is not None:
        if "cancel" in message:
            deadline.expire()
        else:
            deadline.renew(from_json(Allowance, message["allowance"]).seconds)
            calls.put(message)
    os._exit(0)


def _answer(request: dict[str, Any], pipe: IO[bytes]) -> dict[str, Any]:
    module, name = request["function"].split(":")
    last = -math.inf
    begun: set[tuple[str | None, bool]] = set()

    def progress(step: Step) -> None:
        nonlocal last
        kind = (step.rule, step.class_id is None)
        if kind not in begun or time.monotonic() - last > _PROGRESS_SECONDS:
            last = time.monotonic()
            begun.add(kind)
            messages.write(pipe, {"progress": to_json(step)})

    def hand_over(part: Any) -> None:
        # Larger than a message may be: it is in the answer alone.
        with contextlib.suppress(ValueError):
            messages.write(pipe, {"part": part})

    handover.by(hand_over)
    try:
        function = getattr(importlib.import_module(module), name)
        return {"answer": carry_out(function, request["request"], progress)}
    except ScannerError as error:
        return {"error": error.to_dict()}
    except MemoryError:
        allowed = from_json(Allowance, request["allowance"]).limits.memory
        return {"error": WorkerLimitError.memory(allowed).to_dict()}
    except Exception as error:  # noqa: BLE001 - a bug of ours becomes a typed answer with its trace
        return {"error": WorkerCrashedError.internal(error).to_dict()}
