"""What a forked child sheds of its parent.

This happens before it imports anything heavy, and long before it reads a model.
"""

import faulthandler
import fcntl
import gc
import os
import signal
import sys
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

from scanner.sandbox import confinement, linux

_kept: list[object] = []


def shed(
    parent: int, descriptors: Sequence[int], folder: str, environment: Mapping[str, str]
) -> None:
    """Leave this process nothing of the caller's but its modules.

    Args:
        parent: The caller's process id.
        descriptors: They become standard input, output and error, and those that come after; all
            others are closed.
        folder: The new working folder.
        environment: The new environment.
    """
    confinement.die_with_parent()
    if os.getppid() != parent:
        os._exit(1)  # the parent ended before the kernel was told
    os.setsid()  # no terminal to write on, and Ctrl-C is left to the parent
    take_descriptors(descriptors)
    os.chdir(folder)
    _take_signals()
    os.environ.clear()
    os.environ.update(environment)
    linux.wipe_first_environment()
    # The caller's objects stay as they are: collecting one of its files here would close a
    # descriptor of ours.
    gc.freeze()
    warnings.resetwarnings()
    warnings.simplefilter("ignore")


def take_descriptors(descriptors: Sequence[int]) -> None:
    """Make descriptors this process's first and only ones: its three streams come first."""
    # First move them out of the way: the caller may have closed 0, 1 and 2, and one pipe must not
    # overwrite another.
    count = len(descriptors)
    moved = [fcntl.fcntl(descriptor, fcntl.F_DUPFD, count) for descriptor in descriptors]
    for number, descriptor in enumerate(moved):
        os.dup2(descriptor, number)
    os.closerange(count, max(int(path.name) for path in Path("/proc/self/fd").iterdir()) + 1)
    # What the caller's streams hold unwritten or unread belongs to the caller: keep them from being
    # closed here.
    _kept.extend((sys.stdin, sys.stdout, sys.stderr))
    sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115 - open for the whole life
    sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", encoding="utf-8", errors="backslashreplace", closefd=False)  # noqa: SIM115


def _take_signals() -> None:
    """Reset every signal handler that the caller has set."""
    faulthandler.disable()
    signal.set_wakeup_fd(-1)
    for number in signal.valid_signals():
        if callable(signal.getsignal(number)):
            signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
