"""A seccomp filter: the system calls that a scan needs, and no others.

The list was measured with strace: every detector over every sample, first-layer scans, external
data, images from archives and folders, forked children and fresh interpreters. It grew by what the
same libraries call on other C libraries and kernels. Landlock decides which files are read; this
filter decides that no file is opened for writing, whatever the version of Landlock.

A refused call fails with EPERM. A call too new for this list fails with ENOSYS, as on an older
kernel, so that a C library falls back on the older one.

Source: the kernel's documentation, Documentation/userspace-api/seccomp_filter.rst; the numbers are
those of the kernel's asm/unistd_64.h (x86-64) and asm-generic/unistd.h (AArch64).
"""

import ctypes
import errno
import os
import platform
import struct
import sys
from collections.abc import Sequence

from scanner.sandbox import linux

_PR_SET_SECCOMP, _MODE_FILTER = 22, 2
_LOAD, _JUMP_EQUAL, _JUMP_AT_LEAST, _JUMP_ANY_BIT, _ANSWER = 0x20, 0x15, 0x35, 0x45, 0x06
_NUMBER, _ARCHITECTURE, _ARGUMENTS = 0, 4, 16  # offsets in struct seccomp_data
_ALLOW, _FAIL = 0x7FFF0000, 0x00050000
_X32 = 0x40000000  # numbers from here on are x86_64's second table
_UNKNOWN = 449  # calls from here on are newer than this list; the same on every architecture

_Instruction = tuple[int, int, int, int]  # code, steps to jump if true, if false, operand
_Numbers = dict[str, tuple[int | None, int | None]]

# The audit number and the column in the tables below.
_ARCHITECTURES = {"x86_64": (0xC000003E, 0), "aarch64": (0xC00000B7, 1)}

# What is allowed whatever its arguments are, as (x86-64, AArch64); None where it does not exist.
_GROUPS: tuple[tuple[str, _Numbers], ...] = (
    ("read what was opened, and write to the two pipes and the log", {
        "read": (0, 63), "readv": (19, 65), "pread64": (17, 67), "preadv": (295, 69),
        "write": (1, 64), "writev": (20, 66), "close": (3, 57), "lseek": (8, 62), "dup": (32, 23),
        "fadvise64": (221, 223),
    }),
    ("list folders and look at files: modules, external data (stat is not confined by Landlock)", {
        "getdents64": (217, 61), "getcwd": (79, 17), "stat": (4, None), "fstat": (5, 80),
        "lstat": (6, None), "newfstatat": (262, 79), "statx": (332, 291), "access": (21, None),
        "faccessat": (269, 48), "faccessat2": (439, 439), "readlink": (89, None),
        "readlinkat": (267, 78),
    }),
    ("memory of its own; NUMA policy of its own pages (ONNX Runtime)", {
        "munmap": (11, 215), "mprotect": (10, 226), "brk": (12, 214), "madvise": (28, 233),
        "mremap": (25, 216), "mbind": (237, 235), "get_mempolicy": (239, 236),
        "membarrier": (324, 283),
    }),
    ("threads: locks, the C library's bookkeeping, their ends", {
        "futex": (202, 98), "exit": (60, 93), "exit_group": (231, 94), "set_tid_address": (218, 96),
        "set_robust_list": (273, 99), "rseq": (334, 293), "sched_yield": (24, 124),
        "restart_syscall": (219, 128),
    }),
    ("its own signal handlers; none of these sends a signal", {
        "rt_sigaction": (13, 134), "rt_sigprocmask": (14, 135), "rt_sigreturn": (15, 139),
        "sigaltstack": (131, 132),
    }),
    ("clocks, sleep and what has been used", {
        "clock_gettime": (228, 113), "clock_getres": (229, 114), "clock_nanosleep": (230, 115),
        "nanosleep": (35, 101), "gettimeofday": (96, 169), "time": (201, None), "times": (100, 153),
        "getrusage": (98, 165), "getcpu": (309, 168),
    }),
    ("facts about itself and the machine, and random numbers", {
        "uname": (63, 160), "sysinfo": (99, 179), "getpid": (39, 172), "gettid": (186, 178),
        "getppid": (110, 173), "getuid": (102, 174), "geteuid": (107, 175), "getgid": (104, 176),
        "getegid": (108, 177), "getrlimit": (97, 163), "getrandom": (318, 278),
    }),
    ("wait for a descriptor; Python's selectors module tries epoll when it is imported", {
        "poll": (7, None), "ppoll": (271, 73), "select": (23, None), "pselect6": (270, 72),
        "epoll_create1": (291, 20),
    }),
)  # fmt: skip

