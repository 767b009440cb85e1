"""Children that share their imports: the caller's side of `scanner.sandbox.nursery`."""

import contextlib
import os
import signal
import struct
import sys
import time
from collections.abc import Sequence

from scanner.sandbox import launch

_NUMBER = struct.Struct("=i")
_GRACE = 1.0  # seconds that a nursery has to follow its last child


def start(preload: Sequence[str], count: int) -> list[launch.Child]:
    """Start children that import `preload` and answer calls (`scanner.sandbox.child.serve`).

    Importing ONNX Runtime takes many times as long as forking a process that has imported it.
    """
    folders = _folders(count) if count > 1 and sys.platform == "linux" else []
    return _twins(preload, folders) if folders else [launch.start(preload) for _ in range(count)]


def _folders(count: int) -> list[str]:
    """Make a folder for each child; none where they cannot be made."""
    folders = [launch.empty_folder() for _ in range(count)]
    made = [folder for folder in folders if folder is not None]
    if len(made) == count:
        return made
    for folder in made:
        launch.remove(folder)
    return []


def _twins(preload: Sequence[str], folders: Sequence[str]) -> list[launch.Child]:
    twins: list[launch.Child] = []
    descriptors: list[int] = []
    with contextlib.ExitStack() as theirs, contextlib.ExitStack() as undo:
        nursery = _Nursery(len(folders))
        for folder in folders:
            twin = Twin(nursery)
            descriptors += launch.open_streams(twin, folder, theirs, undo)
            descriptors.append(twin.open_ear(theirs, undo))
            twins.append(twin)
        nursery.start(descriptors, folders, preload)
        undo.pop_all()
    return twins


class _Nursery:
    """The process that starts the twins; it is there until all of them are given up.

    Args:
        twins: How many.
    """

    def __init__(self, twins: int) -> None:
        self._left = twins
        self._process: launch.Forked | launch.Spawned

    def start(
        self, descriptors: Sequence[int], folders: Sequence[str], preload: Sequence[str]
    ) -> None:
        if launch.may_fork():

            def live() -> None:
                from scanner.sandbox import nursery  # noqa: PLC0415 - this side has no use for it

                nursery.bear(folders, preload)

            self._process = launch.Forked(launch.fork(descriptors, "/", launch.module_path(), live))
            return
        numbers = ",".join(map(str, descriptors))
        self._process = launch.Spawned(
            launch.interpreter("nursery", [numbers, *folders, *preload]),
            pass_fds=descriptors,
            stdin=descriptors[0],
            stdout=descriptors[1],
            stderr=descriptors[2],
            cwd="/",
        )

    def give_up(self, *, unborn: bool) -> None:
        """Count out a twin, and end with the last of them."""
        self._left -= 1
        if self._left == 0:
            self._process.wait(0 if unborn else _GRACE)
            self._process.kill()


class Twin(launch.Child):
    """A child that a nursery has started."""

    def __init__(self, nursery: _Nursery) -> None:
        self._nursery = nursery
        self._said = b""
        self._over = self._given_up = False

    def open_ear(self, theirs: contextlib.ExitStack, undo: contextlib.ExitStack) -> int:
        """Open the pipe on which the nursery tells of this child, and return its end of it."""
        self._ear, mouth = os.pipe()
        undo.callback(os.close, self._ear)
        theirs.callback(os.close, mouth)
        os.set_blocking(self._ear, False)
        return mouth

    @property
    def pid(self) -> int:
        """Its process id, as soon as it has one; 0 if it was never started."""
        return self._heard(0, float("inf")) or 0

    def wait(self, seconds: float = 0) -> int | None:
        """Return its exit code, negative for a signal; None if it still runs after the wait."""
        status = self._heard(1, seconds)
        if status is not None:
            return os.waitstatus_to_exitcode(status)
        return -signal.SIGKILL if self._over else None  # none outlives its nursery

    def kill(self) -> None:
        """End it at once, wait for its end, and remove its folder.

        One that is not started yet will find its pipes closed.
        """
        if self._given_up:
            return
        self._given_up = True
        pid = self._heard(0, 0)
        if pid and self.wait() is None:
            os.kill(pid, signal.SIGKILL)
            self.wait(float("inf"))
        self._over = True
        os.close(self._ear)
        launch.remove(self.folder)
        self._nursery.give_up(unborn=pid is None)

    def _heard(self, number: int, seconds: float) -> int | None:
        """Return what the nursery told: at 0 the process id, at 1 the wait status."""
        end, last = time.monotonic() + seconds, (number + 1) * _NUMBER.size
        while len(self._said) < last and not self._over:
            try:
                data = os.read(self._ear, last - len(self._said))
            except BlockingIOError:
                if time.monotonic() >= end:
                    return None
                time.sleep(launch.PAUSE)
            else:
                self._said, self._over = self._said + data, not data
        if len(self._said) < last:
            return None
        return int(_NUMBER.unpack_from(self._said, number * _NUMBER.size)[0])
