"""The user's side of a scan, and its two halves: measure a model, judge its record.

What a child is asked is in `scanner.questions`, what becomes of its answer in `scanner.conclusion`.
"""

import dataclasses
import os
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Self

from scanner import conclusion, protocol, questions
from scanner.clean_side import CleanSide
from scanner.errors import (
    ScannerError,
    UsageError,
    WorkerCrashedError,
    WorkerError,
)
from scanner.judging.population import Baseline
from scanner.limits import Allowance, Confinement
from scanner.protocol import (
    Examination,
    Job,
    Preparation,
    Source,
    Trial,
)
from scanner.questions import PRELOAD, PathLike, check, diagnose, diff, layers, plan, rules
from scanner.results import (
    Failure,
    ModelRecord,
    Run,
    ScanResult,
)
from scanner.sandbox import worker
from scanner.sandbox.endpoint import Progress, Step
from scanner.sandbox.worker import Worker
from scanner.settings import Settings
from scanner.values import UnfitError, checked, to_json
from scanner.version import VERSION

__all__ = [
    "Clock", "Judge", "PathLike", "check", "diagnose", "diff", "judge", "layers", "measure",
    "plan", "rules", "run_now", "scan", "scan_each", "several",
]  # fmt: skip

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
        progress: Called as `progress(step)`: which model and detector is at work, on which class,
            and how much of the whole is done.

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

    The references are measured once, in a child that opens nothing else; each suspect gets a child
    of its own. The `clock` says when a model's scan began.

    Raises:
        ScannerError: As for `scan`.
    """
    chosen, sources = settings or Settings(), tuple(map(questions.source_of, references))
    with CleanSide(sources, chosen, len(models)) as clean:
        for model in models:
            job = Job(
                model=questions.source_of(model),
                references=sources,
                baseline=baseline,
                alone=not sources and baseline is None,
                settings=chosen,
            )
            run = run_now(chosen, clock)
            yield dataclasses.replace(_scanned(job, clean, progress), run=run)


def measure(
    model: PathLike, settings: Settings | None = None, *, progress: Progress | None = None
) -> ModelRecord:
    """Measure one model by itself, in a child process: slow, and independent of other models.

    Problems with the model are listed in `ModelRecord.failures`.

    Args:
        model: An ONNX file.
        settings: What to measure, on what and where.
        progress: Called as `progress(step)`, as by `scan`.

    Raises:
        ScannerError: The request itself cannot be carried out.
    """
    return measure_source(questions.source_of(model), settings or Settings(), False, progress)


def measure_source(
    source: Source,
    settings: Settings,
    alone: bool,
    progress: Progress | None = None,
) -> ModelRecord:
    """Do as `measure`, on any machine that finds the model under the same path.

    Args:
        source: The model.
        settings: What to measure, on what and where.
        alone: Whether its record is judged with no clean model that the user names.
        progress: Called as `progress(step)`, as by `scan`.

    Raises:
        ScannerError: As for `measure`.
    """
    # Clean models come in later, when the record is judged; what is alone is told whether any fits.
    chosen = dataclasses.replace(settings, shipped_baselines=alone and settings.shipped_baselines)
    job = Job(model=source, compared=True, alone=alone, settings=chosen)
    with worker.take(PRELOAD) as child:
        try:
            preparation = child.ask(protocol.PREPARE, chosen, _for_suspect(job, 1))
        except WorkerError as error:
            return conclusion.unmeasured(job.model, error)
        try:
            told = _part(progress, (source,), 0, 1, preparation)
            record = _measured(child, job, preparation, told).suspect
        except ScannerError as error:
            # After the first byte of the model this may be the model's own words.
            record = _finished(child, job, preparation, error)
    return _with_isolation(record, preparation.isolation)


def measure_beside(  # noqa: PLR0913, PLR0917 - which model, how, beside what
    reference: Source,
    settings: Settings,
    own: ModelRecord,
    suspect: ModelRecord,
    among: int,
    progress: Progress | None = None,
) -> ModelRecord:
    """Measure a reference again as a suspect's measurement asks for (`scanner.judging.courses`).

    Problems with the reference are listed in `ModelRecord.failures`.

    Args:
        reference: A clean model.
        settings: How both were measured.
        own: The reference's record; what would come out the same is kept.
        suspect: The suspect's record.
        among: How many references there are.
        progress: Called as `progress(step)`, as by `scan`.

    Raises:
        ScannerError: The request itself cannot be carried out.
    """
    chosen = dataclasses.replace(settings, shipped_baselines=False)
    job = Job(
        model=Source(name=suspect.model.path, path=""),
        measured=suspect,
        references=(reference,),
        records=(own,),
        among=among,
        settings=chosen,
    )
    allowance = questions.allowance_for(chosen, job.references)
    with worker.take(PRELOAD) as child:
        preparation = child.ask(protocol.PREPARE, chosen, allowance)
        told = _part(progress, (reference,), 0, 1, preparation)
        try:
            answer = child.ask(protocol.EXAMINE, job, allowance, told)
            (found,) = questions.vouched(answer, job, preparation).references
        except ScannerError as error:
            return conclusion.unmeasured(reference, error)
    return _with_isolation(found, preparation.isolation)


class Judge:
    """Judges measured models by clean ones, in one child process for all of them.

    Args:
        settings: Those that the records were measured with; the level `alpha` may be another.
        baseline: Clean models of the same recipe, measured before.
        clock: Tells when a result was made.
    """

    def __init__(
        self,
        settings: Settings | None = None,
        *,
        baseline: Baseline | None = None,
        clock: Clock = time.time,
    ) -> None:
        self._settings = settings or Settings()
        self._baseline = baseline
        self._clock = clock
        self._child: worker.Worker | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._child is not None:
            self._child.kill()

    def judge(
        self, records: Sequence[ModelRecord], references: Sequence[ModelRecord] = ()
    ) -> list[ScanResult]:
        """Return a result for each record; nothing is measured.

        Args:
            records: What was measured on the suspects.
            references: The same of clean models that take the same input, on the same values.

        Raises:
            ScannerError: The records cannot be compared at all.
        """
        trial = Trial(
            records=tuple(records),
            references=tuple(references),
            baseline=self._baseline,
            settings=self._settings,
        )
        self._child = self._child or worker.take(PRELOAD)
        try:
            examinations = self._child.ask(
                protocol.COMPARE, trial, questions.allowance_to_read(self._settings, ())
            )
        except WorkerError:
            self._child.kill()
            self._child = None
            if len(records) > 1:  # one of them is to blame
                return [result for one in records for result in self.judge([one], references)]
            raise
        return [
            self._result(dataclasses.replace(examination, references=trial.references))
            for examination in examinations
        ]

    def judge_one(self, record: ModelRecord, references: Sequence[ModelRecord] = ()) -> ScanResult:
        """Return the result for one record; that it cannot be compared is a failure of its model.

        It is then judged without the references, beside which it may be more than a process takes.

        Args:
            record: What was measured on the suspect.
            references: As for `judge`.

        Raises:
            ScannerError: No record can be compared.
        """
        try:
            (result,) = self.judge([record], references)
        except WorkerError as error:
            if references:
                return self.judge_one(without_references(record, error))
            unanswered = conclusion.unanswered(Source(name=record.model.path, path=""), error)
            run = run_now(self._settings, self._clock)
            return dataclasses.replace(unanswered, model=record.model, run=run)
        return result

    def _result(self, examination: Examination) -> ScanResult:
        runtime = examination.suspect.runtime
        judged = conclusion.judged(examination, self._settings, runtime.seconds if runtime else 0.0)
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
    with Judge(settings, baseline=baseline) as clean:
        return clean.judge(records, references)


def run_now(settings: Settings, clock: Clock) -> Run:
    """Return what a result says of the run that makes it."""
    # Not by `datetime`, which a scan needs for nothing else.
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(clock()))
    return Run(time=now, alpha=settings.alpha, version=VERSION)


def _scanned(job: Job, clean: CleanSide, progress: Progress | None) -> ScanResult:
    """Measure a suspect in a child of its own, have it compared, and judge.

    Raises:
        ScannerError: The request itself cannot be carried out, or a reference cannot be opened.
    """
    start, parts = time.monotonic(), 1 + len(job.references)
    worker.prestart(PRELOAD, 1 + clean.lacks_child)
    with worker.take(PRELOAD) as child:
        clean.start()  # while this process has one thread
        try:
            allowance = _for_suspect(job, parts)
            preparation = child.ask(protocol.PREPARE, job.settings, allowance)
            alone = dataclasses.replace(job, references=(), beside=clean.identify())
        except WorkerError as error:
            return conclusion.unanswered(job.model, error)
        # What is measured ahead tells no progress: of two models, the suspect's stands for both.
        ahead = clean.measure_ahead(job.settings.deadline(parts))
        shown, later = (1, None) if ahead and len(job.references) == 1 else (parts, progress)
        try:
            told = _part(progress, (job.model,), 0, shown, preparation)
            examination = _measured(child, alone, preparation, told)
        except ScannerError as error:
            # After the first byte of the model this may be the model's own words, and must not
            # stop the scans of others.
            suspect = _finished(child, job, preparation, error)
            if not suspect.measurements:
                return conclusion.unanswered(job.model, error)
            try:
                examination = _among_others(job, suspect)
            except ScannerError as another:
                return conclusion.unanswered(job.model, another)
    if job.references and examination.suspect.measurements:
        left = job.settings.deadline(parts) - (time.monotonic() - start)
        rest = _part(later, job.references, 1, parts, preparation)
        try:
            examination = clean.compare(job, examination.suspect, left, rest)
        except ScannerError as error:
            try:
                examination = _without_references(job, examination.suspect, error)
            except ScannerError as again:
                return conclusion.unanswered(job.model, again)
    suspect = _with_isolation(examination.suspect, preparation.isolation)
    examination = dataclasses.replace(examination, suspect=suspect)
    return conclusion.judged(examination, job.settings, time.monotonic() - start)


def _measured(
    child: Worker, job: Job, preparation: Preparation, progress: Progress | None
) -> Examination:
    """Have a child that was prepared measure the suspect of a job.

    Raises:
        ScannerError: It cannot, or its answer is not one.
    """
    allowance = _for_suspect(job, 1 + len(job.beside))
    return questions.vouched(
        child.ask(protocol.EXAMINE, job, allowance, progress), job, preparation
    )


def _finished(
    child: Worker, job: Job, preparation: Preparation, error: ScannerError
) -> ModelRecord:
    """Return the record of a suspect whose child has given no answer, with all that it finished."""
    try:
        parts = child.parts(ModelRecord)
        record = checked(conclusion.interrupted(job.model, parts, error, job.settings))
        told = Examination(
            suspect=record,
            references=(),
            comparisons=(),
            populations=(),
            rules=preparation.rules,
            warnings=(),
        )
        return questions.vouched(told, job, preparation).suspect
    except UnfitError as unfit:  # each part is a record, and together they are none
        return conclusion.unmeasured(job.model, WorkerCrashedError.no_answer(unfit.field))
    except WorkerError as another:
        return conclusion.unmeasured(job.model, another)


def _for_suspect(job: Job, models: int) -> Allowance:
    """Let the suspect's child read no other model, in the time that there is for all of them."""
    return dataclasses.replace(
        questions.allowance_for(job.settings, (job.model,)), seconds=job.settings.deadline(models)
    )