# What the CUDA driver asks for besides, where its devices are open; the last two were seen on an
# H100, the others have not been tried.
_CUDA: _Numbers = {
    "eventfd2": (290, 19), "pipe2": (293, 59), "mlock": (149, 228), "munlock": (150, 229),
    "memfd_create": (319, 279), "ftruncate": (77, 46), "epoll_ctl": (233, 21),
    "epoll_wait": (232, None), "epoll_pwait": (281, 22), "ioctl": (16, 29), "mmap": (9, 222),
    "sched_get_priority_max": (146, 125), "sched_get_priority_min": (147, 126),
}  # fmt: skip

# What is allowed with some arguments only (`_rules`).
_CHECKED: _Numbers = {
    "open": (2, None), "openat": (257, 56), "fcntl": (72, 25), "ioctl": (16, 29), "mmap": (9, 222),
    "clone": (56, 220), "prctl": (157, 167), "prlimit64": (302, 261), "tgkill": (234, 131),
    "sched_getaffinity": (204, 123),
}  # fmt: skip
_FALL_BACK: _Numbers = {"clone3": (435, 435), "openat2": (437, 437)}

_WRITES = 0o1 | 0o2  # O_WRONLY, O_RDWR
_CHANGES = 0o100 | 0o1000 | 0o20000000  # O_CREAT, O_TRUNC, O_TMPFILE
# F_DUPFD, F_GETFD, F_SETFD, F_GETFL, F_SETFL, F_DUPFD_CLOEXEC: not F_SETOWN, which has the kernel
# send signals, nor F_SETPIPE_SZ, whose memory no limit counts.
_DESCRIPTOR_COMMANDS = (0, 1, 2, 3, 4, 1030)
# TCGETS and TCGETS2 (is it a terminal?), FIONREAD, FIONCLEX, FIOCLEX: not TIOCSTI, which types.
_DEVICE_COMMANDS = (0x5401, 0x802C542A, 0x541B, 0x5450, 0x5451)
_NAMES = (15, 16, 0x53564D41)  # PR_SET_NAME, PR_GET_NAME of a thread; PR_SET_VMA, of memory
_MAP_SHARED, _MAP_ANONYMOUS, _MAP_GROWSDOWN = 0x01, 0x20, 0x100
_CLONE_THREAD = 0x10000
_CLONE_NEW = 0x7E020080  # every namespace


def refuse(*, cuda: bool = False) -> bool:
    """Install the filter for this thread and those it will start.

    Args:
        cuda: Whether the devices of CUDA are open, whose driver needs more calls.

    Returns:
        Whether it is in force.
    """
    machine = platform.machine()
    if sys.platform != "linux" or sys.maxsize <= 2**32 or machine not in _ARCHITECTURES:
        return False
    instructions = program(machine, os.getpid(), cuda=cuda)
    packed = b"".join(struct.pack("=HBBI", *instruction) for instruction in instructions)
    code = ctypes.create_string_buffer(packed, len(packed))
    header = struct.pack("@HP", len(instructions), ctypes.addressof(code))
    return linux.control_process(_PR_SET_SECCOMP, _MODE_FILTER, header)


def allowed(machine: str, *, cuda: bool = False) -> dict[str, int]:
    """Return the calls of an architecture that are allowed, some with certain arguments only."""
    _, column = _ARCHITECTURES[machine]
    groups = [*(numbers for _, numbers in _GROUPS), _CHECKED, *([_CUDA] if cuda else ())]
    pairs = ((name, both[column]) for numbers in groups for name, both in numbers.items())
    return {name: number for name, number in pairs if number is not None}


