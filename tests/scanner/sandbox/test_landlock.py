"""Without Landlock nothing is promised; with an older version, what that version knows.

What the rules really hold is tested in tests/hostile/test_confinement.py.
"""

import ctypes
import errno
import os
import struct

import pytest

from scanner.sandbox import landlock, linux


class Kernel:
    """Stands in for a kernel of some Landlock version, so that this process stays free."""

    def __init__(self, version: int) -> None:
        self.version, self.attributes, self.rules = version, b"", 0

    def __call__(self, number: int, *arguments: int | bytes | None) -> int:
        """Answer a system call."""
        if number == 444 and arguments[0] is None:
            return self.version
        if number == 444:
            assert isinstance(arguments[0], bytes)
            self.attributes = arguments[0]
            return os.open(os.devnull, os.O_RDONLY)
        self.rules += number == 445
        return 0


@pytest.fixture
def answer(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    monkeypatch.setattr("sys.platform", "linux")
    return monkeypatch


@pytest.mark.parametrize("errors", [-1, 0])
def test_a_kernel_without_it_gives_version_0(answer: pytest.MonkeyPatch, errors: int) -> None:
    answer.setattr(linux, "system_call", Kernel(errors))
    assert landlock.version() == 0
    assert landlock.restrict(["/"]) == 0


@pytest.mark.parametrize(
    ("version", "fields"),
    [
        (1, (0x1FFF,)),
        (2, (0x3FFF,)),
        (3, (0x7FFF,)),
        (4, (0x7FFF, 3)),
        (5, (0xFFFF, 3)),
        (6, (0xFFFF, 3, 3)),
        (9, (0xFFFF, 3, 3)),
    ],
)
def test_each_version_is_asked_for_what_it_knows(
    answer: pytest.MonkeyPatch, version: int, fields: tuple[int, ...]
) -> None:
    own = Kernel(version)
    answer.setattr(linux, "system_call", own)
    assert landlock.restrict(["/", "/there/is/no/such/file"]) == version
    assert struct.unpack(f"={len(fields)}Q", own.attributes) == fields
    assert own.rules == 1


class Refusing(Kernel):
    """Adds no rule, for some reason."""

    def __init__(self, reason: int) -> None:
        super().__init__(version=6)
        self.reason = reason

    def __call__(self, number: int, *arguments: int | bytes | None) -> int:
        """Answer a system call."""
        answer = super().__call__(number, *arguments)
        if number != 445:
            return answer
        ctypes.set_errno(self.reason)
        return -1


def test_a_pipe_is_nothing_to_allow(answer: pytest.MonkeyPatch) -> None:
    answer.setattr(linux, "system_call", Refusing(errno.EBADFD))
    assert landlock.restrict(["/dev/stdin"]) == 6
    answer.setattr(linux, "system_call", Refusing(errno.ENOMEM))
    with pytest.raises(OSError, match=os.strerror(errno.ENOMEM)):
        landlock.restrict(["/"])


def test_elsewhere_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.platform", "darwin")
    assert landlock.version() == 0
