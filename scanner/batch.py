"""Scans of many models: measured side by side, judged one after the other, and remembered.

What is slow, measuring, needs only the model and the settings, so it runs on any
`concurrent.futures.Executor`, and its record can be kept (`scanner.cache`). What judges, the
references and the baseline, is measured or read once for all models.
"""

import contextlib
import dataclasses
import os
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError, Executor, Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from scanner import conclusion, pipeline, questions
from scanner.cache import Cache, Key, judges, renamed
from scanner.errors import ScannerError, WorkerError
from scanner.judging.courses import Choice, agrees, choice
from scanner.judging.population import Baseline
from scanner.judging.ranks import enough
from scanner.judging.references import refuse_repeats
from scanner.pipeline import Clock, Judge, PathLike
from scanner.results import ModelRecord, ScanResult
from scanner.sandbox import lane
from scanner.sandbox.endpoint import Progress
from scanner.settings import Settings

_AHEAD = 256  # models that are begun before the first of them is waited for
_TRIES = 2  # at a model under which a process died
_CHOICES = 8  # of suspects, for which references are held in memory
_DETECTORS = Path(__file__).parent / "detectors"
# What a child would load while it measures.
_LOADED = (
    "scanner.examine", "scanner.modelfile.parser", "scanner.modelfile.ambiguity",
    "scanner.modelfile.order", "scanner.detectors.translation", "onnx.reference.ops._op_list",
    "numpy.ma",
)  # fmt: skip

Told = Callable[[PathLike], None]
"""Called with a model when it has been measured, or found in the cache, in whatever order."""


def scan_many(  # noqa: PLR0913 - what is measured, beside what, where, and who is told
    models: Sequence[PathLike],
    references: Sequence[PathLike] = (),
    settings: Settings | None = None,
    *,
    baseline: Baseline | None = None,
    executor: Executor | None = None,
    cache: Cache | None = None,
    measured: Told | None = None,
    clock: Clock = time.time,
) -> Iterator[ScanResult]:
    """Yield the result for each model, in order; one model's failure does not stop the others.

    Args:
        models: ONNX files.
        references: Clean ONNX files that take the same input; they are measured once, and again
            only where a suspect's search chose for them (`scanner.judging.courses`).
        settings: What to measure, on what and where.
        baseline: Clean models of the same recipe, measured before.
        executor: Where to measure, such as `lanes(2)`, a `ProcessPoolExecutor` or the executor of
            a cluster's client, whose workers must find the models under the same paths. None
            measures here, one model after the other. A worker that dies costs its model a second
            try, then a failure.
        cache: Remembers records and results; an unchanged model is not measured again.
        measured: Told of each model that is done.
        clock: Tells when a result was made.

    Raises:
        ScannerError: The request itself cannot be carried out, or a reference cannot be measured.
    """
    pipeline.several("models", models)
    pipeline.several("references", references)
    chosen = settings or Settings()
    shift = _Shift(chosen, executor, cache, None)
    clean = _Clean(references, shift)
    seats = judges(clean.records, baseline, chosen) if cache else ""
    alone = not references and baseline is None
    shift = dataclasses.replace(shift, measured=measured, judges=seats, alone=alone)
    with Judge(chosen, baseline=baseline, clock=clock) as judge:
        for begun in shift.begin(models):
            result = begun.result
            if result is None:
                record = begun.wait()
                beside = clean.beside(record)
                if error := conclusion.unopened(beside):
                    record, beside = pipeline.without_references(record, error), []
                result = judge.judge_one(record, beside)
                if cache and begun.key and not result.failures:
                    cache.keep_result(begun.key, seats, result)
            yield result


@contextlib.contextmanager
def lanes(
    count: int, detectors: Sequence[str] = (), *, progress: Progress | None = None
) -> Iterator[Executor]:
    """Run so many processes that measure side by side, and end them on the way out.

    A lane reads no model: it holds the libraries that a child needs, and starts a child per model.

    Args:
        count: How many.
        detectors: Those that will be asked for; none names all.
        progress: Called as `progress(step)` with what is under way, in several threads.
    """
    pool = _Lanes(count, needed(detectors), progress)
    try:
        yield pool
    finally:
        pool.end()


