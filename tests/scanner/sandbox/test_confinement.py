"""What a call gives up, decided on a stand-in for the kernel (tests/hostile has a real one)."""

import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from scanner.limits import Allowance, Confinement, Limits
from scanner.sandbox import confinement, driver, landlock, linux, namespaces, seccomp

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="Linux only")
ALLOWANCE = Allowance(seconds=10, limits=Limits(memory=2**30), threads=3, readable=("/models",))


class Kernel:
    """Notes what it is asked for, and grants it."""

    def __init__(self) -> None:
        self.limits: dict[int, tuple[int, int]] = {}
        self.readable: set[str] = set()
        self.devices: set[str] = set()
        self.cuda = False

    def restrict(self, readable: Iterable[str], devices: Iterable[str]) -> int:
        """Note files."""
        self.readable, self.devices = set(readable), set(devices)
        return 7

    def refuse(self, *, cuda: bool) -> bool:
        """Note whether CUDA's system calls are allowed."""
        self.cuda = cuda
        return True

    def starts_thread(self) -> bool:
        """Whether the limit on threads lets one more start."""
        import resource  # noqa: PLC0415 - not there on Windows

        return self.limits[resource.RLIMIT_NPROC][0] > 0


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Kernel:
    import resource  # noqa: PLC0415 - not there on Windows

    made = Kernel()
    monkeypatch.setattr(resource, "setrlimit", made.limits.__setitem__)
    monkeypatch.setattr(resource, "getrlimit", lambda _number: (5, resource.RLIM_INFINITY))
    monkeypatch.setattr(landlock, "restrict", made.restrict)
    monkeypatch.setattr(linux, "control_process", lambda *_: True)
    monkeypatch.setattr(namespaces, "enter", lambda: ("user", "mount"))
    monkeypatch.setattr(namespaces, "hide_processes", lambda: True)
    monkeypatch.setattr(linux, "capabilities", lambda: 0)
    monkeypatch.setattr(linux, "set_capabilities", lambda **_: True)
    monkeypatch.setattr(linux, "empty_bounding_set", lambda _kept: None)
    monkeypatch.setattr(os, "setresuid", lambda *_: None)
    monkeypatch.setattr(os, "uname", lambda: os.uname_result(("", "", "6.1.0", "", "")))
    monkeypatch.setattr(seccomp, "refuse", made.refuse)
    monkeypatch.setattr(confinement, "_starts_thread", made.starts_thread)
    monkeypatch.setattr(confinement, "_current", Confinement())
    return made


def limit(kernel: Kernel, name: str) -> Any:
    import resource  # noqa: PLC0415 - not there on Windows

    return kernel.limits.get(getattr(resource, name))


def test_a_call_on_the_processor(kernel: Kernel) -> None:
    confinement.confine(ALLOWANCE)
    found = confinement.current()
    assert not found.missing()
    assert not found.lesser()
    assert (found.memory, found.threads, found.capabilities) == ("kernel", "kernel", "none")
    assert limit(kernel, "RLIMIT_DATA") == (2**30, 2**30)
    assert limit(kernel, "RLIMIT_NPROC") == (ALLOWANCE.most_threads, ALLOWANCE.most_threads)
    seconds = 10 * 3 + confinement._CPU_GRACE
    assert limit(kernel, "RLIMIT_CPU") == (seconds, seconds + 1)
    assert limit(kernel, "RLIMIT_CORE") == (0, 0)
    assert {"/models", sys.prefix, "/dev/urandom"} <= kernel.readable
    assert not {"/", "/proc/self"} & kernel.readable
    assert not kernel.devices
    assert not kernel.cuda


def test_a_call_on_cuda_leaves_its_memory_and_threads_to_the_parent(
    kernel: Kernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(confinement, "_cuda_devices", lambda: ("/dev/nvidia0",))
    confinement.confine(Allowance(seconds=10, cuda=True))
    found = confinement.current()
    assert (found.memory, found.threads) == ("parent", "parent")
    assert found.missing() == ("the devices of CUDA are open, and memory is only watched",)
    assert not found.namespaces, "the driver shares memory and reads its own files of /proc"
    assert not found.processes_hidden
    assert limit(kernel, "RLIMIT_DATA") is None
    assert limit(kernel, "RLIMIT_NPROC") is None
    assert kernel.devices == {"/dev/nvidia0"}
    assert "/proc/self" in kernel.readable
    assert kernel.cuda


def test_devices_are_opened_where_the_driver_finds_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    files = [Path("/dev/nvidia0"), Path("/dev/nvidiactl"), Path("/dev/null")]
    monkeypatch.setattr(Path, "iterdir", lambda _: iter(files))
    monkeypatch.setattr(sys, "platform", "linux")
    for devices, opened in (((), ()), (("a GPU",), ("/dev/nvidia0", "/dev/nvidiactl"))):
        answer = driver.Answer(0, devices)
        monkeypatch.setattr(driver, "start", lambda answer=answer: answer)
        assert confinement._cuda_devices() == opened


def test_an_unconfined_call_keeps_its_rights_and_says_so(kernel: Kernel) -> None:
    confinement.confine(Allowance(seconds=10, unconfined=True))
    found = confinement.current()
    assert not kernel.limits
    assert not kernel.readable
    assert (found.memory, found.threads, found.landlock) == ("parent", "parent", 0)
    assert not found.seccomp
    assert "files are not confined (no Landlock)" in found.missing()


def test_threads_are_left_to_the_parent_where_the_kernel_does_not_count_them(
    kernel: Kernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(confinement, "_starts_thread", lambda: True)
    confinement.confine(ALLOWANCE)
    assert confinement.current().threads == "parent"
    assert limit(kernel, "RLIMIT_NPROC")[0] == 5, "as it was"


def test_a_limit_that_is_lower_already_is_kept(
    kernel: Kernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("resource.getrlimit", lambda _number: (5, 7))
    confinement.confine(ALLOWANCE)
    assert limit(kernel, "RLIMIT_CPU") == (7, 7)
    assert limit(kernel, "RLIMIT_DATA") == (7, 7)
