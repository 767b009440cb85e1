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
from scanner.errors import (
    ScannerError,
    UsageError,
    WorkerCrashedError,
    WorkerError,
)
from scanner.judging import population, ranks, recipes, unanalysable, verdict
from scanner.judging.differences import differences
from scanner.judging.population import Baseline
from scanner.judging.references import refuse_repeats
from scanner.limits import Allowance, Confinement
from scanner.modelfile import blob_cache
from scanner.protocol import (
    Check,
    DetectorDescription,
    Diagnosis,
    Examination,
    Job,
    LayerList,
    Opening,
    Preparation,
    SecondOpinion,
    Source,
    Task,
    Trial,
)
from scanner.results import (
    Diff,
    Failure,
    Finding,
    ModelIdentity,
    ModelRecord,
    Part,
    Run,
    ScanResult,
    Verdict,
)
from scanner.sandbox import worker
from scanner.sandbox.endpoint import Answer, Endpoint, Progress, Request
from scanner.sandbox.worker import Worker
from scanner.settings import Device, Settings
from scanner.values import frozen, to_json
from scanner.version import VERSION

PRELOAD = ("scanner.examine",)
_LEAST_SECONDS = 1.0  # for a comparison after a suspect that took all the time there was
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

    The references are measured once, in a child that opens nothing else; each suspect gets a child
    of its own. The `clock` says when a model's scan began.

    Raises:
        ScannerError: As for `scan`.
    """
    chosen, sources = settings or Settings(), tuple(map(_source, references))
    with _CleanSide(sources, chosen, len(models)) as clean:
        for model in models:
            job = Job(
                model=_source(model),
                references=sources,
                population=baseline.records if baseline else (),
                source=_named_baseline(baseline),
                graphs=baseline.graphs if baseline else (),
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
        progress: Called as `progress(done, total)`.

    Raises:
        ScannerError: The request itself cannot be carried out.
    """
    # Clean models come in later, when the record is judged.
    chosen = dataclasses.replace(settings or Settings(), shipped_baselines=False)
    job = Job(model=_source(model), compared=True, settings=chosen)
    with worker.take(PRELOAD) as child:
        try:
            preparation = child.ask(protocol.PREPARE, chosen, _for_suspect(job, 1))
        except WorkerError as error:
            return _unmeasured(job.model, error)
        try:
            record = _measured(child, job, preparation, progress).suspect
        except ScannerError as error:
            # After the first byte of the model this may be the model's own words.
            return _unmeasured(job.model, error)
    return _with_isolation(record, preparation.isolation)


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
            population=self._baseline.records if self._baseline else (),
            source=_named_baseline(self._baseline),
            graphs=self._baseline.graphs if self._baseline else (),
            settings=self._settings,
        )
        self._child = self._child or worker.take(PRELOAD)
        try:
            examinations = self._child.ask(protocol.COMPARE, trial, _allowance(self._settings, ()))
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

    def _result(self, examination: Examination) -> ScanResult:
        runtime = examination.suspect.runtime
        judged = _judged(examination, self._settings, runtime.seconds if runtime else 0.0)
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


def check(model: PathLike, settings: Settings | None = None) -> Check:
    """Say whether a model can be scanned, and which detectors would be skipped; nothing is run.

    Raises:
        ScannerError: The model cannot be opened.
    """
    source, chosen = _source(model), settings or Settings()
    task = Task(model=source, settings=chosen)
    found = _ask(protocol.CHECK, task, _allowance(chosen, (source,)))
    return dataclasses.replace(found, model=_renamed(found.model, source))


def diff(suspect: PathLike, reference: PathLike, settings: Settings | None = None) -> Diff:
    """Say what a model has that another of the same network has not; neither is run.

    Each is read by a child that opens nothing else; what they answer is compared here.

    Args:
        suspect: An ONNX file.
        reference: Another, known to be clean.
        settings: Their `seed` and `limits`. A seed that whoever made the files could not know keeps
            them from hiding how far weights were moved (not that they were).

    Raises:
        ScannerError: A model cannot be opened, or has too many nodes.
    """
    chosen = settings or Settings()
    sources = (_source(suspect), _source(reference))
    with worker.take(PRELOAD) as one, worker.take(PRELOAD) as other:
        drawings = [
            child.ask(
                protocol.DRAW,
                Task(model=source, settings=chosen),
                _allowance(chosen, (source,)),
            )
            for child, source in zip((one, other), sources, strict=True)
        ]
    own, their = drawings
    return Diff(
        suspect=_renamed(own.model, sources[0]),
        reference=_renamed(their.model, sources[1]),
        differences=differences(own.graph, their.graph),
    )


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


