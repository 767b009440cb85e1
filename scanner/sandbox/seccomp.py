"""A seccomp filter: no new sockets, no new processes, no program started, no other process touched.

Landlock knows only TCP, and lets a process escape its memory limit by forking; this filter closes
both gaps. Everything else passes: the filter is a short list of calls that reading a model never
needs, not an allow-list that a new C library would break.

Source: the kernel's documentation, Documentation/userspace-api/seccomp_filter.rst.
"""

import ctypes
import errno
import platform
import struct
import sys
from typing import NamedTuple

from scanner.sandbox import linux

_PR_SET_SECCOMP, _MODE_FILTER = 22, 2
_LOAD, _JUMP_EQUAL, _JUMP_AT_LEAST, _JUMP_ANY_BIT, _ANSWER = 0x20, 0x15, 0x35, 0x45, 0x06
_NUMBER, _ARCHITECTURE, _FIRST_ARGUMENT = 0, 4, 16  # offsets in struct seccomp_data
_ALLOW, _FAIL = 0x7FFF0000, 0x00050000
_CLONE_THREAD = 0x10000
_X32 = 0x40000000  # numbers from here on belong to x86_64's second table
_CLONE3 = 435


class _Architecture(NamedTuple):
    """An architecture's audit number, its clone(2), and the calls that are refused."""

    audit: int
    clone: int
    refused: tuple[int, ...]


# socket, io_uring_setup, (fork, vfork,) execve, execveat, ptrace, process_vm_writev, kill
_ARCHITECTURES = {
    "x86_64": _Architecture(0xC000003E, 56, (41, 425, 57, 58, 59, 322, 101, 311, 62)),
    "aarch64": _Architecture(0xC00000B7, 220, (198, 425, 221, 281, 117, 271, 129)),
}


def refuse() -> bool:
    """Install the filter for this thread and those it starts later; return whether that worked."""
    known = (
        _ARCHITECTURES.get(platform.machine())
        if sys.platform == "linux" and sys.maxsize > 2**32
        else None
    )
    if known is None:
        return False
    program = b"".join(struct.pack("=HBBI", *instruction) for instruction in _program(known))
    code = ctypes.create_string_buffer(program, len(program))
    header = struct.pack("@HP", len(program) // 8, ctypes.addressof(code))
    return linux.control_process(_PR_SET_SECCOMP, _MODE_FILTER, header)


def _program(known: _Architecture) -> list[tuple[int, int, int, int]]:
    """Return the filter as BPF instructions: code, steps to jump if true, if false, operand.

    clone3(2) takes its flags in memory, where a filter cannot see them; told that the call does not
    exist, the C library falls back to clone(2).
    """
    deny = [(_ANSWER, 0, 0, _FAIL | errno.EACCES)]
    tests = [(_JUMP_AT_LEAST, 0, 1, _X32), *deny]
    for number in known.refused:
        tests += [(_JUMP_EQUAL, 0, 1, number), *deny]
    tests += [(_JUMP_EQUAL, 0, 1, _CLONE3), (_ANSWER, 0, 0, _FAIL | errno.ENOSYS)]
    tests += [
        (_JUMP_EQUAL, 0, 3, known.clone),
        (_LOAD, 0, 0, _FIRST_ARGUMENT),
        (_JUMP_ANY_BIT, 1, 0, _CLONE_THREAD),
        *deny,
    ]
    head = [
        (_LOAD, 0, 0, _ARCHITECTURE),
        (_JUMP_EQUAL, 1, 0, known.audit),
        *deny,
        (_LOAD, 0, 0, _NUMBER),
    ]
    return [*head, *tests, (_ANSWER, 0, 0, _ALLOW)]
