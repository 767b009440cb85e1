"""A process that imports what several children need, once, and then starts them.

It opens no model, and ends when its children have. They share its imports and nothing else: each
sheds what it inherits and confines itself, as a child does that the caller has started.
"""

import contextlib
import os
import struct
import sys
from collections.abc import Sequence

from scanner.sandbox import child, confinement, fork, launch

_NUMBER = struct.Struct("=i")
_STREAMS = 3
_EACH = 4  # descriptors of a child: its streams, and the pipe on which to tell of it


def serve(arguments: Sequence[str]) -> None:
    """Be the nursery in a fresh interpreter.

    Args:
        arguments: The children's descriptors, joined by commas; their working folders; what to
            import.
    """
    confinement.die_with_parent()
    descriptors = [int(number) for number in arguments[0].split(",")]
    fork.take_descriptors(descriptors)
    last = 1 + len(descriptors) // _EACH
    bear(arguments[1:last], arguments[last:])


def bear(folders: Sequence[str], preload: Sequence[str]) -> None:
    """Import, start a child for each folder, and tell how each of them ends.

    Of a child there are four descriptors, those of the first from 0 on: what becomes its standard
    input, output and error, and a pipe that gets two numbers, its process id and its wait status.
    """
    child.import_ahead(preload)  # what fails is tried again, and said, by each child
    told_on = {}
    for number, folder in enumerate(folders):
        first = number * _EACH
        pid = _start(range(first, first + _STREAMS), folder, preload, len(folders) * _EACH)
        told_on[pid] = first + _STREAMS
        _tell(told_on[pid], pid)
    for pipe in told_on.values():  # so that a child's pipes end with it
        os.closerange(pipe - _STREAMS, pipe)
    while told_on:
        pid, status = os.wait()
        _tell(told_on.pop(pid), status)


def _start(streams: Sequence[int], folder: str, preload: Sequence[str], end: int) -> int:
    """Fork a child; where a library has started threads, which would be lost, spawn it.

    Args:
        streams: What becomes its standard input, output and error.
        folder: Its working folder.
        preload: What it needs.
        end: This process has no descriptors from here on.
    """
    if launch.is_alone():
        return launch.fork(streams, folder, sys.path, lambda: launch.serve(preload))
    os.chdir(folder)
    command = launch.interpreter("child", preload)
    taken = [(os.POSIX_SPAWN_DUP2, stream, number) for number, stream in enumerate(streams)]
    closed = [(os.POSIX_SPAWN_CLOSE, number) for number in range(_STREAMS, end)]
    return os.posix_spawn(
        command[0], command, launch.environment(), file_actions=[*taken, *closed], setsid=True
    )


def _tell(pipe: int, number: int) -> None:
    with contextlib.suppress(BrokenPipeError):  # the caller has given up this child, or has ended
        os.write(pipe, _NUMBER.pack(number))
