"""The flag that stops native code."""

import math
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


def test_time_runs_short_before_it_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.monotonic", lambda: 1000.0)
    deadline.renew(40.0)
    assert not deadline.nearly_over(0.25)
    assert deadline.left(0.25) == 30
    monkeypatch.setattr("time.monotonic", lambda: 1031.0)
    assert deadline.nearly_over(0.25)
    assert not deadline.nearly_over(0.1)


def test_where_nobody_keeps_the_time_it_never_runs_short() -> None:
    deadline.renew()
    assert not deadline.nearly_over(0.99)
    assert deadline.left(0.99) == math.inf
