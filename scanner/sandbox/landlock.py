"""Landlock: a Linux process gives up files and network for good, without privileges of its own.

It confines what is opened, made, moved and removed, but not what stat(2) tells about a file.

Source: the kernel's documentation, Documentation/userspace-api/landlock.rst.
"""

import ctypes
import errno
import os
import stat
import struct
import sys
from collections.abc import Iterable

from scanner.sandbox import linux

# The same numbers on every architecture.
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_ASK_VERSION = 1
_RULE_PATH_BENEATH = 1

_WRITE_FILE, _READ_FILE, _READ_DIR, _IOCTL_DEV = 1 << 1, 1 << 2, 1 << 3, 1 << 15
_FILE_RIGHTS = _WRITE_FILE | _READ_FILE | _IOCTL_DEV
# What can be given up, by the version of the interface that brought it.
_FILES = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1, 5: (1 << 16) - 1}
_TCP = {4: 0b11}  # bind, connect
_SCOPES = {6: 0b11}  # abstract UNIX sockets, signals to processes outside
_ATTRIBUTE_BYTES = {1: 8, 4: 16, 6: 24}


def version() -> int:
    """Return the kernel's Landlock version, 0 if it has none or it is switched off."""
    if sys.platform != "linux":
        return 0
    return max(0, linux.system_call(_CREATE_RULESET, None, 0, _ASK_VERSION))


def restrict(readable: Iterable[str], devices: Iterable[str] = ()) -> int:
    """Leave this thread, and those it starts later, nothing but these files, and no TCP.

    Args:
        readable: Files and folders to read; those that do not exist are ignored.
        devices: Device files to use.

    Returns:
        The version in force, 0 if the kernel has none.
    """
    have = version()
    if not have:
        return 0
    files = _newest(_FILES, have)
    attributes = struct.pack("=QQQ", files, _newest(_TCP, have), _newest(_SCOPES, have))[
        : _newest(_ATTRIBUTE_BYTES, have)
    ]
    rules = linux.system_call(_CREATE_RULESET, attributes, len(attributes), 0)
    if rules < 0:
        return 0
    try:
        for path in readable:
            _allow(rules, path, _READ_FILE | _READ_DIR)
        for path in devices:
            _allow(rules, path, _FILE_RIGHTS & files)
        return have if linux.system_call(_RESTRICT_SELF, rules, 0) == 0 else 0
    finally:
        os.close(rules)


def _newest(values: dict[int, int], have: int) -> int:
    return max((value for since, value in values.items() if since <= have), default=0)


def _allow(rules: int, path: str, rights: int) -> None:
    if sys.platform != "linux":
        return
    try:
        descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return  # nothing is there, so there is nothing to allow
    try:
        granted = rights if stat.S_ISDIR(os.fstat(descriptor).st_mode) else rights & _FILE_RIGHTS
        rule = struct.pack("=Qi", granted, descriptor)
        failed = linux.system_call(_ADD_RULE, rules, _RULE_PATH_BENEATH, rule, 0) < 0
        # Pipes and sockets without a name lie in no folder, and no rule is about them.
        if failed and (reason := ctypes.get_errno()) != errno.EBADFD:
            raise OSError(reason, os.strerror(reason), path)
    finally:
        os.close(descriptor)
