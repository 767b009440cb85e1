"""What a hijacked child cannot do.

Without Landlock in the kernel these tests are skipped, and `scan doctor` says what is not held.
"""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hostile import deeds

from scanner.errors import WorkerLimitError
from scanner.limits import Allowance, Confinement
from scanner.sandbox import landlock, launch
from scanner.sandbox.worker import Worker
from scanner.values import from_json

pytestmark = pytest.mark.skipif(landlock.version() == 0, reason="no Landlock in this kernel")


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    inside, outside = tmp_path / "inside", tmp_path / "outside"
    for folder in (inside, outside):
        folder.mkdir()
        (folder / "file").write_text("content", encoding="utf-8")
    return inside, outside


@pytest.fixture
def child(way: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Worker]:
    monkeypatch.setattr(launch, "_roots", [*launch._roots, str(Path(__file__).parent)])
    with Worker() as started:
        assert type(started._child).__name__.lower() == way
        yield started


def deed(child: Worker, name: str, argument: object, inside: Path) -> object:
    allowance = Allowance(seconds=20, readable=(str(inside),))
    return child.ask(deeds.endpoint(name), argument, allowance)


def test_only_the_folders_that_were_named_are_readable(
    child: Worker, folders: tuple[Path, Path]
) -> None:
    inside, outside = folders
    assert deed(child, "read", str(inside / "file"), inside) == "content"
    assert deed(child, "read", str(outside / "file"), inside) == "PermissionError"
    assert deed(child, "read", "/etc/passwd", inside) == "PermissionError"
    assert deed(child, "read_in_thread", str(outside / "file"), inside) == "PermissionError"


def test_a_link_inside_leads_nowhere_outside(child: Worker, folders: tuple[Path, Path]) -> None:
    inside, outside = folders
    (inside / "link").symlink_to(outside / "file")
    assert deed(child, "read", str(inside / "link"), inside) == "PermissionError"


def test_a_second_call_widens_nothing(child: Worker, folders: tuple[Path, Path]) -> None:
    inside, outside = folders
    deed(child, "facts", None, inside)
    assert deed(child, "read", str(outside / "file"), outside) == "PermissionError"


def test_nothing_can_be_written(child: Worker, folders: tuple[Path, Path]) -> None:
    inside, _ = folders
    for target in (inside / "new", inside / "file", Path("new")):
        assert deed(child, "write", str(target), inside) == "PermissionError"