def program(machine: str, own_pid: int, *, cuda: bool = False) -> list[_Instruction]:
    """Return the filter of an architecture as BPF instructions.

    The kernel looks a call up in a bitmap of its own, without running the filter, where the answer
    does not depend on the arguments (Linux 5.11); so the order of the tests costs nothing.
    """
    audit, column = _ARCHITECTURES[machine]
    rules = _rules(own_pid, cuda=cuda)
    instructions = [
        (_LOAD, 0, 0, _ARCHITECTURE),
        (_JUMP_EQUAL, 1, 0, audit),
        _fail(errno.EPERM),
        (_LOAD, 0, 0, _NUMBER),
        (_JUMP_AT_LEAST, 0, 1, _X32),
        _fail(errno.EPERM),
        (_JUMP_AT_LEAST, 0, 1, _UNKNOWN),
        _fail(errno.ENOSYS),
    ]
    answers = {name: rules.get(name, [_pass()]) for name in allowed(machine, cuda=cuda)}
    numbers = allowed(machine, cuda=cuda)
    for name, (*both,) in _FALL_BACK.items():
        answers[name], numbers[name] = [_fail(errno.ENOSYS)], both[column] or 0
    for name, answer in answers.items():
        instructions += [(_JUMP_EQUAL, 0, len(answer), numbers[name]), *answer]
    return [*instructions, _fail(errno.EPERM)]


def _rules(own_pid: int, *, cuda: bool) -> dict[str, list[_Instruction]]:
    """Return what decides about the calls whose arguments matter.

    The device files of CUDA are opened for writing, take commands of their own, and share memory.
    clone3(2) hides its flags in memory; told that there is none, the C library falls back to
    clone(2).
    """
    writes = _CHANGES if cuda else _CHANGES | _WRITES
    rules = {
        "open": _no_bit(1, writes),
        "openat": _no_bit(2, writes),
        "fcntl": _one_of(1, _DESCRIPTOR_COMMANDS),
        "prctl": _one_of(0, _NAMES),
        "prlimit64": _one_of(0, (0,)),  # its own limits, which it can only lower
        "tgkill": _one_of(0, (own_pid,)),  # abort(3)
        "sched_getaffinity": _one_of(0, (0,)),
        "clone": [
            _load(0),
            (_JUMP_ANY_BIT, 1, 0, _CLONE_THREAD),
            _fail(errno.EPERM),
            *_no_bit(0, _CLONE_NEW),
        ],
    }
    if cuda:
        del rules["sched_getaffinity"]  # of its own threads, by their numbers
    else:
        rules["ioctl"] = _one_of(1, _DEVICE_COMMANDS)
        # RLIMIT_DATA counts neither shared memory nor a stack that grows.
        rules["mmap"] = [
            _load(3),
            (_JUMP_ANY_BIT, 0, 1, _MAP_GROWSDOWN),
            _fail(errno.EPERM),
            (_JUMP_ANY_BIT, 1, 0, _MAP_ANONYMOUS),
            _pass(),
            *_no_bit(3, _MAP_SHARED),
        ]
    return rules


def _one_of(argument: int, values: Sequence[int]) -> list[_Instruction]:
    tests = [step for value in values for step in ((_JUMP_EQUAL, 0, 1, value), _pass())]
    return [_load(argument), *tests, _fail(errno.EPERM)]


def _no_bit(argument: int, bits: int) -> list[_Instruction]:
    return [_load(argument), (_JUMP_ANY_BIT, 0, 1, bits), _fail(errno.EPERM), _pass()]


def _load(argument: int) -> _Instruction:
    """Load the lower half of an argument: those looked at are 32-bit numbers to the kernel too."""
    return (_LOAD, 0, 0, _ARGUMENTS + 8 * argument)


def _pass() -> _Instruction:
    return (_ANSWER, 0, 0, _ALLOW)


def _fail(error: int) -> _Instruction:
    return (_ANSWER, 0, 0, _FAIL | error)
