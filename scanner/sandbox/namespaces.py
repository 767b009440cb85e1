"""Namespaces of one's own: the rest of the machine is not there to be seen (Linux).

Landlock and seccomp refuse what a process may do to others; namespaces leave it nothing to do it
to. A mount namespace holds a /proc without other processes, the network namespace has no device,
and the others nothing to share memory or queues with. Root makes them as it is, anybody else within
a user namespace, where the system allows that.

A PID namespace is not made. Its first process does not die of its own signals, so it would take one
more process to tell one crash from another; and what it would hide, this /proc does not show.

Source: the Linux manual pages namespaces(7), user_namespaces(7) and mount_namespaces(7); open_tree
and move_mount have the same numbers on every architecture.
"""

import ctypes
import os
import sys
from pathlib import Path
from typing import Any

from scanner.sandbox import linux

_USER = 0x10000000  # CLONE_NEWUSER
_NEW = {"mount": 0x00020000, "network": 0x40000000, "IPC": 0x08000000, "host name": 0x04000000}
_OPEN_TREE, _MOVE_MOUNT = 428, 429
_CLONE_TREE = 0x1 | 0x8000 | os.O_CLOEXEC  # OPEN_TREE_CLONE, AT_RECURSIVE
_FROM_EMPTY_PATH = 0x4  # MOVE_MOUNT_F_EMPTY_PATH
_HERE = -100  # AT_FDCWD
_PRIVATE = 0x4000 | 0x40000  # MS_REC, MS_PRIVATE
_SEALED = 0x2 | 0x4 | 0x8  # MS_NOSUID, MS_NODEV, MS_NOEXEC
_DETACH = 2  # MNT_DETACH

_KEPT = ("cpuinfo", "meminfo")
"""Files of /proc, beside those of the process itself, that native libraries read."""


def enter() -> tuple[str, ...]:
    """Enter namespaces of one's own, and return which; this thread must be the only one."""
    if sys.platform != "linux":
        return ()
    every = sum(_NEW.values())
    if os.geteuid() == 0:
        return tuple(_NEW) if linux.unshare(every) else ()
    user, group = os.geteuid(), os.getegid()
    if linux.unshare(_USER | every):
        _keep_account(user, group)
        return ("user", *_NEW)
    return ("user",) if linux.unshare(_USER) else ()


def _keep_account(user: int, group: int) -> None:
    """Keep one's own user and group in a new user namespace; without, no file can be made in it."""
    own = Path("/proc/self")
    try:
        (own / "uid_map").write_text(f"{user} {user} 1", encoding="ascii")
        (own / "setgroups").write_text("deny", encoding="ascii")
        (own / "gid_map").write_text(f"{group} {group} 1", encoding="ascii")
    except OSError:
        return  # then /proc stays as it is, and that is said


def hide_processes() -> bool:
    """Put a /proc in place that shows this process alone; return whether that worked.

    It takes a mount namespace of one's own, and the right to mount in it.
    """
    libc: Any = ctypes.CDLL(None, use_errno=True)
    name = str(os.getpid())
    trees = [_tree(f"/proc/{entry}") for entry in (name, *_KEPT)]
    try:
        if min(trees) < 0 or libc.mount(None, b"/", None, ctypes.c_ulong(_PRIVATE), None) != 0:
            return False
        options = b"size=16k,mode=755"
        if libc.mount(b"none", b"/proc", b"tmpfs", ctypes.c_ulong(_SEALED), options) != 0:
            return False
        if _furnished(name, trees):
            return True
        libc.umount2(b"/proc", _DETACH)
        return False
    finally:
        for tree in trees:
            if tree >= 0:
                os.close(tree)


def _furnished(name: str, trees: list[int]) -> bool:
    """Move what is kept of the old /proc to the new one."""
    proc = Path("/proc")
    try:
        (proc / name).mkdir()
        (proc / "self").symlink_to(name)
        for entry in _KEPT:
            (proc / entry).touch()
    except OSError:  # the account has no place in this namespace
        return False
    return all(
        linux.system_call(
            _MOVE_MOUNT, tree, b"", _HERE, f"/proc/{entry}".encode(), _FROM_EMPTY_PATH
        )
        == 0
        for tree, entry in zip(trees, (name, *_KEPT), strict=True)
    )


def _tree(path: str) -> int:
    """Return a descriptor of a copy of what is mounted at a path, -1 where there is none."""
    return linux.system_call(_OPEN_TREE, _HERE, path.encode(), _CLONE_TREE)
