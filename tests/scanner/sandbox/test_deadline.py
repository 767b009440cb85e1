"""The flag that stops native code."""

import threading
from collections.abc import Iterator

import pytest

from scanner.errors import WorkerTimeoutError
from scanner.sandbox import deadline


@pytest.fixture(autouse=True)
def _renewed() -> Iterator[None]:
    yield
    deadline.renew()


def test_while_there_is_time_nothing_happens() -> None:
    called: list[bool] = []
    deadline.check()
    with deadline.stopping(lambda: called.append(True)):
        pass
    deadline.expire()
    assert not called


def test_what_runs_is_stopped_and_the_error_named() -> None:
    stop = threading.Event()

    def work() -> None:
        with deadline.stopping(stop.set):
            threading.Timer(0.01, deadline.expire).start()
            assert stop.wait(5)
            raise RuntimeError("cancelled")

    with pytest.raises(WorkerTimeoutError, match="raise the setting `timeout`") as caught:
        work()
    assert isinstance(caught.value.__context__, RuntimeError)


def test_nothing_begins_after_it() -> None:
    deadline.expire()
    with pytest.raises(WorkerTimeoutError), deadline.stopping(lambda: None):
        pytest.fail("the block ran")
    deadline.renew()
    deadline.check()


def test_another_error_stays_itself() -> None:
    with pytest.raises(KeyError), deadline.stopping(lambda: None):
        raise KeyError