def _with_isolation(record: ModelRecord, isolation: Confinement) -> ModelRecord:
    """Return a record with the isolation that its child told of before it opened the model."""
    if record.runtime is None:
        return record
    runtime = dataclasses.replace(record.runtime, isolation=to_json(isolation))
    return dataclasses.replace(record, runtime=runtime)


def _without_references(job: Job, suspect: ModelRecord, error: ScannerError) -> Examination:
    """Have the suspect compared with what clean models there are, and say why not with these.

    Raises:
        ScannerError: That is impossible.
    """
    examination = _among_others(job, suspect)
    return dataclasses.replace(examination, suspect=without_references(examination.suspect, error))


def _among_others(job: Job, suspect: ModelRecord) -> Examination:
    """Have the suspect compared with the clean models that need not be opened.

    Raises:
        ScannerError: That is impossible.
    """
    trial = Trial(
        records=(suspect,),
        references=(),
        baseline=job.baseline,
        settings=job.settings,
    )
    allowance = questions.allowance_to_read(job.settings, ())
    (examination,) = questions.ask(protocol.COMPARE, trial, allowance)
    return examination


def without_references(suspect: ModelRecord, error: ScannerError) -> ModelRecord:
    """Return a suspect's record, with the failure that there is nothing beside it."""
    data = error.to_dict()
    data["problem"] = f"the references could not be measured: {data['problem']}"
    failure = Failure(rule=protocol.MODEL_RULE, error=data)
    return dataclasses.replace(suspect, failures=(*suspect.failures, failure))


def _part(
    progress: Progress | None,
    models: Sequence[Source],
    start: int,
    parts: int,
    preparation: Preparation,
) -> Progress | None:
    """Return what passes on how far one child is with its models.

    Args:
        progress: Is told of the whole.
        models: Those that the child measures, one after the other.
        start: How many are measured before them.
        parts: How many there are in all.
        preparation: Names the rules of which a child may speak.
    """
    if progress is None:
        return None
    known, count = {rule.id for rule in preparation.rules}, len(models)

    def told(step: Step) -> None:
        done = count * min(step.done, step.total)
        at = min(done // step.total, count - 1)
        progress(
            Step(
                done=start * step.total + done,
                total=parts * step.total,
                rule=step.rule if step.rule in known else None,
                class_id=step.class_id,
                model=models[at].name,
            )
        )

    return told
