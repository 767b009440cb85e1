"""What a hijacked child cannot do.

Without Landlock in the kernel these tests are skipped, and `scan doctor` says what is not held.
"""

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from hostile import deeds

from scanner.limits import Allowance, Confinement
from scanner.sandbox import landlock
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
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
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


@pytest.mark.parametrize("name", ["fork", "start_program", "signal_parent"])
def test_no_other_process_can_be_started_or_touched(
    child: Worker, folders: tuple[Path, Path], name: str
) -> None:
    assert deed(child, name, None, folders[0]) == "PermissionError"


def test_it_says_what_was_given_up(child: Worker, folders: tuple[Path, Path]) -> None:
    given = from_json(Confinement, deed(child, "confined", None, folders[0]))
    assert given.landlock == landlock.version()
    assert given.no_new_privs
    assert given.memory == "kernel"
    assert not given.missing()
    assert "memory" in given.limits
