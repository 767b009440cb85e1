"""Calls that Python does not wrap reach the kernel; wiping the environment is in test_launch.py."""

import ctypes
import errno
import os
import platform
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