class _Lanes(ThreadPoolExecutor):
    """Threads, each of which has its calls made in a lane of its own."""

    def __init__(self, count: int, modules: Sequence[str], progress: Progress | None) -> None:
        self._modules = modules
        self._keeper = lane.Keeper(progress)
        super().__init__(count, initializer=self._keeper.hold)

    def submit(self, function: Any, /, *arguments: Any) -> "Future[Any]":  # type: ignore[override]
        """Have a function called in a lane."""
        return super().submit(lane.in_lane, self._modules, function, *arguments)

    def end(self) -> None:
        """Begin nothing more, and wait for nothing that is under way."""
        self.shutdown(wait=False, cancel_futures=True)
        self._keeper.end()
        self.shutdown()


def needed(detectors: Sequence[str] = ()) -> tuple[str, ...]:
    """Return the modules that a child loads to measure with these detectors; none names all."""
    files = sorted(path.stem for path in _DETECTORS.glob("[!_]*.py"))
    chosen = [f"scanner.detectors.{n}" for n in files if not detectors or n in detectors]
    return (*_LOADED, *chosen)


@dataclasses.dataclass(frozen=True, slots=True)
class _Task:
    """A measurement to make, on this machine or another.

    Attributes:
        name: What the user calls the model.
        key: Under what its record is kept; None where it is not.
        measure: Makes the record, of `arguments` and what is told of the progress; all of this can
            be sent to another process.
        arguments: Among them the model's absolute path.
    """

    name: PathLike
    key: Key | None
    measure: Callable[..., ModelRecord]
    arguments: tuple[Any, ...]


@dataclasses.dataclass(frozen=True, slots=True)
class _Begun:
    """A model under way: its result, where that is known, or what waits for its record."""

    key: Key | None
    result: ScanResult | None
    wait: Callable[[], ModelRecord]


@dataclasses.dataclass(frozen=True, slots=True)
class _Shift:
    """How models are measured in this run."""

    settings: Settings
    executor: Executor | None
    cache: Cache | None
    measured: Told | None
    judges: str = ""
    alone: bool = False

    def begin(self, models: Sequence[PathLike]) -> Iterator[_Begun]:
        """Yield each model, in order; those behind it are begun already."""
        ahead: deque[_Begun] = deque()
        for model in models:
            ahead.append(self._begin(model))
            if len(ahead) > (_AHEAD if self.executor else 0):
                yield ahead.popleft()
        yield from ahead

    def _begin(self, model: PathLike) -> _Begun:
        key = self.cache.key(model, self.settings, alone=self.alone) if self.cache else None
        if self.cache and key and self.judges:
            result = self.cache.result(key, self.judges)
            if result is not None:
                self._tell(model)
                return _Begun(key, renamed(result, os.fspath(model)), _nothing)
        arguments = (questions.source_of(model), self.settings, self.alone)
        return _Begun(key, None, self.start(_Task(model, key, pipeline.measure_source, arguments)))

    def start(self, task: _Task) -> Callable[[], ModelRecord]:
        """Start a task, if its record is not remembered; return what waits for the record."""
        if self.cache and task.key and (record := self.cache.record(task.key)) is not None:
            self._tell(task.name)
            known = renamed(record, os.fspath(task.name))
            return lambda: known
        future = self._submit(task)
        return lambda: self._answer(task, future)

    def _submit(self, task: _Task) -> "Future[ModelRecord] | None":
        if self.executor is None:
            return None
        modules = needed(self.settings.detectors)
        call: tuple[Any, ...] = (modules, task.measure, *task.arguments, lane.tell)
        try:
            # Wherever that is, its threads cannot fork, and a lane can.
            future: Future[ModelRecord] = self.executor.submit(lane.in_lane, *call)
        except RuntimeError:  # the pool has lost a process, and takes no more
            return None
        # Kept as soon as it is there: whoever stops the run may be waiting for one before it.
        future.add_done_callback(lambda f: self._kept(task, f.result()) if _is_well(f) else None)
        return future

    def _kept(self, task: _Task, record: ModelRecord) -> ModelRecord:
        """Keep a record, and tell of its model."""
        if self.cache and task.key and not record.failures:
            self.cache.keep_record(task.key, record)
        self._tell(task.name)
        return record

    def _answer(
        self, task: _Task, future: "Future[ModelRecord] | None", tries: int = _TRIES
    ) -> ModelRecord:
        """Return a record; a process that dies under a model costs it another try, then a failure.

        Where a pool takes no more because of that, the other try is made here.

        Raises:
            ScannerError: The request itself cannot be carried out, or nobody is left to do it.
        """
        if future is None:
            return self._kept(task, task.measure(*task.arguments, lane.tell))
        try:
            return future.result()
        except ScannerError:
            raise
        except CancelledError as error:
            raise WorkerError(
                "the cluster that measured the models is gone",
                remedy="start it and the scan again; with the setting `cache`, what is done is "
                "kept",
            ) from error
        except Exception as death:  # noqa: BLE001 - an executor's own; a cluster's are its own types
            if tries > 1:
                return self._answer(task, self._submit(task), tries - 1)
            self._tell(task.name)
            return _lost(task.name, death)

    def _tell(self, model: PathLike) -> None:
        if self.measured:
            self.measured(model)


