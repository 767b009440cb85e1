"""Searches on a device against the loops on the host, by the CPU's provider through the same code.

float32 on both sides: the two differ by rounding, which a rectifier near 0 can enlarge. Hence
tolerances: 1e-4 on masks after a few steps; after a whole search, sizes within 5 %.
"""

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import models
import numpy as np
import pytest
import triggered
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from scanner.detectors import mm_bd
from scanner.detectors.mm_bd import MmBd
from scanner.detectors.neural_cleanse import NeuralCleanse
from scanner.errors import ScannerError, UnsupportedModelError, WorkerLimitError
from scanner.graph.gradient.backward import Objective
from scanner.instruments import device_search, inversion, resident, runtime
from scanner.instruments.class_search import ROUND
from scanner.instruments.detector import Detector, Subject
from scanner.instruments.device_search import Schedule
from scanner.instruments.differentiable import Differentiable, differentiable
from scanner.results import Measurement
from scanner.settings import Budget, Settings

SEVERAL = settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
VARIANTS: dict[str, dict[str, Any]] = {
    "NCHW": {},
    "three channels": {"shape": (3, 8, 8)},
    "NHWC": {"shape": (8, 8, 3)},
    "vector": {"shape": (64,)},
    "uint8": {"kind": TensorProto.UINT8},
    "float16": {"kind": TensorProto.FLOAT16},
    "float64": {"kind": TensorProto.DOUBLE},
    "its own batch": {"batch": 12},
    "softmax": {"softmax": True},
}


