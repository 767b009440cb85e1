"""The user's side of a scan: ask the worker, judge, gather.

Nothing heavy is imported here: the child imports onnx and ONNX Runtime while this side is still
reading its options.
"""

import dataclasses
import os
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Self

from scanner import protocol
from scanner.errors import BaselineError, ScannerError, UsageError, WorkerError
from scanner.judging import population, ranks, unanalysable, verdict
from scanner.judging.population import Baseline
from scanner.limits import Allowance
from scanner.protocol import (
    Check,
    DetectorDescription,
    Diagnosis,
    Examination,
    Job,
    LayerList,
    Source,
    Task,
    Trial,
)
from scanner.results import (
    Failure,
    Finding,
    ModelIdentity,
    ModelRecord,
    Run,
    ScanResult,
    Verdict,
)
from scanner.sandbox import worker
from scanner.sandbox.endpoint import Answer, Endpoint, Progress, Request
from scanner.settings import Device, Settings
from scanner.version import VERSION

PRELOAD = ("scanner.examine",)
PathLike = str | os.PathLike[str]
Clock = Callable[[], float]
"""Tells the time in seconds since 1970, as `time.time` does; tests bring their own."""


def scan(
    model: PathLike,
    references: Sequence[PathLike] = (),
    settings: Settings | None = None,
    *,
    baseline: Baseline | None = None,
    progress: Progress | None = None,
) -> ScanResult:
    """Measure one model and its clean references, and judge.

    Every file is opened in a child process. Problems with the suspect are listed in
    `ScanResult.failures`.

    Args:
        model: An ONNX file.
        references: Clean ONNX files that take the same input.
        settings: What to measure, on what and where.
        baseline: Clean models of the same recipe, measured before
            (`scanner.judging.population.read_baseline`).
        progress: Called as `progress(done, total)`.

    Raises:
        ScannerError: The request itself cannot be carried out, or a reference cannot be opened.
    """
    several("references", references)
    return next(scan_each([model], references, settings, baseline=baseline, progress=progress))


def several(name: str, paths: Sequence[PathLike]) -> None:
    """Refuse a single path where several are wanted: it would be read letter by letter.

    Raises:
        UsageError: It is one.
    """
    if isinstance(paths, str | os.PathLike):
        raise UsageError(
            f"{name} is the single path {os.fspath(paths)!r}",
            remedy="put it into a list",
        )


def scan_each(  # noqa: PLR0913 - what is measured, beside what, by which clock
    models: Sequence[PathLike],
    references: Sequence[PathLike] = (),
    settings: Settings | None = None,
    *,
    baseline: Baseline | None = None,
    progress: Progress | None = None,
    clock: Clock = time.time,
) -> Iterator[ScanResult]:
    """Yield the result for each model.

    The references are measured once; each suspect gets a child of its own. The `clock` says when a
    model's scan began.

    Raises:
        ScannerError: As for `scan`.
    """
    records: tuple[ModelRecord, ...] = ()
    for model in models:
        job = Job(
            model=_source(model),
            references=tuple(map(_source, references)),
            records=records,
            population=baseline.records if baseline else (),
            source=f"baseline {baseline.name!r}" if baseline else "",
            settings=settings or Settings(),
        )
        start, run = time.monotonic(), run_now(job.settings, clock)
        try:
            examination = _examine(job, progress)
        except WorkerError as error:
            yield dataclasses.replace(_unanswered(job, records, error), run=run)
            continue
        records = examination.references
        result = _judged(examination, job.settings, time.monotonic() - start)
        yield dataclasses.replace(result, run=run)


def measure(
    model: PathLike, settings: Settings | None = None, *, progress: Progress | None = None
) -> ModelRecord:
    """Measure one model by itself, in a child process: slow, and independent of other models.

    Problems with the model are listed in `ModelRecord.failures`.

    Args:
        model: An ONNX file.
        settings: What to measure, on what and where.
        progress: Called as `progress(done, total)`.

    Raises:
        ScannerError: The request itself cannot be carried out.
    """
    source, chosen = _source(model), settings or Settings()
    task = Task(model=source, settings=chosen)
    try:
        return _ask(protocol.MEASURE, task, _allowance(chosen, (source,)), progress)
    except WorkerError as error:
        return _unmeasured(source, error)


