"""Many models through real children, in one process or over an executor."""

import dataclasses
import os
from concurrent.futures import BrokenExecutor, Future, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import models
import numpy as np
import psutil
import pytest
import triggered
from onnx import numpy_helper

from scanner import Device, Settings, UsageError, Verdict, conclusion, pipeline, scan, scan_many
from scanner.batch import lanes
from scanner.cache import Cache
from scanner.errors import WorkerCrashedError, WorkerError
from scanner.protocol import Source
from scanner.results import ModelRecord
from scanner.sandbox.endpoint import Step
from scanner.settings import Budget

SETTINGS = Settings(images=10, device=Device.CPU, detectors=("overactivation",))


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    clean = models.save(models.plain(), tmp_path / "clean.onnx")
    return models.save(models.plain(planted=True), tmp_path / "planted.onnx"), clean


def test_one_failure_does_not_stop_the_others(pair: tuple[Path, Path], tmp_path: Path) -> None:
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"x")
    results = list(scan_many([pair[0], broken, pair[0]], [pair[1]], SETTINGS))
    assert [len(r.failures) for r in results] == [0, 1, 0]
    assert results[0].findings[0].evidence == results[2].findings[0].evidence
    assert "is not an ONNX file" in results[1].failures[0].sentence


def test_an_executor_gives_the_same_results(pair: tuple[Path, Path]) -> None:
    with ThreadPoolExecutor(2) as executor:
        parallel = [
            r.findings for r in scan_many([pair[0], pair[1]], [], SETTINGS, executor=executor)
        ]
    assert parallel == [r.findings for r in scan_many([pair[0], pair[1]], [], SETTINGS)]


def test_lanes_give_the_same_results_and_leave_no_process(pair: tuple[Path, Path]) -> None:
    with lanes(2, SETTINGS.detectors) as executor:
        side_by_side = list(scan_many(pair, [], SETTINGS, executor=executor))
    assert psutil.Process().children(recursive=True) == []
    assert [r.findings for r in side_by_side] == [r.findings for r in scan_many(pair, [], SETTINGS)]


def test_lanes_tell_what_is_under_way(pair: tuple[Path, Path]) -> None:
    told: list[Step] = []
    settings = Settings(device=Device.CPU, detectors=("neural_cleanse",), budget=Budget.THOROUGH)
    model = models.save(triggered.classifier(classes=14), pair[0].parent / "slow.onnx")
    with lanes(1, settings.detectors, progress=told.append) as executor:
        list(scan_many([model], [], settings, executor=executor))
    assert {step.model for step in told} == {str(model)}
    # On a busy machine it is told too that nothing has begun.
    assert {step.rule for step in told} - {None} == {"neural_cleanse"}
    assert any(step.class_id is not None for step in told)


def test_a_lane_that_dies_costs_no_result(pair: tuple[Path, Path]) -> None:
    with lanes(1, SETTINGS.detectors) as executor:
        assert isinstance(executor.submit(os._exit, 1).exception(), BrokenExecutor)
        results = list(scan_many([*pair, *pair], [], SETTINGS, executor=executor))
    assert [len(r.findings) for r in results] == [1, 1, 1, 1]


def test_what_is_remembered_is_not_measured(
    pair: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = Cache(tmp_path / "cache")
    told: list[str] = []
    first = list(scan_many(pair, [], SETTINGS, cache=cache, measured=lambda m: told.append(str(m))))
    assert told == list(map(str, pair))

    def fail(*_: object, **__: object) -> None:
        raise AssertionError("measured again")

    monkeypatch.setattr(pipeline, "measure_source", fail)
    assert list(scan_many(pair, [], SETTINGS, cache=cache)) == first
    again = dataclasses.replace(SETTINGS, alpha=0.2)
    assert [r.run and r.run.alpha for r in scan_many(pair, [], again, cache=cache)] == [0.2, 0.2]
    monkeypatch.setattr(pipeline.Judge, "judge", fail)
    assert list(scan_many(pair, [], SETTINGS, cache=cache)) == first


def test_what_failed_is_measured_again(tmp_path: Path) -> None:
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"x")
    cache = Cache(tmp_path / "cache")
    (result,) = scan_many([broken], [], SETTINGS, cache=cache)
    assert result.failures
    assert list((tmp_path / "cache").iterdir()) == []