class _CleanSide:
    """The child that measures the references, for all suspects of a call.

    It never opens a suspect, so what takes over a suspect's child cannot change what clean models
    are said to show, for that suspect or for the next. Of a suspect it gets the record, which was
    checked.

    Args:
        sources: The references.
        settings: How to measure.
        suspects: How many models will be compared with them.
    """

    def __init__(self, sources: tuple[Source, ...], settings: Settings, suspects: int) -> None:
        self._sources, self._settings, self._suspects = sources, settings, suspects
        self._child: Worker | None = None
        self._preparation: Preparation | None = None
        self._failed: WorkerError | None = None
        self._identities: tuple[ModelIdentity, ...] = ()
        self._records: tuple[ModelRecord, ...] = ()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    def start(self) -> None:
        """Start the child, where there are references and it is not there yet."""
        if self._sources and self._child is None:
            self._child, self._preparation = worker.take(PRELOAD), None

    def identify(self) -> tuple[ModelIdentity, ...]:
        """Open the references; return none where that ends the child, which `compare` then says.

        Raises:
            ScannerError: One cannot be opened.
        """
        if self._sources and not self._identities:
            allowance = _allowance(self._settings, self._sources)
            opening = Opening(sources=self._sources, limits=self._settings.limits)
            self._failed = None
            try:
                found = self._ready().ask(protocol.IDENTIFY, opening, allowance)
                if len(found) != len(self._sources):
                    raise WorkerCrashedError.no_answer("references")
                self._identities = tuple(map(_renamed, found, self._sources))
                refuse_repeats("reference", self._identities)
            except WorkerError as error:
                self._end()
                self._failed = error
        return self._identities

    def compare(
        self, job: Job, suspect: ModelRecord, seconds: float, progress: Progress | None
    ) -> Examination:
        """Compare a suspect's record with the references, which are measured where they must be.

        Raises:
            ScannerError: That is impossible.
        """
        if self._failed is not None:
            raise self._failed
        allowance = dataclasses.replace(
            _allowance(self._settings, self._sources), seconds=max(seconds, _LEAST_SECONDS)
        )
        request = dataclasses.replace(job, measured=suspect, records=self._records)
        try:
            child = self._ready()
            examination = child.ask(protocol.EXAMINE, request, allowance, progress)
            examination = _vouched(examination, job, self._preparation)
        except WorkerError:
            self._end()
            raise
        self._records = examination.references
        return examination

    def _ready(self) -> Worker:
        """Return the child, prepared: it has as much processor time as all suspects may take."""
        self.start()
        assert self._child is not None  # noqa: S101 - for the type checker
        if self._preparation is None:
            one = _allowance(self._settings, self._sources)
            whole = dataclasses.replace(one, seconds=one.seconds * (1 + self._suspects))
            self._preparation = self._child.ask(protocol.PREPARE, self._settings, whole)
        return self._child

    def _end(self) -> None:
        """Give up a child that is no longer there, or no longer to be believed."""
        if self._child is not None:
            self._child.kill()
        self._child = None


def _scanned(job: Job, clean: _CleanSide, progress: Progress | None) -> ScanResult:
    """Measure a suspect in a child of its own, have it compared, and judge.

    Raises:
        ScannerError: The request itself cannot be carried out, or a reference cannot be opened.
    """
    start, parts = time.monotonic(), 1 + len(job.references)
    with worker.take(PRELOAD) as child:
        clean.start()  # while this process has one thread, and beside the other's imports
        try:
            allowance = _for_suspect(job, parts)
            preparation = child.ask(protocol.PREPARE, job.settings, allowance)
            alone = dataclasses.replace(job, references=(), beside=clean.identify())
        except WorkerError as error:
            return _unanswered(job, error)
        try:
            examination = _measured(child, alone, preparation, _part(progress, 0, 1, parts))
        except ScannerError as error:
            # After the first byte of the model this may be the model's own words, and must not
            # stop the scans of others.
            return _unanswered(job, error)
    if job.references and examination.suspect.measurements:
        left = job.settings.deadline(parts) - (time.monotonic() - start)
        rest = _part(progress, 1, len(job.references), parts)
        try:
            examination = clean.compare(job, examination.suspect, left, rest)
        except ScannerError as error:
            examination = _without_references(examination, error)
    suspect = _with_isolation(examination.suspect, preparation.isolation)
    examination = dataclasses.replace(examination, suspect=suspect)
    return _judged(examination, job.settings, time.monotonic() - start)


def _measured(
    child: Worker, job: Job, preparation: Preparation, progress: Progress | None
) -> Examination:
    """Have a child that was prepared measure the suspect of a job.

    Raises:
        ScannerError: It cannot, or its answer is not one.
    """
    allowance = _for_suspect(job, 1 + len(job.beside))
    return _vouched(child.ask(protocol.EXAMINE, job, allowance, progress), job, preparation)


