"""The filter's decisions, found by running its program as the kernel does.

This way the filter of an architecture that is not at hand is tested too.
"""

import errno
import platform

import pytest

from scanner.sandbox import seccomp

ALLOW, FAIL = 0x7FFF0000, 0x00050000
DENIED, UNKNOWN = FAIL | errno.EACCES, FAIL | errno.ENOSYS
CLONE_THREAD = 0x10000
CALLS = {
    "x86_64": {
        "read": 0, "openat": 257, "futex": 202, "socket": 41, "io_uring_setup": 425, "fork": 57,
        "vfork": 58, "execve": 59, "execveat": 322, "ptrace": 101, "process_vm_writev": 311,
        "kill": 62, "clone": 56, "clone3": 435,
    },
    "aarch64": {
        "read": 63, "openat": 56, "futex": 98, "socket": 198, "io_uring_setup": 425, "execve": 221,
        "execveat": 281, "ptrace": 117, "process_vm_writev": 271, "kill": 129, "clone": 220,
        "clone3": 435,
    },
}  # fmt: skip
OPEN = ("read", "openat", "futex")


def decide(machine: str, number: int, argument: int = 0, audit: int | None = None) -> int:
    known = seccomp._ARCHITECTURES[machine]
    data = {0: number, 4: known.audit if audit is None else audit, 16: argument}
    program, position, register = seccomp._program(known), 0, 0
    while True:
        code, yes, no, operand = program[position]
        position += 1
        if code == 0x06:
            return operand
        if code == 0x20:
            register = data[operand]
            continue
        holds = {
            0x15: register == operand,
            0x35: register >= operand,
            0x45: bool(register & operand),
        }[code]
        position += yes if holds else no


@pytest.mark.parametrize("machine", CALLS)
def test_what_a_reader_needs_passes_and_the_rest_is_refused(machine: str) -> None:
    for name, number in CALLS[machine].items():
        if name not in ("clone", "clone3"):
            assert decide(machine, number) == (ALLOW if name in OPEN else DENIED), name


@pytest.mark.parametrize("machine", CALLS)
def test_threads_may_be_started_and_processes_not(machine: str) -> None:
    assert decide(machine, CALLS[machine]["clone"], CLONE_THREAD | 0x100) == ALLOW
    assert decide(machine, CALLS[machine]["clone"], 17) == DENIED
    assert decide(machine, CALLS[machine]["clone3"]) == UNKNOWN


@pytest.mark.parametrize("machine", CALLS)
def test_another_table_of_calls_is_refused_whole(machine: str) -> None:
    assert decide(machine, CALLS[machine]["read"], audit=0x40000003) == DENIED
    assert decide(machine, 0x40000000) == DENIED


def test_an_unknown_machine_is_left_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "riscv64")
    assert not seccomp.refuse()
