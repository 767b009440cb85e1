"""A file that tells whether anybody read it, whoever did and however (Linux: inotify)."""

import ctypes
import os
import struct
import sys
from pathlib import Path
from typing import Self

_IN_ACCESS = 1
_EVENT = struct.Struct("iIII")


class Canary:
    """Watches a file while the block runs.

    Args:
        path: The file; links to it are the same file.
    """

    available = sys.platform == "linux"

    def __init__(self, path: Path) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._path = path
        self._descriptor = -1

    def __enter__(self) -> Self:
        """Start to watch, and prove that a read is seen."""
        self._descriptor = self._libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        added = self._libc.inotify_add_watch(self._descriptor, os.fsencode(self._path), _IN_ACCESS)
        assert added >= 0, os.strerror(ctypes.get_errno())
        self._path.read_bytes()
        assert self.reads() > 0, "inotify sees nothing"
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._descriptor)

    def reads(self) -> int:
        """Return how often the file was read since this was last asked."""
        try:
            data = os.read(self._descriptor, 2**16)
        except BlockingIOError:
            return 0
        return len(data) // _EVENT.size
