"""Twins are children like others; what holds for these is in test_launch.py, for twins too."""

import os
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from scanner.limits import Allowance
from scanner.sandbox import launch, twins
from scanner.sandbox.endpoint import Endpoint
from scanner.sandbox.worker import Worker

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="Linux only")
REPORT = Endpoint(function="deeds:report", request=object, answer=str)
DESCRIPTORS = Endpoint(function="deeds:descriptors", request=object, answer=tuple[str, ...])
DEEDS = Path(__file__).parents[2] / "hostile"


@pytest.fixture
def pair(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Worker, Worker]]:
    monkeypatch.setattr(launch, "_roots", [*launch._roots, str(DEEDS)])
    first, second = (Worker(child=child) for child in twins.start((), 2))
    with first, second:
        yield first, second


def parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rsplit(")", 1)[1].split()[1])


def lives(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def test_they_come_from_one_process_that_ends_with_the_last_of_them(
    pair: tuple[Worker, Worker],
) -> None:
    nursery = parent(pair[0].pid)
    assert parent(pair[1].pid) == nursery != os.getpid()
    assert parent(nursery) == os.getpid()
    pair[0].kill()
    assert pair[1].ask(REPORT, None, Allowance(seconds=20)) == "reported"
    assert lives(nursery)
    pair[1].kill()
    assert not lives(nursery)


def test_one_has_no_end_of_the_others_pipes(pair: tuple[Worker, Worker]) -> None:
    open_in = [child.ask(DESCRIPTORS, None, Allowance(seconds=20)) for child in pair]
    pipes = [{name for name in names if name.startswith("pipe:")} for names in open_in]
    assert [len(held) for held in pipes] == [2, 2]
    assert not pipes[0] & pipes[1]


def test_none_outlives_the_process_that_it_comes_from(pair: tuple[Worker, Worker]) -> None:
    os.kill(parent(pair[0].pid), signal.SIGKILL)
    assert [child._child.wait(5) for child in pair] == [-signal.SIGKILL] * 2
    end = time.monotonic() + 5
    while any(lives(child.pid) for child in pair) and time.monotonic() < end:
        time.sleep(0.01)
    assert not any(lives(child.pid) for child in pair)


def test_a_twin_tells_how_it_ended(pair: tuple[Worker, Worker]) -> None:
    os.kill(pair[0].pid, signal.SIGTERM)
    assert pair[0]._child.wait(5) == -signal.SIGTERM
    assert pair[1]._child.wait() is None


def test_those_given_up_at_once_leave_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(twins, "_GRACE", 60)  # so that waiting for an end would be noticed
    children = twins.start(("onnxruntime",), 2)
    nursery = children[0]._nursery._process.pid  # type: ignore[attr-defined]
    for child in children:
        Worker(child=child).kill()
        assert not Path(child.folder).exists()
    assert not lives(nursery)


def test_without_a_folder_for_each_they_are_started_one_by_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path / "gone"))
    monkeypatch.setattr(tempfile, "tempdir", None)
    children = twins.start((), 2)
    for child in children:
        Worker(child=child).kill()
    assert {type(child) for child in children} == {launch.Interpreter}