def _for_suspect(job: Job, models: int) -> Allowance:
    """Let the suspect's child read no other model, in the time that there is for all of them."""
    return dataclasses.replace(
        _allowance(job.settings, (job.model,)), seconds=job.settings.deadline(models)
    )


def _vouched(examination: Examination, job: Job, preparation: Preparation | None) -> Examination:
    """Return an answer that speaks of what was asked for, in words that were agreed on before.

    Types and ranges were checked when it was read.

    Raises:
        WorkerCrashedError: It names a rule that does not run, or other models.
    """
    rules = preparation.rules if preparation else ()
    extra = examination.rules[len(rules) :]
    if examination.rules[: len(rules)] != rules or any(
        rule.id != protocol.NOT_THE_FILE for rule in extra
    ):
        raise WorkerCrashedError.no_answer("rules")
    known = {rule.id for rule in examination.rules} | {protocol.NOT_THE_FILE, protocol.MODEL_RULE}
    records = (examination.suspect, *examination.references)
    opinions: list[Examination | SecondOpinion] = [examination]
    opinions += [examination.second] if examination.second else []
    said = {
        *(m.rule for r in records for m in r.measurements),
        *(s.rule for r in records for s in r.skips),
        *(f.rule for r in records for f in r.failures),
        *(c.rule for opinion in opinions for c in opinion.comparisons),
        *(p.rule for opinion in opinions for p in opinion.populations),
    }
    if not said <= known:
        raise WorkerCrashedError.no_answer("rule")
    if len(examination.references) not in {0, len(job.references)}:
        raise WorkerCrashedError.no_answer("references")
    return dataclasses.replace(
        examination,
        suspect=_named(examination.suspect, job.model),
        references=tuple(map(_named, examination.references, job.references)),
    )


def _named(record: ModelRecord, source: Source) -> ModelRecord:
    """Return a record under the name that the user gave the model."""
    return dataclasses.replace(record, model=_renamed(record.model, source))


def _renamed(model: ModelIdentity, source: Source) -> ModelIdentity:
    return dataclasses.replace(model, path=source.name)


def _with_isolation(record: ModelRecord, isolation: Confinement) -> ModelRecord:
    """Return a record with the isolation that its child told of before it opened the model."""
    if record.runtime is None:
        return record
    runtime = dataclasses.replace(record.runtime, isolation=to_json(isolation))
    return dataclasses.replace(record, runtime=runtime)


def _without_references(examination: Examination, error: ScannerError) -> Examination:
    """Return what was found of the suspect alone, and why there is no more."""
    data = error.to_dict()
    data["problem"] = f"the references could not be measured: {data['problem']}"
    failure = Failure(rule=protocol.MODEL_RULE, error=data)
    suspect = examination.suspect
    return dataclasses.replace(
        examination,
        suspect=dataclasses.replace(suspect, failures=(*suspect.failures, failure)),
    )


def _named_baseline(baseline: Baseline | None) -> str:
    return f"baseline {baseline.name!r}" if baseline else ""


def _part(progress: Progress | None, start: int, count: int, parts: int) -> Progress | None:
    """Return a callback for some parts of a whole of equal parts."""
    if progress is None:
        return None
    return lambda done, total: progress(start * total + count * done, parts * total)


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
        readable=(*(str(p) for s in sources for p in _folders(Path(s.path))), *filter(None, named)),
    )


def _folders(path: Path) -> Iterator[Path]:
    """Yield the folder of a model and, where that is a link of a download cache, the one behind."""
    yield path.parent
    blob = blob_cache.blob(path)
    if blob is not None:
        yield blob.parent


def _source(path: PathLike) -> Source:
    # Not resolved: a link stays a link, and the child is told where the user pointed.
    return Source(name=os.fspath(path), path=str(Path.cwd() / path))


@frozen
class _Conclusion:
    """What one set of clean models makes of an examination."""

    findings: tuple[Finding, ...]
    rank: ranks.Rank | None
    stranger: recipes.Stranger | None
    driver: ranks.Driver | None
    judgement: verdict.Judgement


def _concluded(examination: Examination, failed: bool, settings: Settings) -> _Conclusion:
    findings = tuple(_findings(examination, settings.alpha))
    rank = ranks.together(examination.comparisons, examination.populations)
    judged = rank is not None and ranks.enough(rank.models, settings.alpha)
    stranger = None if judged else _stranger(examination, settings)
    driver = ranks.driver(examination.comparisons) if _whole(examination, findings) else None
    judgement = verdict.combine(
        findings,
        rank,
        examination.suspect.skips,
        failed=failed,
        settings=settings,
        stranger=stranger,
        doubts=examination.doubts,
        driver=driver,
    )
    return _Conclusion(
        findings=findings, rank=rank, stranger=stranger, driver=driver, judgement=judgement
    )


