"""Calls that Python does not wrap reach the kernel; wiping the environment is in test_launch.py."""

import ctypes
import errno
import os
import platform
import subprocess
import sys

import pytest

from scanner.sandbox import linux

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="Linux only")
GETPID, CLOSE = {"x86_64": (39, 3), "aarch64": (172, 57)}.get(platform.machine(), (None, None))


@pytest.mark.skipif(GETPID is None, reason="another table of system calls")
def test_a_system_call_is_made() -> None:
    assert GETPID is not None
    assert CLOSE is not None
    assert linux.system_call(GETPID) == os.getpid()
    assert linux.system_call(CLOSE, -1) == -1
    assert ctypes.get_errno() == errno.EBADF


def test_control_of_a_process_tells_whether_it_worked() -> None:
    assert not linux.control_process(-1, 0)
    assert linux.control_process(1, 0), "no signal when the parent ends, as before"


def test_freed_blocks_return_to_the_system() -> None:
    """In a process of its own: the choice is for good."""
    code = (
        "from scanner.sandbox import linux\n"
        "def held():\n"
        "    return int(open('/proc/self/statm').read().split()[5]) * 4096\n"
        "linux.return_freed_blocks()\n"
        "def rounds():\n"
        "    for _ in range(4):\n"
        "        blocks = [bytearray(2 << 20) for _ in range(20)]\n"
        "        blocks.clear()\n"
        "        yield held()\n"
        "before = held()\n"
        "print(max(rounds()) - before < 4 << 20)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "True\n"


def test_a_library_without_that_choice_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda _name: object())
    linux.return_freed_blocks()