class Judge:
    """Clean models that judge measured ones, in one child process for all of them.

    Args:
        references: Records of clean models that take the same input.
        settings: Those that the records were measured with; the level `alpha` may be another.
        baseline: Clean models of the same recipe, measured before.
        clock: Tells when a result was made.
    """

    def __init__(
        self,
        references: Sequence[ModelRecord] = (),
        settings: Settings | None = None,
        *,
        baseline: Baseline | None = None,
        clock: Clock = time.time,
    ) -> None:
        self._settings = settings or Settings()
        self._references = tuple(references)
        self._baseline = baseline
        self._clock = clock
        self._child: worker.Worker | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._child is not None:
            self._child.kill()

    def judge(self, records: Sequence[ModelRecord]) -> list[ScanResult]:
        """Return a result for each record; nothing is measured.

        Raises:
            ScannerError: The records cannot be compared at all.
        """
        trial = Trial(
            records=tuple(records),
            references=self._references,
            population=self._baseline.records if self._baseline else (),
            source=f"baseline {self._baseline.name!r}" if self._baseline else "",
            settings=self._settings,
        )
        self._child = self._child or worker.take(PRELOAD)
        try:
            examinations = self._child.ask(protocol.COMPARE, trial, _allowance(self._settings, ()))
        except WorkerError:
            self._child.kill()
            self._child = None
            if len(records) > 1:  # one of them is to blame
                return [result for record in records for result in self.judge([record])]
            raise
        return list(map(self._result, examinations))

    def _result(self, examination: Examination) -> ScanResult:
        runtime = examination.suspect.runtime
        judged = _judged(
            dataclasses.replace(examination, references=self._references),
            self._settings,
            runtime.seconds if runtime else 0.0,
        )
        return dataclasses.replace(judged, run=run_now(self._settings, self._clock))


def judge(
    records: Sequence[ModelRecord],
    references: Sequence[ModelRecord] = (),
    settings: Settings | None = None,
    *,
    baseline: Baseline | None = None,
) -> list[ScanResult]:
    """Judge measured models by clean ones: quick, and as often as wanted at other levels.

    Args:
        records: What `measure` returned for the suspects.
        references: What it returned for clean models that take the same input.
        settings: Those that the records were measured with; the level `alpha` may be another.
        baseline: Clean models of the same recipe, measured before.

    Raises:
        ScannerError: The records cannot be compared.
    """
    with Judge(references, settings, baseline=baseline) as clean:
        return clean.judge(records)


def run_now(settings: Settings, clock: Clock) -> Run:
    """Return what a result says of the run that makes it."""
    # Not by `datetime`, which a scan needs for nothing else.
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(clock()))
    return Run(time=now, alpha=settings.alpha, version=VERSION)


def calibrate(
    models: Sequence[PathLike],
    settings: Settings | None = None,
    *,
    name: str,
    provenance: str,
    progress: Progress | None = None,
) -> Baseline:
    """Measure a population of clean models once.

    Args:
        models: Clean ONNX files of one recipe.
        settings: Those of later scans; a scan with other settings cannot use the baseline.
        name: Name of the recipe.
        provenance: Where the models come from and how they were made.
        progress: Called for each model as `progress(done, total)`.

    Raises:
        ScannerError: A model cannot be measured, or is of another architecture than the first.
    """
    chosen = dataclasses.replace(settings or Settings(), shipped_baselines=False)
    records: list[ModelRecord] = []
    for index, model in enumerate(models):
        job = Job(
            model=_source(model),
            references=(),
            records=(),
            population=(),
            source="",
            settings=chosen,
        )
        record = _examine(job, None).suspect
        for failure in record.failures:
            raise ScannerError.from_dict(dict(failure.error))
        if records and record.model.architecture != records[0].model.architecture:
            raise BaselineError(
                f"{record.model.path!r} has another architecture than {records[0].model.path!r}",
                remedy="make one baseline for each architecture",
            )
        records.append(population.without_pictures(record))
        if progress:
            progress(index + 1, len(models))
    return Baseline(name=name, provenance=provenance, records=tuple(records))


def check(model: PathLike, settings: Settings | None = None) -> Check:
    """Say whether a model can be scanned, and which detectors would be skipped; nothing is run.

    Raises:
        ScannerError: The model cannot be opened.
    """
    source, chosen = _source(model), settings or Settings()
    task = Task(model=source, settings=chosen)
    return _ask(protocol.CHECK, task, _allowance(chosen, (source,)))


def layers(model: PathLike) -> LayerList:
    """List the activations of a model, any of which a scan can measure instead of the first.

    Raises:
        ScannerError: The model cannot be opened.
    """
    source = _source(model)
    return _ask(protocol.LAYERS, source, _allowance(Settings(), (source,)))


def rules() -> tuple[DetectorDescription, ...]:
    """Describe the detectors, in the order of the report.

    Raises:
        ScannerError: A library that a scan needs cannot be loaded.
    """
    return _ask(protocol.RULES, None, _allowance(Settings(), ()))