def _judged(examination: Examination, settings: Settings, seconds: float) -> ScanResult:
    suspect = examination.suspect
    failures = (
        *suspect.failures,
        *(f for r in examination.references for f in _reference_failures(r)),
    )
    concluded = _concluded(examination, bool(failures), settings)
    findings, judgement = concluded.findings, concluded.judgement
    rank, stranger, driver = concluded.rank, concluded.stranger, concluded.driver
    reason = judgement.reason
    unanalysed = tuple(unanalysable.findings(suspect.failures))
    if unanalysed and judgement.verdict is Verdict.INCONCLUSIVE:
        reason = unanalysed[0].reason
    return ScanResult(
        model=suspect.model,
        references=tuple(r.model for r in examination.references),
        score=judgement.score,
        size=by.place.size if (by := stranger or rank) else None,
        findings=(*findings, *unanalysed),
        skips=suspect.skips,
        failures=failures,
        runtime=suspect.runtime and dataclasses.replace(suspect.runtime, seconds=seconds),
        verdict=judgement.verdict,
        reason=reason,
        target_class=judgement.target_class,
        calibration=_among_others(stranger) if stranger else _rests_on(examination),
        missed=stranger.missed if stranger else {},
        index=None if driver is None else driver.index,
        warnings=(
            *_disagreement(examination, concluded, bool(failures), settings),
            *examination.warnings,
        ),
        advice=tuple(
            verdict.advice(judgement.verdict, findings, examination.populations, settings)
        ),
        input_range=suspect.input_range,
    )


def _stranger(examination: Examination, settings: Settings) -> recipes.Stranger | None:
    """Return the suspect's place among networks of other recipes than its own."""
    suspect, references = examination.suspect, len(examination.references)
    if not examination.comparisons:
        return None
    return recipes.stranger(
        examination.comparisons, suspect.skips, references, settings, recipes.shipped()
    )


def _among_others(stranger: recipes.Stranger) -> str:
    """Say which networks judged a model of a recipe that is not among them."""
    beside = {0: "no reference", 1: "one reference"}.get(stranger.references, "two references")
    shown = "clean images" if stranger.images else "noise"
    return (
        f"clean and backdoored networks of {stranger.recipes} recipes, none of them known to be "
        f"the model's, each beside {beside}, on {shown}"
    )


def _disagreement(
    examination: Examination, own: _Conclusion, failed: bool, settings: Settings
) -> Iterator[str]:
    """Say where a shipped baseline that fits gives another verdict than the user's own."""
    second = examination.second
    if second is None or own.rank is None:
        return
    beside = dataclasses.replace(
        examination, comparisons=second.comparisons, populations=second.populations
    )
    other = _concluded(beside, failed, settings)
    verdicts = {own.judgement.verdict, other.judgement.verdict}
    if other.rank is not None and len(verdicts) > 1 and Verdict.SUSPICIOUS in verdicts:
        yield (
            f"the {own.rank.source} and the {second.source} both fit and disagree: by the first "
            f"the model is {own.judgement.verdict.value}, by the second "
            f"{other.judgement.verdict.value}; find out where the first comes from"
        )


def _whole(examination: Examination, findings: Sequence[Finding]) -> bool:
    """Whether an index may be made: not of half a search, nor of what is no trained classifier.

    What is left of a scan whose decisive detector failed ranks models by the least that is known.
    """
    combined = [f for f in findings if f.contribution.combined]
    unmet = any(f.observations for f in findings if f.contribution.part is Part.PREMISE)
    failed = {failure.rule for failure in examination.suspect.failures}
    searched = any(f.contribution.decisive for f in combined) or not failed
    return searched and not unmet and not any(f.left_out for f in combined)


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


def _unmeasured(source: Source, error: ScannerError) -> ModelRecord:
    return ModelRecord(
        model=ModelIdentity(
            path=source.name, sha256=None, producer="", opset=None, inputs=(), outputs=()
        ),
        measurements=(),
        skips=(),
        failures=(Failure(rule=protocol.MODEL_RULE, error=error.to_dict()),),
        runtime=None,
    )


def _unanswered(job: Job, error: ScannerError) -> ScanResult:
    suspect = _unmeasured(job.model, error)
    findings = tuple(unanalysable.findings(suspect.failures))
    (failure,) = suspect.failures
    return ScanResult(
        model=suspect.model,
        references=(),
        score=None,
        findings=findings,
        skips=(),
        failures=(failure,),
        runtime=None,
        verdict=Verdict.INCONCLUSIVE,
        reason=findings[0].reason if findings else failure.sentence.removesuffix("."),
    )
