"""A lane does what a thread asks of it, one thing after the other, and ends with the thread."""

import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import BrokenExecutor
from pathlib import Path

import psutil
import pytest

from scanner.sandbox import launch
from scanner.sandbox.lane import Keeper, Lane, in_lane, tell


@pytest.fixture
def started() -> Iterator[Lane]:
    made = Lane(())
    yield made
    made.kill()


def _gone(pid: int) -> bool:
    """Whether a process ends soon; whoever should wait for it may not have done so."""
    end = time.monotonic() + 10
    while time.monotonic() < end:
        try:
            if psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
                return True
        except psutil.NoSuchProcess:
            return True
        time.sleep(0.01)
    return False


def test_calls_are_made_in_one_other_process(started: Lane) -> None:
    pid = started.call(os.getpid)
    assert pid not in (os.getpid(), 0)
    assert started.call(os.getpid) == pid
    assert started.call(divmod, 7, 2) == (3, 1)


def test_what_a_function_raises_is_raised_here(started: Lane) -> None:
    with pytest.raises(ZeroDivisionError):
        started.call(divmod, 1, 0)
    with pytest.raises(ModuleNotFoundError, match="no_such"):
        started.call(__import__, "no_such")
    assert started.call(len, "it goes on") == 10


def test_what_cannot_be_sent_back_is_an_error_too(started: Lane) -> None:
    with pytest.raises(TypeError, match="cannot pickle"):
        started.call(threading.Lock)
    assert started.call(len, "abc") == 3


def test_what_is_printed_there_is_no_answer(started: Lane) -> None:
    assert started.call(os.write, 1, b"\n") == 1
    assert started.call(len, "abc") == 3


def test_a_lane_can_fork_where_its_caller_cannot(started: Lane) -> None:
    stop = threading.Event()
    threading.Thread(target=stop.wait).start()
    assert not launch.may_fork()
    assert started.call(launch.may_fork)
    stop.set()


def test_one_that_holds_the_libraries_still_can() -> None:
    made = Lane(["numpy"])
    assert made.call(launch.may_fork)
    made.kill()


def test_a_lane_that_died_is_said_and_replaced() -> None:
    pids = []

    def work() -> None:
        pids.append(in_lane((), os.getpid))
        with pytest.raises(BrokenExecutor):
            in_lane((), os._exit, 1)
        pids.append(in_lane((), os.getpid))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert len(set(pids)) == 2
    assert all(map(_gone, pids)), "a lane ends with its thread"


def test_what_is_told_meanwhile_comes_before_the_answer(started: Lane) -> None:
    heard: list[object] = []
    assert started.call(tell, {"half": 0.5}, told=heard.append) is None
    assert started.call(len, "abc", told=heard.append) == 3
    assert started.call(tell, "nobody listens") is None
    assert heard == [{"half": 0.5}]
    tell("nor is this a lane")


def test_in_a_lane_a_call_is_made_at_once(started: Lane) -> None:
    assert started.call(in_lane, (), os.getpid) == started.call(os.getpid)


def test_a_keeper_ends_them_all_and_those_that_come_too_late() -> None:
    keeper, late = Keeper(), Lane(())
    made = Lane(())
    keeper.take(made)
    keeper.end()
    keeper.take(late)
    for ended in (made, late):
        with pytest.raises(BrokenExecutor):
            ended.call(os.getpid)


def test_without_its_caller_a_lane_ends(started: Lane) -> None:
    pid = started.call(os.getpid)
    started._commands.close()
    started._process.wait(10)
    assert _gone(pid)


def test_a_lane_that_is_ended_at_work_leaves_no_child_and_no_folder(
    started: Lane, tmp_path: Path
) -> None:
    assert started.call(exec, f"import os; os.environ['TMPDIR'] = {str(tmp_path)!r}") is None
    thread = threading.Thread(target=_outlast, args=(started,))
    thread.start()
    lane = psutil.Process(started._process.pid)
    end = time.monotonic() + 20
    while not (lane.children() and list(tmp_path.iterdir())) and time.monotonic() < end:
        time.sleep(0.01)
    (child,) = lane.children()
    started.kill()
    thread.join()
    assert _gone(child.pid)
    assert list(tmp_path.iterdir()) == []


def _outlast(lane: Lane) -> None:
    """Have a lane start a child and wait for what does not come."""
    work = "import time; from scanner.sandbox.worker import Worker\nwith Worker(): time.sleep(60)"
    with pytest.raises(BrokenExecutor):
        lane.call(exec, work)
