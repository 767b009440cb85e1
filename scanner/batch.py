"""Scans of many models: measured side by side, judged one after the other, and remembered.

What is slow, measuring, needs only the model and the settings, so it runs on any
`concurrent.futures.Executor`, and its record can be kept (`scanner.cache`). What judges, the
references and the baseline, is measured or read once for all models.
"""

import contextlib
import dataclasses
import signal
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future
from pathlib import Path

from scanner import pipeline
from scanner.cache import Cache, Key, judges, renamed
from scanner.errors import ScannerError
from scanner.judging.population import Baseline
from scanner.judging.references import refuse_repeats
from scanner.pipeline import Clock, Judge, PathLike
from scanner.protocol import MODEL_RULE
from scanner.results import InputRange, ModelRecord, ScanResult
from scanner.sandbox import launch
from scanner.settings import Settings

_AHEAD = 64  # models that are begun before the first of them is waited for
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
        references: Clean ONNX files that take the same input; they are measured once.
        settings: What to measure, on what and where.
        baseline: Clean models of the same recipe, measured before.
        executor: Where to measure, such as `lanes(2)`, a `ProcessPoolExecutor` or the executor of
            a cluster's client. None measures here, one model after the other.
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
    shift = dataclasses.replace(shift, measured=measured, judges=seats)
    with Judge(chosen, baseline=baseline, clock=clock) as judge:
        for begun in shift.begin(models):
            result = begun.result
            if result is None:
                record = begun.wait()
                (result,) = judge.judge([record], clean.beside(record))
                if cache and begun.key and not result.failures:
                    cache.keep_result(begun.key, seats, result)
            yield result


@contextlib.contextmanager
def lanes(count: int, detectors: Sequence[str] = ()) -> Iterator[Executor]:
    """Run so many processes that measure side by side, and end them on the way out.

    A lane reads no model: it holds the libraries that a child needs, and starts a child per model.

    Args:
        count: How many.
        detectors: Those that will be asked for; none names all.
    """
    import multiprocessing  # noqa: PLC0415 - a single scan does not come here
    from concurrent.futures import ProcessPoolExecutor  # noqa: PLC0415 - as above

    # A fork is quicker, and safe where no native library has started a thread.
    way = "fork" if launch.may_fork() else "spawn"
    others = multiprocessing.active_children()
    pool = ProcessPoolExecutor(
        count,
        mp_context=multiprocessing.get_context(way),
        initializer=_become_a_lane,
        initargs=(tuple(detectors),),
    )
    try:
        yield pool
    finally:
        for process in multiprocessing.active_children():
            if process not in others:
                process.terminate()
        pool.shutdown(cancel_futures=True)  # which waits for them, and for nothing they were doing


def _become_a_lane(detectors: Sequence[str]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # whoever started it decides
    files = sorted(path.stem for path in _DETECTORS.glob("[!_]*.py"))
    chosen = [f"scanner.detectors.{n}" for n in files if not detectors or n in detectors]
    launch.preload((*_LOADED, *chosen))


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

    def begin(self, models: Sequence[PathLike]) -> Iterator[_Begun]:
        """Yield each model, in order; those behind it are begun already."""
        ahead: deque[_Begun] = deque()
        for model in models:
            ahead.append(self._begin(model))
            if len(ahead) > (_AHEAD if self.executor else 0):
                yield ahead.popleft()
        yield from ahead

    def _begin(self, model: PathLike) -> _Begun:
        key = self.cache.key(model, self.settings) if self.cache else None
        if self.cache and key:
            name = str(model)
            if self.judges and (result := self.cache.result(key, self.judges)) is not None:
                self._tell(model)
                return _Begun(key, renamed(result, name), _nothing)
            if (record := self.cache.record(key)) is not None:
                self._tell(model)
                known = renamed(record, name)
                return _Begun(key, None, lambda: known)
        future = self._submit(model)
        return _Begun(key, None, lambda: self._outcome(model, key, future))

    def _submit(self, model: PathLike) -> "Future[ModelRecord] | None":
        if self.executor is None:
            return None
        try:
            future = self.executor.submit(pipeline.measure, model, self.settings)
        except RuntimeError:  # the pool has lost a process, and takes no more
            return None
        future.add_done_callback(lambda _: self._tell(model))
        return future

    def _outcome(
        self, model: PathLike, key: Key | None, future: "Future[ModelRecord] | None"
    ) -> ModelRecord:
        """Return a model's record; one whose process died under it is measured again, here."""
        record = None
        if future is not None:
            try:
                record = future.result()
            except ScannerError:
                raise
            except Exception:  # noqa: BLE001 - an executor's own; a cluster's are its own types
                record = None
        if record is None:
            record = pipeline.measure(model, self.settings)
            if future is None:
                self._tell(model)
        if self.cache and key and not record.failures:
            self.cache.keep_record(key, record)
        return record

    def _tell(self, model: PathLike) -> None:
        if self.measured:
            self.measured(model)


class _Clean:
    """The references, measured once for all models that take the same values.

    Args:
        references: Their files.
        shift: How they are measured.

    Raises:
        ScannerError: One cannot be opened.
    """

    def __init__(self, references: Sequence[PathLike], shift: _Shift) -> None:
        self._references, self._shift = references, shift
        self.records = self._measured(shift)
        self._by_range: dict[tuple[float, float], list[ModelRecord]] = {}

    def beside(self, suspect: ModelRecord) -> list[ModelRecord]:
        """Return what the references show on the values that a suspect takes.

        Raises:
            ScannerError: One cannot be opened any more.
        """
        taken = suspect.input_range
        if taken is None or all(_same_range(record.input_range, taken) for record in self.records):
            return self.records
        span = (taken.low, taken.high)
        if span not in self._by_range:
            chosen = dataclasses.replace(self._shift.settings, input_range=span)
            again = self._measured(dataclasses.replace(self._shift, settings=chosen))
            # What they would take themselves is kept: it may be a reason to doubt them.
            self._by_range[span] = [
                dataclasses.replace(record, input_range=own.input_range)
                for record, own in zip(again, self.records, strict=True)
            ]
        return self._by_range[span]

    def _measured(self, shift: _Shift) -> list[ModelRecord]:
        records = [begun.wait() for begun in shift.begin(self._references)]
        for failure in (f for record in records for f in record.failures):
            if failure.rule == MODEL_RULE:
                raise ScannerError.from_dict(failure.error)
        refuse_repeats("reference", [record.model for record in records])
        return records


def _same_range(one: InputRange | None, other: InputRange) -> bool:
    return one is not None and (one.low, one.high) == (other.low, other.high)


def _nothing() -> ModelRecord:
    raise AssertionError("the result is known")
