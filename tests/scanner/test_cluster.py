"""A real cluster on this machine, with workers that die; and clusters that cannot be used."""

import functools
import os
import sys
import time
from collections.abc import Iterator
from concurrent.futures import Executor
from pathlib import Path
from typing import Any

import dask
import distributed
import models
import pytest

from scanner import Device, Settings, UsageError, Verdict, cluster, scan_many
from scanner.cluster import workers
from scanner.protocol import Source
from scanner.version import VERSION

ROOT = Path(__file__).parents[2]
SAMPLES = sorted((ROOT / "samples").glob("mnist-*.onnx"))
SETTINGS = Settings(images=10, device=Device.CPU, detectors=("overactivation",))

# dask leaves sockets and loops to the collector when a worker is killed.
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")


@pytest.fixture(scope="module")
def scheduler() -> Iterator[str]:
    """The address of a cluster of two workers; a task whose worker died once is given up."""
    chosen = {
        "distributed.scheduler.allowed-failures": 0,
        # So that no task waits on a worker that is about to die under another.
        "distributed.scheduler.worker-saturation": 1.0,
    }
    made: Any = functools.partial(distributed.LocalCluster, silence_logs=100)
    with (
        dask.config.set(chosen),
        made(n_workers=2, threads_per_worker=1, dashboard_address=None) as local,
    ):
        yield str(local.scheduler_address)


class Deadly(Executor):
    """A cluster's executor, some of whose models kill their worker so many times."""

    def __init__(self, cluster: Executor, deaths: dict[str, int]) -> None:
        self._cluster, self._deaths = cluster, deaths

    def submit(self, *call: Any) -> Any:  # type: ignore[override]
        """Submit a measurement, or the end of the process that would make it."""
        name = next(part.name for part in call if isinstance(part, Source))
        if self._deaths.get(name, 0):
            self._deaths[name] -= 1
            return self._cluster.submit(os._exit, 1)
        return self._cluster.submit(*call)


def test_a_worker_that_dies_costs_its_model_a_try_then_a_failure_and_nothing_else(
    scheduler: str,
) -> None:
    names = [str(path) for path in SAMPLES]
    once, twice = names[1], names[3]
    with workers(scheduler, names[0]) as executor:
        deadly = Deadly(executor, {once: 1, twice: 2})
        results = list(scan_many(names, [], SETTINGS, executor=deadly))
    alone = list(scan_many(names, [], SETTINGS))
    assert [r.model.path for r in results] == names
    for name, result, here in zip(names, results, alone, strict=True):
        if name == twice:
            assert result.verdict is Verdict.INCONCLUSIVE
            assert "ended 2 times (KilledWorker)" in result.failures[0].sentence
        else:
            assert (result.findings, result.failures) == (here.findings, ())
            assert result.runtime is not None
            assert here.runtime is not None
            assert result.runtime.isolation == here.runtime.isolation, "the sandbox holds there"


def test_a_relative_path_means_the_same_on_a_worker(
    scheduler: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    models.save(models.plain(), tmp_path / "model.onnx")
    monkeypatch.chdir(tmp_path)
    with workers(scheduler, "model.onnx") as executor:
        (result,) = scan_many(["model.onnx"], [], SETTINGS, executor=executor)
    assert (result.model.path, result.failures) == ("model.onnx", ())


@pytest.mark.parametrize(
    "address", ["tcp://127.0.0.1:9", "http://127.0.0.1:8786", "nowhere", "", "tcp://"]
)
def test_what_is_no_scheduler_is_refused_soon(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "_SECONDS", 1)
    start = time.monotonic()
    with (
        pytest.raises(UsageError, match=r"there is no dask scheduler at .* `scheduler`\.$"),
        workers(address, "a.onnx"),
    ):
        pass
    assert time.monotonic() - start < 5


def test_without_the_extra_the_sentence_says_how_to_install_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    with (
        pytest.raises(UsageError, match=r"run: pip install 'overactivation\[cluster\]'"),
        workers("tcp://127.0.0.1:9", "a.onnx"),
    ):
        pass


class Answering:
    """A client whose workers say this of themselves."""

    def __init__(self, seen: dict[str, Any]) -> None:
        self._seen = seen

    def run(self, *_: object, **__: object) -> dict[str, Any]:
        """Return what the workers say."""
        return self._seen


@pytest.mark.parametrize(
    ("seen", "sentence"),
    [
        ({}, "has no workers; start some with 'dask worker tcp://s:1'"),
        ({"w": ("0.0.1", True)}, r"the worker w runs overactivation 0\.0\.1, and this machine"),
        ({"w": (VERSION, False)}, "the worker w does not see .*; share the folder"),
        ({"w": ImportError("no scanner")}, r"the worker w cannot run .* \(no scanner\); install"),
    ],
)
def test_a_cluster_that_would_do_other_work_is_refused(seen: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        cluster._check(Answering(seen), "tcp://s:1", SAMPLES[0])


def test_a_model_that_is_nowhere_is_a_row_not_a_reason_to_stop() -> None:
    cluster._check(Answering({"w": (VERSION, False)}), "tcp://s:1", Path("/none.onnx"))
