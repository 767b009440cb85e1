"""What a step costs is measured; memory bounds how many images run at once."""

import dataclasses
import itertools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import triggered

from scanner.errors import WorkerLimitError
from scanner.graph.gradient.backward import Objective
from scanner.instruments import memory, pace, runtime
from scanner.instruments.differentiable import Differentiable, Floats, differentiable
from scanner.instruments.memory import Need
from scanner.instruments.pace import Pace
from scanner.limits import MIB, Limits
from scanner.settings import Device, Settings

IMAGES = np.random.default_rng(0).random((32, 1, 8, 8), dtype=np.float32)
CPU = Settings(device=Device.CPU)


@pytest.fixture
def model(tmp_path: Path) -> Differentiable:
    return differentiable(
        triggered.subject(triggered.classifier(), tmp_path), Objective.CROSS_ENTROPY
    )


def timed(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    """Let each step take so many seconds, whatever its images."""
    ticks = itertools.count()
    monkeypatch.setattr("time.process_time", lambda: seconds * (next(ticks) // 2 + next(ticks) % 2))


def test_a_quick_step_is_timed_on_all_images(
    model: Differentiable, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    evaluate = Differentiable.evaluate

    def watched(self: Differentiable, images: Floats, target: int) -> object:
        seen.append(len(images))
        return evaluate(self, images, target)

    monkeypatch.setattr(Differentiable, "evaluate", watched)
    found = pace.measured(model, IMAGES, CPU)
    assert seen == [1, 1, 32]
    assert (found.most, found.need) == (None, None), "what is small needs no limit"
    assert found.expected(8) is None


def test_a_tick_of_the_clock_is_no_busy_machine(
    model: Differentiable, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It made one step look long, and the next one was over before it ticked again."""
    moments = iter([0.0, 0.01])
    monkeypatch.setattr("time.process_time", lambda: next(moments, 0.01))
    found = pace.measured(model, IMAGES, CPU)
    assert (found.seconds, found.lag) == (0.0, None)


def needing(each: int, held: int, highest: int = 0) -> Callable[..., Need]:
    return lambda *_: Need(held=held, highest=highest, each=each)


def test_a_person_is_told_the_memory_of_a_quick_step_too(
    model: Differentiable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "seen", needing(each=MIB, held=100 * MIB))
    found = pace.measured(model, IMAGES, CPU, told=True)
    assert found.most is None, "its classes may be searched at a time"
    assert found.expected(8) == 108 * MIB


def test_a_slow_step_is_timed_on_few_images_and_its_memory_seen(
    model: Differentiable, monkeypatch: pytest.MonkeyPatch
) -> None:
    timed(monkeypatch, 1.0)
    monkeypatch.setattr("time.monotonic", iter([50.0, 52.5]).__next__)
    probed = list[int]()

    def seen(_: Differentiable, images: Floats) -> Need:
        probed.append(len(images))
        return Need(held=100 * MIB, highest=130 * MIB, each=10 * MIB)

    monkeypatch.setattr(memory, "seen", seen)
    settings = dataclasses.replace(CPU, limits=Limits(memory=200 * MIB))
    found = pace.measured(model, IMAGES, settings)
    assert found.lag == 2.5, "seconds on the clock for the one of the processor"
    assert probed == [4]
    assert found.most == 5, "three quarters of 200 MiB leave 50 for images of 10"
    assert found.expected(4) == 140 * MIB
    assert found.expected(1) == 130 * MIB, "the process has held as much before"
    assert found.expected(32) == 150 * MIB, "more are not run at once"


def test_a_clock_of_threads() -> None:
    assert pace.threads(dataclasses.replace(CPU, threads=4)) == 4
    assert pace.threads(CPU) == 1
    assert Pace(seconds=1.0).expected(1) is None


@pytest.mark.parametrize("most", [None, 1, 5, 32, 100])
def test_the_size_of_a_run_changes_no_more_than_rounding(
    model: Differentiable, most: int | None
) -> None:
    whole = model.evaluate(IMAGES, 1)
    for one, other in zip(
        whole, dataclasses.replace(model, most=most).evaluate(IMAGES, 1), strict=True
    ):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


def test_a_run_that_lacks_memory_is_made_in_halves(
    model: Differentiable, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, feed, sizes = model.evaluate(IMAGES, 1), runtime.Session.feed, list[int]()

    def scarce(self: runtime.Session, feeds: dict[str, Floats], outputs: object) -> object:
        count = len(feeds[model.image])
        sizes.append(count)
        if count > 8:
            raise WorkerLimitError.memory(MIB)
        return feed(self, feeds, outputs)  # type: ignore[arg-type] # passed on

    monkeypatch.setattr(runtime.Session, "feed", scarce)
    np.testing.assert_allclose(whole[2], model.evaluate(IMAGES, 1)[2], rtol=1e-5, atol=1e-6)
    assert sizes == [32, 16, 8, 8, 8, 8]


def test_one_image_that_lacks_memory_is_an_error(
    model: Differentiable, monkeypatch: pytest.MonkeyPatch
) -> None:
    def scarce(*_: object) -> object:
        raise WorkerLimitError.memory(MIB)

    monkeypatch.setattr(runtime.Session, "feed", scarce)
    with pytest.raises(WorkerLimitError):
        model.evaluate(IMAGES[:2], 1)


def test_what_a_person_reads_is_timed_until_the_clock_has_moved(
    model: Differentiable, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = 0

    def counted(*_: object) -> None:
        nonlocal runs
        runs += 1

    monkeypatch.setattr(Differentiable, "evaluate", counted)
    monkeypatch.setattr("time.process_time", lambda: 0.01 * (runs // 10))
    assert pace.measured(model, IMAGES, CPU).seconds == 0, "shorter than a tick"
    runs = 0
    assert pace.measured(model, IMAGES, CPU, told=True).seconds > 0