def test_an_interrupted_run_keeps_what_it_has(pair: tuple[Path, Path], tmp_path: Path) -> None:
    cache = Cache(tmp_path / "cache")
    next(scan_many(pair, [], SETTINGS, cache=cache))
    key = cache.key(pair[0], SETTINGS, alone=True)
    assert key is not None
    assert cache.record(key) is not None


def test_what_is_done_is_kept_before_its_turn(pair: tuple[Path, Path], tmp_path: Path) -> None:
    """Whoever stops a run may be waiting for a slow model, behind which others are done."""
    cache, stopped = Cache(tmp_path / "cache"), Future[Any]()

    class Slow(ThreadPoolExecutor):
        def submit(  # type: ignore[override]
            self, function: Any, /, *arguments: Any
        ) -> Any:
            """Never finish the first model."""
            asked = arguments[2]
            first = isinstance(asked, Source) and asked.name == str(pair[0])
            return stopped if first else super().submit(function, *arguments)

    def tell(model: object) -> None:
        assert str(model) == str(pair[1])
        stopped.set_exception(UsageError("stopped", remedy="go on later"))

    with Slow(1) as executor, pytest.raises(UsageError, match="stopped"):
        list(scan_many(pair, [], SETTINGS, executor=executor, cache=cache, measured=tell))
    key = cache.key(pair[1], SETTINGS, alone=True)
    assert key is not None
    assert cache.record(key) is not None