def convolutional(seed: int, shape: tuple[int, int, int] = (1, 8, 8)) -> Any:
    """Return a network with a rectifier: convolution, ReLU, mean over pixels, four classes."""
    generator = np.random.default_rng(seed)
    constants = {
        "kernel": generator.normal(0, 0.5, (6, shape[0], 3, 3)).astype(np.float32),
        "dense": generator.normal(0, 2, (6, 4)).astype(np.float32),
    }
    nodes = [
        helper.make_node("Conv", ["image", "kernel"], ["conv"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["conv"], ["relu"]),
        *models.head("relu"),
    ]
    return models.build(nodes, constants, input_shape=("N", *shape))


def inversions(
    subject: Subject, batch: int | None = None, images: int = 12
) -> tuple[device_search.Inversions | None, Callable[..., inversion.Inversion]]:
    """Return what starts searches for triggers on the device, and in the loop on the host."""
    model = differentiable(subject, Objective.CROSS_ENTROPY)
    noise = np.random.default_rng(7).random((images, *model.shape), dtype=np.float32)
    shown = model.low + (model.high - model.low) * noise
    plan = inversion.Plan(batch=batch, success=0.9)
    schedule = Schedule(
        batch=batch, success=0.9, first_cost=plan.first_cost, early_stop=inversion.EARLY_STOP
    )

    def host(target: int, generator: np.random.Generator) -> inversion.Inversion:
        return inversion.Inversion(model, shown, target, generator, plan)

    return device_search.inversions(subject, model, shown, schedule, host), host


def same_course(ours: device_search.Inversion, host: inversion.Inversion, steps: int) -> None:
    for _ in range(steps):
        ours.step()
        host.step()
        np.testing.assert_allclose(ours.mask, host.trigger.mask, atol=1e-4)
        assert ours.loss == pytest.approx(host.loss, rel=1e-3, abs=1e-5)
        assert ours.size == pytest.approx(host.size, rel=1e-3)
        assert ours._numbers()["cost"] == pytest.approx(host.price.cost)
        assert ours._numbers()["stale"] == host.smallest.stale
    assert ours.steps == host.steps
    assert (ours.best is None) == (host.best is None)
    if ours.best is not None and host.best is not None:
        for one, other in zip(ours.best, host.best, strict=True):
            np.testing.assert_allclose(one, other, atol=1e-3)


@pytest.mark.parametrize("name", VARIANTS)
def test_a_search_takes_the_steps_of_the_loop_on_the_host(name: str, tmp_path: Path) -> None:
    subject = triggered.subject(triggered.classifier(**VARIANTS[name]), tmp_path)
    device, host = inversions(subject)
    assert device is not None
    seeds = (np.random.default_rng(3) for _ in range(2))
    same_course(device.start(2, next(seeds)), host(2, next(seeds)), 15)


@given(seed=st.integers(0, 10**6), target=st.integers(0, 3), batch=st.sampled_from([None, 3, 5]))
@SEVERAL
def test_so_it_does_on_any_small_network(
    seed: int, target: int, batch: int | None, tmp_path: Path
) -> None:
    subject = triggered.subject(convolutional(seed), tmp_path)
    device, host = inversions(subject, batch)
    assert device is not None
    seeds = (np.random.default_rng(seed) for _ in range(2))
    same_course(device.start(target, next(seeds)), host(target, next(seeds)), 6)


def test_it_stops_by_itself_where_the_loop_would(tmp_path: Path) -> None:
    """Nothing is read between steps: those that are taken too many change nothing."""
    subject = triggered.subject(triggered.classifier(planted=True), tmp_path)
    device, host = inversions(subject)
    assert device is not None
    ours = device.start(triggered.TARGET, np.random.default_rng(0))
    theirs = host(triggered.TARGET, np.random.default_rng(0))
    rounds = 0
    while not theirs.finished:
        assert not ours.finished, "as far as is known"
        for _ in range(ROUND):
            ours.step()
            if not theirs.finished:
                theirs.step()
        assert ours.size == pytest.approx(theirs.size, rel=0.05)
        rounds += 1
    assert rounds > 1
    assert theirs.steps % ROUND, "or nothing was too many"
    assert ours.finished
    assert ours.steps == pytest.approx(theirs.steps, abs=3)
    before = ours.size, ours.steps
    ours.step()
    assert (ours.size, ours.steps) == before


def test_searches_take_turns_on_one_seat(tmp_path: Path) -> None:
    subject = triggered.subject(convolutional(0), tmp_path)
    device, host = inversions(subject, batch=5)
    assert device is not None
    turns = [device.start(t, np.random.default_rng(t)) for t in range(3)]
    loops = [host(t, np.random.default_rng(t)) for t in range(3)]
    for size in (2, 1, 30, 2):
        for ours, theirs in zip(turns, loops, strict=True):
            for _ in range(size):
                ours.step()
                theirs.step()
    for ours, theirs in zip(turns, loops, strict=True):
        assert ours.steps == theirs.steps == 35
        assert ours.loss == pytest.approx(theirs.loss, rel=0.05)
        np.testing.assert_allclose(ours.mask, theirs.trigger.mask, atol=0.05)


def test_nothing_is_read_until_it_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    device, _ = inversions(triggered.subject(triggered.classifier(), tmp_path))
    assert device is not None
    search, moved = device.start(1, np.random.default_rng(0)), list[str]()
    read, write = runtime.Buffer.read, runtime.Buffer.write

    def reading(self: runtime.Buffer) -> Any:
        moved.append("to the host")
        return read(self)

    def writing(self: runtime.Buffer, array: Any) -> None:
        moved.append("to the device")
        write(self, array)

    search.step()
    monkeypatch.setattr(runtime.Buffer, "read", reading)
    monkeypatch.setattr(runtime.Buffer, "write", writing)
    for _ in range(ROUND - 1):
        assert not search.finished
        search.step()
    assert not moved
    assert search.size > 0
    assert math.isfinite(search.loss)
    assert search.steps == ROUND
    assert moved == ["to the host"], "once for all the numbers of a round"


def climbs(subject: Subject) -> tuple[device_search.Ascents | None, Callable[[int], mm_bd.Ascent]]:
    """Return what starts ascents on the device, and in the loop on the host."""
    model = differentiable(subject, Objective.MARGIN)
    images = np.random.default_rng(7).random((8, *model.shape), dtype=np.float32)
    images = (model.low + (model.high - model.low) * images).astype(np.float32)

    def host(target: int) -> mm_bd.Ascent:
        return mm_bd.Ascent(model, images, target, 20)

    rates = (mm_bd.FIRST_RATE, mm_bd.decay(20))
    return device_search.ascents(subject, model, images, rates, host), host


@given(seed=st.integers(0, 10**6), target=st.integers(0, 3))
@SEVERAL
def test_an_ascent_takes_the_steps_of_the_loop_on_the_host(
    seed: int, target: int, tmp_path: Path
) -> None:
    """Where a slope is 0 but for rounding its sign is anybody's: what counts is the margin."""
    device, host = climbs(triggered.subject(convolutional(seed), tmp_path))
    assert device is not None
    ours, theirs = device.start(target), host(target)
    assert (ours.margin, ours.figure, ours.finished) == (-math.inf, None, False)
    for _ in range(20):
        ours.step()
        theirs.step()
    assert ours.steps == theirs.steps == 20
    assert ours.margin == pytest.approx(theirs.margin, rel=1e-2, abs=1e-3)
    assert ours.rank == (-ours.margin,)
    assert ours.figure == ours.margin
    assert np.abs(ours.images - theirs.images).mean() < 0.02
    assert ours.images.min() >= ours.model.low
    assert ours.images.max() <= ours.model.high


def on_both(
    detector: Detector,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    settings: Settings = triggered.QUICK,
    planted: bool = True,
) -> tuple[Measurement, Measurement]:
    """Measure a model in the loop on the host, and by the way of a device."""
    model = triggered.classifier(planted)
    host = triggered.measure(detector, model, folder, settings)
    with monkeypatch.context() as patch:
        patch.setattr(Differentiable, "on_device", True)
        return host, triggered.measure(detector, model, folder, settings)


@pytest.mark.parametrize("detector", [NeuralCleanse(), MmBd()])
@pytest.mark.parametrize("planted", [False, True])
def test_a_measurement_is_the_same_but_for_where_it_was_made(
    detector: Detector, planted: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    host, ours = on_both(detector, tmp_path, monkeypatch, planted=planted)
    assert "loop" not in host.parameters
    assert ours.parameters == {**host.parameters, "loop": "device"}
    assert host.by_class is not None
    assert ours.by_class is not None
    for one, other in zip(ours.by_class.rows, host.by_class.rows, strict=True):
        assert one.class_id == other.class_id
        assert one.figure == pytest.approx(other.figure, rel=0.05)
        assert one.finished == other.finished
        assert one.steps == pytest.approx(other.steps, abs=5)
        assert len(one.course) == len(other.course)
    figures = [
        min(m.by_class.rows, key=lambda row: row.figure or math.inf).class_id
        for m in (host, ours)
        if m.by_class
    ]
    assert figures[0] == figures[1]
    if planted and detector.rule.id == "neural_cleanse":
        assert figures[0] == triggered.TARGET


def test_restarts_take_turns_on_seats_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They step in turn: on one seat each step would move a whole state to the host and back."""
    thorough = dataclasses.replace(triggered.QUICK, budget=Budget.THOROUGH, classes=(0, 1))
    leave, left = device_search._Seated.leave, list[int]()

    def counted(self: device_search._Seated) -> None:
        left.append(self.target)
        leave(self)

    monkeypatch.setattr(device_search._Seated, "leave", counted)
    host, ours = on_both(NeuralCleanse(), tmp_path, monkeypatch, thorough)
    assert ours.by_class is not None
    assert host.by_class is not None
    rounds = sum(len(row.course) for row in ours.by_class.rows)
    restarts = thorough.effort.restarts
    assert 0 < len(left) <= restarts * (rounds + 1), "once a round, not once a step"
    for row, other in zip(ours.by_class.rows, host.by_class.rows, strict=True):
        assert len(row.restarts) == restarts
        assert row.figure == pytest.approx(other.figure, rel=0.05)


def test_a_gradient_that_is_no_number_is_an_error_on_the_device_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From some step on: the proof before the first is passed, and what follows is not."""
    monkeypatch.setattr(device_search, "_proved", lambda *_: True)
    device, host = inversions(triggered.subject(triggered.classifier(nan=True), tmp_path))
    assert device is not None
    search = device.start(0, np.random.default_rng(0))
    search.step()
    search.step()
    with pytest.raises(UnsupportedModelError, match="not a finite number: NaN is in the weights"):
        _ = search.size
    with pytest.raises(UnsupportedModelError, match="not a finite number"):
        host(0, np.random.default_rng(0)).step()


def test_a_device_that_comes_to_something_else_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    subject = triggered.subject(convolutional(1), tmp_path)
    assert inversions(subject)[0] is not None
    assert climbs(subject)[0] is not None
    write = runtime.Buffer.write

    def elsewhere(self: runtime.Buffer, array: Any) -> None:
        write(self, np.roll(array, 1, axis=-1))

    monkeypatch.setattr(runtime.Buffer, "write", elsewhere)
    assert inversions(subject)[0] is None
    assert climbs(subject)[0] is None


@pytest.mark.parametrize("kind", [UnsupportedModelError, WorkerLimitError])
def test_a_graph_that_does_not_run_on_the_device_is_searched_from_the_host(
    kind: type[ScannerError], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object) -> None:
        raise kind("it fails", remedy="")

    subject = triggered.subject(convolutional(1), tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(resident.Seat, "step", refused)
        assert inversions(subject)[0] is None
    device, _ = climbs(subject)
    assert device is not None
    steps = 0

    def later(_: resident.Seat) -> None:
        nonlocal steps
        steps += 1
        if steps > 2:  # those by which it is tried
            raise UnsupportedModelError("it fails", remedy="")

    monkeypatch.setattr(resident.Seat, "step", later)
    assert climbs(subject)[0] is None


@pytest.mark.parametrize(("batch", "most"), [(5, None), (1, None), ("N", 4)])
def test_steps_of_several_runs_are_taken_from_the_host(
    batch: int | str, most: int | None, tmp_path: Path
) -> None:
    subject = triggered.subject(triggered.classifier(batch=batch), tmp_path)
    model = dataclasses.replace(differentiable(subject, Objective.CROSS_ENTROPY), most=most)
    assert not device_search._fits(model, 12)
    assert device_search._fits(dataclasses.replace(model, most=None), model.fixed_batch or 12)