def _lost(model: PathLike, death: Exception) -> ModelRecord:
    """Return the record of a model under which processes died, or could not answer."""
    error = WorkerError(
        f"the process that measured the model ended {_TRIES} times ({type(death).__name__})",
        remedy="see why in the log of the worker; a model that no worker survives is suspect",
    )
    return conclusion.unmeasured(questions.source_of(model), error)


def _is_well(future: "Future[ModelRecord]") -> bool:
    return not future.cancelled() and future.exception() is None


class _Clean:
    """The references, measured by themselves, and again where a suspect's search chose for them.

    Args:
        references: Their files.
        shift: How they are measured.

    Raises:
        ScannerError: One cannot be opened.
    """

    def __init__(self, references: Sequence[PathLike], shift: _Shift) -> None:
        self._references, self._shift = references, shift
        self._few = not enough(len(references), shift.settings.alpha)
        self.records = [begun.wait() for begun in shift.begin(references)]
        if error := conclusion.unopened(self.records):
            raise error
        refuse_repeats("reference", [record.model for record in self.records])
        self._by_choice: dict[Choice, list[ModelRecord]] = {}

    def beside(self, suspect: ModelRecord) -> list[ModelRecord]:
        """Return the references as they are beside a suspect; most suspects choose the same."""
        if not suspect.measurements or all(map(self._fits(suspect), self.records)):
            return self.records
        asked = choice(suspect, few=self._few)
        if asked not in self._by_choice:
            found = self._measured(suspect, asked)
            if conclusion.unopened(found):  # over this suspect's record, and perhaps no other's
                return found
            if len(self._by_choice) == _CHOICES:
                self._by_choice.pop(next(iter(self._by_choice)))
            self._by_choice[asked] = found
        return self._by_choice[asked]

    def _measured(self, suspect: ModelRecord, asked: Choice) -> list[ModelRecord]:
        fits = self._fits(suspect)
        pairs = zip(self._references, self.records, strict=True)
        waiting = [
            None if fits(own) else self._again(file, own, suspect, asked) for file, own in pairs
        ]
        return [
            own if wait is None else wait() for own, wait in zip(self.records, waiting, strict=True)
        ]

    def _again(
        self, file: PathLike, own: ModelRecord, suspect: ModelRecord, asked: Choice
    ) -> Callable[[], ModelRecord]:
        shift, count = self._shift, len(self._references)
        cache = shift.cache
        key = cache.key(file, shift.settings, choice=asked, among=count) if cache else None
        arguments = (questions.source_of(file), shift.settings, own, suspect, count)
        return shift.start(_Task(file, key, pipeline.measure_beside, arguments))

    def _fits(self, suspect: ModelRecord) -> Callable[[ModelRecord], bool]:
        return lambda reference: agrees(reference, suspect, few=self._few)


def _nothing() -> ModelRecord:
    raise AssertionError("the result is known")