def test_references_are_measured_once_and_judge(
    pair: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clean = [models.save(models.plain(seed=s), tmp_path / f"{s}.onnx") for s in (1, 2, 3)]
    measured: list[str] = []
    measure = pipeline.measure_source

    def counted(source: Source, *rest: Any) -> ModelRecord:
        measured.append(source.name)
        return measure(source, *rest)

    monkeypatch.setattr(pipeline, "measure_source", counted)
    results = list(scan_many([pair[0], pair[0]], clean, SETTINGS))
    assert measured == [*map(str, clean), str(pair[0]), str(pair[0])]
    assert [r.findings[0].p_value for r in results] == [0.25, 0.25]


def test_references_are_measured_again_for_a_model_of_another_range(tmp_path: Path) -> None:
    reference = models.save(models.plain(seed=2), tmp_path / "reference.onnx")
    suspects = [
        models.save(models.plain(), tmp_path / "unit.onnx"),
        models.save(models.of_bytes(), tmp_path / "bytes.onnx"),
    ]
    results = list(scan_many(suspects, [reference], SETTINGS))
    single = [scan(suspect, [reference], SETTINGS) for suspect in suspects]
    assert [r.findings for r in results] == [r.findings for r in single]
    assert [r.warnings for r in results] == [r.warnings for r in single]


def test_references_repeat_what_a_suspects_search_chose(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of 14 classes a search drops half, and which ones depends on the model."""
    settings = Settings(device=Device.CPU, detectors=("neural_cleanse",))
    named = {"a": True, "b": False}
    suspects = [
        models.save(triggered.classifier(planted, classes=14), tmp_path / f"{name}.onnx")
        for name, planted in named.items()
    ]
    reference = models.save(triggered.classifier(classes=14, seed=1), tmp_path / "clean.onnx")
    again: list[str] = []
    beside = pipeline.measure_beside

    def counted(*arguments: Any) -> ModelRecord:
        again.append(arguments[3].model.path)
        return beside(*arguments)

    monkeypatch.setattr(pipeline, "measure_beside", counted)
    cache = Cache(tmp_path / "cache")
    twice = [suspects[0], suspects[0], suspects[1]]
    results = list(scan_many(twice, [reference], settings, cache=cache))
    first, second = (scan(suspect, [reference], settings) for suspect in suspects)
    assert [r.findings for r in results] == [first.findings, first.findings, second.findings]
    assert again == [str(suspects[0]), str(suspects[1])], "once for each choice"
    list(scan_many(twice, [reference], dataclasses.replace(settings, alpha=0.2), cache=cache))
    assert len(again) == 2, "and what was measured for a choice is remembered"


def test_a_reference_lost_on_the_second_try_is_a_failure_of_that_row_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reference = models.save(models.plain(seed=2), tmp_path / "reference.onnx")
    suspects = [
        models.save(models.of_bytes(), tmp_path / "bytes.onnx"),
        models.save(models.plain(), tmp_path / "unit.onnx"),
    ]
    monkeypatch.setattr(
        pipeline,
        "measure_beside",
        lambda source, *_: conclusion.unmeasured(source, WorkerCrashedError("it died", remedy="r")),
    )
    lost, whole = scan_many(suspects, [reference], SETTINGS)
    assert "the references could not be measured: it died" in lost.failures[0].sentence
    assert lost.findings
    assert whole.failures == ()


def test_references_lost_beside_one_model_are_measured_again_beside_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first one's record may have been to blame, although both choose the same."""
    reference = models.save(models.plain(seed=2), tmp_path / "reference.onnx")
    suspects = [
        models.save(models.of_bytes(), tmp_path / f"{name}.onnx") for name in ("bad", "good")
    ]
    beside = pipeline.measure_beside

    def ended(source: Source, *rest: Any) -> ModelRecord:
        if rest[2].model.path.endswith("bad.onnx"):
            return conclusion.unmeasured(source, WorkerCrashedError("it died", remedy="r"))
        return beside(source, *rest)

    monkeypatch.setattr(pipeline, "measure_beside", ended)
    lost, whole = scan_many(suspects, [reference], SETTINGS)
    assert "the references could not be measured: it died" in lost.failures[0].sentence
    assert whole.failures == ()


class Dying(ThreadPoolExecutor):
    """An executor under which a process dies while it measures some models, so many times."""

    def __init__(self, deaths: dict[str, int]) -> None:
        super().__init__(1)
        self._deaths = deaths

    def submit(self, *call: Any) -> Any:  # type: ignore[override]
        """Submit a measurement, or what stands for its death."""
        name = next(Path(part.name).name for part in call if isinstance(part, Source))
        if self._deaths.get(name, 0):
            self._deaths[name] -= 1
            return super().submit(_die)
        return super().submit(*call)


def _die() -> None:
    raise BrokenProcessPool


def test_a_worker_that_dies_costs_its_model_another_try_then_a_failure(
    tmp_path: Path,
) -> None:
    files = [models.save(models.plain(seed=s), tmp_path / f"{s}.onnx") for s in range(4)]
    told: list[str] = []
    with Dying({"1.onnx": 1, "2.onnx": 2}) as executor:
        results = list(
            scan_many(
                files, [], SETTINGS, executor=executor, measured=lambda m: told.append(str(m))
            )
        )
    assert [len(r.findings) for r in results] == [1, 1, 0, 1]
    assert [r.model.path for r in results] == list(map(str, files))
    (failure,) = results[2].failures
    assert "ended 2 times (BrokenProcessPool)" in failure.sentence
    assert results[2].verdict is Verdict.INCONCLUSIVE
    assert sorted(told) == list(map(str, files)), "each is told of once"


def test_a_cluster_that_is_gone_ends_the_run(pair: tuple[Path, Path]) -> None:
    class Gone(ThreadPoolExecutor):
        def submit(self, *_: Any, **__: Any) -> Any:
            future: Future[None] = Future()
            future.cancel()
            return future

    with Gone(1) as executor, pytest.raises(WorkerError, match="is gone; start it"):
        list(scan_many(pair, [], SETTINGS, executor=executor))


def test_a_copy_among_the_references_is_said_as_in_a_single_scan(tmp_path: Path) -> None:
    suspect, copy, other = triggered.classifier(), triggered.classifier(), triggered.classifier()
    for model, least in ((copy, 1e-3), (other, 1e-2)):
        tensor = next(t for t in model.graph.initializer if t.name == "weights")
        moved = numpy_helper.to_array(tensor) + np.float32(least)
        tensor.CopyFrom(numpy_helper.from_array(moved, "weights"))
    named = {"suspect": suspect, "copy": copy, "other": other}
    files = [models.save(model, tmp_path / f"{name}.onnx") for name, model in named.items()]
    settings = Settings(device=Device.CPU, detectors=("head", "classifier"))
    (result,) = scan_many(files[:1], files[1:], settings)
    single = scan(files[0], files[1:], settings)
    assert "is a copy of the suspect" in result.warnings[0]
    assert (result.warnings, result.verdict) == (single.warnings, single.verdict)


def test_a_reference_that_is_no_model_stops_the_run(
    pair: tuple[Path, Path], tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match="there is no file"):
        list(scan_many(pair, [tmp_path / "none.onnx"], SETTINGS))


@pytest.mark.parametrize("single", ["a.onnx", Path("a.onnx")])
def test_a_single_path_is_not_read_letter_by_letter(single: Any) -> None:
    for call in (
        lambda: list(scan_many(single)),
        lambda: list(scan_many(["b.onnx"], single)),
        lambda: scan("b.onnx", single),
    ):
        with pytest.raises(UsageError, match="put it into a list"):
            call()
