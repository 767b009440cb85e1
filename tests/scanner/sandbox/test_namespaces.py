"""What else lives on the machine is not there to be seen, and the machine itself is unchanged."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from scanner.sandbox import linux, namespaces

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="Linux only")

INSIDE = """
import os, socket
from pathlib import Path
from scanner.sandbox import namespaces

entered = namespaces.enter()
hidden = namespaces.hide_processes()
print(entered)
print(hidden)
print(sorted(entry.name for entry in Path("/proc").iterdir()) if hidden else os.getpid())
print(os.readlink("/proc/self") if hidden else os.getpid(), os.getpid())
status = Path("/proc/self/status").read_text(encoding="utf-8")
print(f"Pid:\\t{os.getpid()}\\n" in status, "processor" in Path("/proc/cpuinfo").read_text())
print(len(os.listdir("/sys/class/net")), [name for _, name in socket.if_nameindex()])
print(os.geteuid(), Path("/proc/self/ns/net").readlink())
"""


@pytest.fixture(scope="module")
def inside() -> list[str]:
    """Return what a process of its own says once it has entered its namespaces."""
    done = subprocess.run(
        [sys.executable, "-c", INSIDE], capture_output=True, text=True, check=True, timeout=60
    )
    lines = done.stdout.splitlines()
    if lines[1] != "True":
        pytest.skip("this system lets nobody mount a /proc")
    return lines


def test_a_process_sees_itself_alone(inside: list[str]) -> None:
    own, pid = inside[3].split()
    assert own == pid
    assert inside[2] == str(sorted([pid, "cpuinfo", "meminfo", "self"]))
    assert inside[4] == "True True", "its own files are those of the kernel"


def test_its_network_has_nothing_but_an_idle_loop(inside: list[str]) -> None:
    assert "'lo'" in inside[5]
    assert inside[5].count("'") == 2
    assert inside[6].split()[1] != str(Path("/proc/self/ns/net").readlink())


def test_its_account_stays(inside: list[str]) -> None:
    assert int(inside[6].split()[0]) == os.geteuid()


def test_the_machines_own_proc_is_unchanged(inside: list[str]) -> None:
    del inside
    assert Path(f"/proc/{os.getppid()}").exists()
    assert len([*Path("/proc").iterdir()]) > 10


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Callable[[int, set[int]], list[int]]:
    """Return a function that grants an account some calls of unshare, and notes all."""

    def grant(account: int, granted: set[int]) -> list[int]:
        flags: list[int] = []

        def unshare(wanted: int) -> bool:
            flags.append(wanted)
            return wanted in granted

        monkeypatch.setattr(os, "geteuid", lambda: account)
        monkeypatch.setattr(linux, "unshare", unshare)
        monkeypatch.setattr(namespaces, "_keep_account", lambda _user, _group: None)
        return flags

    return grant


EVERY = sum(namespaces._NEW.values())
USER = namespaces._USER


def test_root_keeps_its_rights_to_files(asked: Callable[[int, set[int]], list[int]]) -> None:
    flags = asked(0, {EVERY})
    assert namespaces.enter() == ("mount", "network", "IPC", "host name")
    assert flags == [EVERY], "in a user namespace, root could not read the files of others"


def test_root_of_a_container_may_have_none(asked: Callable[[int, set[int]], list[int]]) -> None:
    asked(0, set())
    assert namespaces.enter() == ()


def test_anybody_else_needs_a_user_namespace(asked: Callable[[int, set[int]], list[int]]) -> None:
    asked(1000, {USER | EVERY})
    assert namespaces.enter() == ("user", "mount", "network", "IPC", "host name")


def test_where_the_others_are_refused_the_user_namespace_counts_threads(
    asked: Callable[[int, set[int]], list[int]],
) -> None:
    flags = asked(1000, {USER})
    assert namespaces.enter() == ("user",)
    assert flags == [USER | EVERY, USER]


def test_where_nothing_may_be_mounted_proc_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linux, "system_call", lambda *_: -1)  # a kernel before open_tree
    assert not namespaces.hide_processes()
    assert Path(f"/proc/{os.getppid()}").exists()