def diagnose() -> Diagnosis:
    """Report what this installation can do and what is wrong with it.

    Raises:
        ScannerError: A library that a scan needs cannot be loaded.
    """
    return _ask(protocol.DIAGNOSE, None, _allowance(Settings(), ()))


def _examine(job: Job, progress: Progress | None) -> Examination:
    allowance = _allowance(job.settings, (job.model, *job.references))
    return _ask(protocol.EXAMINE, job, allowance, progress)


def _ask(
    endpoint: Endpoint[Request, Answer],
    request: Request,
    allowance: Allowance,
    progress: Progress | None = None,
) -> Answer:
    """Have a new child, or the one started early, carry out one request."""
    with worker.take(PRELOAD) as child:
        return child.ask(endpoint, request, allowance, progress)


def _allowance(settings: Settings, sources: Sequence[Source]) -> Allowance:
    """Let the child read what the user named: of a model its whole folder, for external data."""
    named = (settings.images_file, settings.images_folder)
    return Allowance(
        seconds=settings.deadline(len(sources)),
        limits=settings.limits,
        threads=settings.threads,
        cuda=settings.device is not Device.CPU,
        readable=(*(str(Path(source.path).parent) for source in sources), *filter(None, named)),
    )


def _source(path: PathLike) -> Source:
    # Not resolved: a link stays a link, and the child is told where the user pointed.
    return Source(name=os.fspath(path), path=str(Path.cwd() / path))


def _judged(examination: Examination, settings: Settings, seconds: float) -> ScanResult:
    suspect, alpha = examination.suspect, settings.alpha
    findings = tuple(_findings(examination, alpha))
    failures = (
        *suspect.failures,
        *(f for r in examination.references for f in _reference_failures(r)),
    )
    rank = ranks.together(examination.comparisons, examination.populations)
    judgement = verdict.combine(
        findings,
        rank,
        suspect.skips,
        failed=bool(failures),
        alpha=alpha,
        doubts=examination.doubts,
    )
    reason = judgement.reason
    unanalysed = tuple(unanalysable.findings(suspect.failures))
    if unanalysed and judgement.verdict is Verdict.INCONCLUSIVE:
        reason = unanalysed[0].reason
    return ScanResult(
        model=suspect.model,
        references=tuple(r.model for r in examination.references),
        score=judgement.score,
        size=None if rank is None else rank.place.size,
        findings=(*findings, *unanalysed),
        skips=suspect.skips,
        failures=failures,
        runtime=suspect.runtime and dataclasses.replace(suspect.runtime, seconds=seconds),
        verdict=judgement.verdict,
        reason=reason,
        target_class=judgement.target_class,
        calibration=_rests_on(examination),
        index=ranks.index(examination.comparisons),
        warnings=examination.warnings,
        advice=tuple(
            verdict.advice(judgement.verdict, findings, examination.populations, settings)
        ),
    )


def _rests_on(examination: Examination) -> str | None:
    """Say which clean models judged, and why these."""
    found = next((p for p in examination.populations if p.values), None)
    if found is None:
        return None
    fits = (
        ""
        if found.source == population.REFERENCES
        else ": the same input, classes and weight shapes"
    )
    return f"{len(found.values)} clean models ({found.source}{fits})"


def _findings(examination: Examination, alpha: float) -> Iterator[Finding]:
    for rule in examination.rules:
        measurement = examination.suspect.measurement(rule.id)
        comparison = next((c for c in examination.comparisons if c.rule == rule.id), None)
        if measurement is not None and comparison is not None:
            clean = next((p for p in examination.populations if p.rule == rule.id), None)
            yield verdict.judge(rule, measurement, comparison, clean, alpha)


def _reference_failures(record: ModelRecord) -> Iterator[Failure]:
    for failure in record.failures:
        problem = f"the reference {record.model.path!r}: {failure.error['problem']}"
        yield Failure(rule=failure.rule, error={**failure.error, "problem": problem})


def _unmeasured(source: Source, error: WorkerError) -> ModelRecord:
    return ModelRecord(
        model=ModelIdentity(
            path=source.name, sha256=None, producer="", opset=None, inputs=(), outputs=()
        ),
        measurements=(),
        skips=(),
        failures=(Failure(rule="model", error=error.to_dict()),),
        runtime=None,
    )


def _unanswered(job: Job, records: Sequence[ModelRecord], error: WorkerError) -> ScanResult:
    suspect = _unmeasured(job.model, error)
    findings = tuple(unanalysable.findings(suspect.failures))
    return ScanResult(
        model=suspect.model,
        references=tuple(r.model for r in records),
        score=None,
        findings=findings,
        skips=(),
        failures=suspect.failures,
        runtime=None,
        verdict=Verdict.INCONCLUSIVE,
        reason=findings[0].reason,
    )
