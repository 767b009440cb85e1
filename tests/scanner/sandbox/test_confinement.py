"""What a call gives up, decided on a stand-in for the kernel (tests/hostile has a real one)."""

import sys
from collections.abc import Iterable
from typing import Any

import pytest

from scanner.limits import Allowance, Confinement, Limits
from scanner.sandbox import confinement, landlock, linux, seccomp

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="Linux only")
ALLOWANCE = Allowance(seconds=10, limits=Limits(memory=2**30), threads=3, readable=("/models",))


class Kernel:
    """Notes what it is asked for, and grants it."""

    def __init__(self) -> None:
        self.limits: dict[int, tuple[int, int]] = {}
        self.readable: set[str] = set()
        self.devices: set[str] = set()

    def restrict(self, readable: Iterable[str], devices: Iterable[str]) -> int:
        """Note files."""
        self.readable, self.devices = set(readable), set(devices)
        return 7


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Kernel:
    import resource  # noqa: PLC0415 - not there on Windows

    made = Kernel()
    monkeypatch.setattr(resource, "setrlimit", made.limits.__setitem__)
    monkeypatch.setattr(resource, "getrlimit", lambda _number: (5, resource.RLIM_INFINITY))
    monkeypatch.setattr(landlock, "restrict", made.restrict)
    monkeypatch.setattr(linux, "control_process", lambda *_: True)
    monkeypatch.setattr(seccomp, "refuse", lambda: True)
    monkeypatch.setattr(confinement, "_current", Confinement())
    return made


def limit(kernel: Kernel, name: str) -> Any:
    import resource  # noqa: PLC0415 - not there on Windows

    return kernel.limits.get(getattr(resource, name))


def test_a_call_on_the_processor(kernel: Kernel) -> None:
    confinement.confine(ALLOWANCE)
    found = confinement.current()
    assert not found.missing()
    assert found.memory == "kernel"
    assert limit(kernel, "RLIMIT_DATA") == (2**30, 2**30)
    seconds = 10 * 3 + confinement._CPU_GRACE
    assert limit(kernel, "RLIMIT_CPU") == (seconds, seconds + 1)
    assert limit(kernel, "RLIMIT_CORE") == (0, 0)
    assert {"/models", sys.prefix, "/dev/urandom"} <= kernel.readable
    assert "/" not in kernel.readable
    assert not kernel.devices


def test_a_call_on_cuda_leaves_its_memory_to_the_parent(
    kernel: Kernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(confinement, "_cuda_devices", lambda: ("/dev/nvidia0",))
    confinement.confine(Allowance(seconds=10, cuda=True))
    assert confinement.current().memory == "parent"
    assert limit(kernel, "RLIMIT_DATA") is None
    assert kernel.devices == {"/dev/nvidia0"}


def test_a_limit_that_is_lower_already_is_kept(
    kernel: Kernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("resource.getrlimit", lambda _number: (5, 7))
    confinement.confine(ALLOWANCE)
    assert limit(kernel, "RLIMIT_CPU") == (7, 7)
    assert limit(kernel, "RLIMIT_DATA") == (7, 7)