def test_nothing_can_be_sent(child: Worker, folders: tuple[Path, Path]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert deed(child, "connect", port, folders[0]) == "PermissionError"
        assert deed(child, "send_datagram", port, folders[0]) == "PermissionError"


@pytest.mark.parametrize(
    "name",
    ["fork", "start_program", "signal_parent", "limit_parent", "slow_parent", "pin_parent"],
)
def test_no_other_process_can_be_started_or_touched(
    child: Worker, folders: tuple[Path, Path], name: str
) -> None:
    assert deed(child, name, None, folders[0]) == "PermissionError"


@pytest.mark.parametrize("name", ["kill", "kill_thread"])
def test_no_other_process_can_be_ended(
    child: Worker, folders: tuple[Path, Path], name: str
) -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        assert deed(child, name, other.pid, folders[0]) == "PermissionError"
        assert other.poll() is None
        other.kill()


@pytest.mark.parametrize("name", ["open_process", "enter_namespace", "own_signals", "become_root"])
def test_no_handle_on_another_process_or_user(
    child: Worker, folders: tuple[Path, Path], name: str
) -> None:
    assert deed(child, name, None, folders[0]) == "PermissionError"


@pytest.mark.parametrize("name", sorted(deeds._ARGUMENTS))
def test_calls_that_no_scan_needs_are_refused(
    child: Worker, folders: tuple[Path, Path], name: str
) -> None:
    assert deed(child, "call", name, folders[0]) == "PermissionError"


def test_nothing_can_be_typed_into_a_terminal(child: Worker, folders: tuple[Path, Path]) -> None:
    assert deed(child, "type_into_terminal", None, folders[0]) == "PermissionError"


@pytest.mark.parametrize(
    "name",
    ["chmod", "chown", "change_times", "set_attribute", "truncate", "truncate_on_opening"],
)
def test_no_file_can_be_changed(child: Worker, folders: tuple[Path, Path], name: str) -> None:
    for folder in folders:
        file = folder / "file"
        before = file.stat()
        assert deed(child, name, str(file), folders[0]) == "PermissionError"
        after = file.stat()
        assert (after.st_mode, after.st_uid, after.st_size, after.st_mtime_ns) == (
            before.st_mode,
            before.st_uid,
            before.st_size,
            before.st_mtime_ns,
        )
        assert not os.listxattr(file)


def test_proc_tells_nothing_of_others(child: Worker, folders: tuple[Path, Path]) -> None:
    paths = [
        *(f"/proc/self/{name}" for name in ("net/tcp", "net/unix", "mountinfo", "environ")),
        "/proc/net/tcp",
        f"/proc/{os.getpid()}/cmdline",
        f"/proc/{os.getpid()}/environ",
    ]
    outcome = deed(child, "read_many", paths, folders[0])
    assert isinstance(outcome, dict)
    assert set(outcome) == set(paths)
    # Where it has a /proc of its own, they are not there.
    assert set(outcome.values()) <= {"PermissionError", "FileNotFoundError"}
    assert outcome["/proc/self/environ"] == "PermissionError"


def test_other_processes_are_not_there(child: Worker, folders: tuple[Path, Path]) -> None:
    given = from_json(Confinement, deed(child, "confined", None, folders[0]))
    if not given.processes_hidden:
        assert "which other processes exist can be told from /proc" in given.lesser()
        pytest.skip("this system lets nobody mount a /proc")
    others = [f"/proc/{pid}" for pid in (1, os.getpid(), os.getppid())]
    assert deed(child, "exist", others, folders[0]) == dict.fromkeys(others, False)
    own = [f"/proc/{child.pid}/status", "/proc/self/status", "/proc/cpuinfo"]
    assert deed(child, "exist", own, folders[0]) == dict.fromkeys(own, True)
    assert deed(child, "read", "/proc/self/mountinfo", folders[0]) == "PermissionError"


def test_no_capability_is_left(child: Worker, folders: tuple[Path, Path]) -> None:
    held = deed(child, "capabilities", None, folders[0])
    assert isinstance(held, dict)
    root = {"CapBnd"} if os.geteuid() == 0 else set()
    assert {name: held[name] for name in {"CapEff", "CapPrm", "CapInh", "CapAmb"} | root} == (
        dict.fromkeys({"CapEff", "CapPrm", "CapInh", "CapAmb"} | root, 0)
    )


@pytest.mark.skipif(os.geteuid() != 0, reason="only root reads what is closed to it")
def test_root_keeps_the_right_to_read_where_a_model_needs_it(
    child: Worker, folders: tuple[Path, Path]
) -> None:
    inside, outside = folders
    for file in (inside / "file", outside / "file"):
        os.chown(file, 12345, 12345)
        file.chmod(0o600)
    assert deed(child, "read", str(inside / "file"), inside) == "content"
    assert deed(child, "read", str(outside / "file"), inside) == "PermissionError"
    given = from_json(Confinement, deed(child, "confined", None, inside))
    assert given.capabilities == "read"
    assert deed(child, "chmod", str(inside / "file"), inside) == "PermissionError"


@pytest.mark.parametrize("flags", [0x21, 0x122])
def test_memory_that_no_limit_counts_is_refused(
    child: Worker, folders: tuple[Path, Path], flags: int
) -> None:
    """Shared and anonymous; private, anonymous and growing downwards."""
    assert deed(child, "map_memory", 0x22, folders[0]) == 0
    assert deed(child, "map_memory", flags, folders[0]) == "PermissionError"


def test_six_thousand_threads_are_not_to_be_had(child: Worker, folders: tuple[Path, Path]) -> None:
    given = from_json(Confinement, deed(child, "confined", None, folders[0]))
    if given.threads == "kernel":
        started = deed(child, "start_threads", 6000, folders[0])
        assert isinstance(started, int)
        assert started < Allowance(seconds=20).most_threads < 300
    else:
        with pytest.raises(WorkerLimitError, match="threads"):
            deed(child, "start_threads", 6000, folders[0])


def test_it_says_what_was_given_up(child: Worker, folders: tuple[Path, Path]) -> None:
    given = from_json(Confinement, deed(child, "confined", None, folders[0]))
    assert given.landlock == landlock.version()
    assert given.no_new_privs
    assert given.seccomp
    assert given.memory == "kernel"
    assert given.threads in {"kernel", "parent"}
    assert given.capabilities == "none"
    assert not given.missing()
    assert set(given.namespaces) <= {"user", "mount", "network", "IPC", "host name"}
    assert "memory" in given.limits
