"""The child's side of a scan: open models, run the detectors, compare.

These are the functions behind the endpoints of `scanner.protocol`. The heavy imports are here, so
the user's side, `scanner.pipeline`, never imports this module; it asks `scanner.sandbox.worker`.
"""

import contextlib
import dataclasses
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy.typing as npt

from scanner.detectors import load
from scanner.errors import (
    DeviceError,
    GraphError,
    ModelError,
    NoGradientError,
    NoLayerError,
    NoLogitsError,
    UnsupportedModelError,
    UsageError,
    WorkerCrashedError,
    WorkerError,
    WorkerLimitError,
)
from scanner.instruments import runtime, suitability
from scanner.instruments.detector import Detector, Subject, described
from scanner.instruments.witness import Witness
from scanner.judging.population import CleanModels, shipped_baseline
from scanner.judging.ranks import enough
from scanner.limits import Limits
from scanner.modelfile.model import Model, open_model
from scanner.protocol import (
    Check,
    DetectorDescription,
    Diagnosis,
    Examination,
    Job,
    Layer,
    LayerList,
    Prospect,
    SharedPackage,
    Source,
    Task,
    Trial,
)
from scanner.results import (
    Comparison,
    Failure,
    Grant,
    Measurement,
    ModelIdentity,
    ModelRecord,
    Population,
    Runtime,
    Skip,
    ValueInfo,
)
from scanner.sandbox import confinement, deadline
from scanner.sandbox.endpoint import Progress
from scanner.settings import Settings
from scanner.values import to_json

# The detector that checks the others' graphs against the file. It does so even where it was not
# asked for, but is then reported only if it finds something.
CHECK = "not-the-file"
MODEL_RULE = "model"  # the rule id of a failure that concerns a whole file
# A worker's error is the deadline or a limit, reached inside one detector: what the others found is
# kept.
_MEASUREMENT_ERRORS = (ModelError, GraphError, UsageError, WorkerError)
_DISTRIBUTION = "overactivation"
_PACKAGES = ("overactivation", "scanner", "trainers")  # the import names that it owns


def examine(job: Job, progress: Progress) -> Examination:
    """Measure a suspect and its references, and compare them.

    Raises:
        ScannerError: A reference cannot be opened, the request cannot be carried out, or the
            isolation that it requires is not there.
    """
    if job.settings.require_isolation:
        confinement.require()
    detectors = load(job.settings.detectors)
    share = _Shares(progress, (len(job.references) + 1) * len(detectors))
    opened = [_open(source, job.settings.limits) for source in job.references]
    suspect = _examine_suspect(job, [m.identity for m in opened], detectors, share)
    known = {record.model.sha256: record for record in job.records}
    few = not enough(len(opened), job.settings.alpha)
    references = tuple(
        _measure(
            m,
            job.settings,
            detectors,
            share,
            scanned=suspect,
            few=few,
            known=known.get(m.identity.sha256),
        )
        for m in opened
        if suspect.measurements
    )
    examination = _compared(job, suspect, references, detectors)
    return dataclasses.replace(examination, references=references)


def _compared(
    job: Job,
    suspect: ModelRecord,
    references: tuple[ModelRecord, ...],
    detectors: tuple[Detector, ...],
) -> Examination:
    clean = _clean_models(job, suspect, references, detectors)
    if suspect.measurement(CHECK) and not any(d.rule.id == CHECK for d in detectors):
        detectors = (*detectors, *load([CHECK]))
    compared, failures = _compare(clean, detectors, suspect, job.settings.limits)
    return Examination(
        suspect=dataclasses.replace(suspect, failures=(*suspect.failures, *failures)),
        references=(),
        comparisons=tuple(comparison for comparison, _ in compared),
        populations=tuple(found for _, found in compared if found is not None),
        rules=tuple(d.rule for d in detectors),
        warnings=tuple(clean.warnings(detectors, suspect.model)),
        doubts=tuple(clean.doubts(detectors)),
    )


def measure(task: Task, progress: Progress) -> ModelRecord:
    """Measure one model by itself; what it is compared with has no part in its record.

    Raises:
        ScannerError: The request cannot be carried out, or the isolation that it requires is not
            there.
    """
    if task.settings.require_isolation:
        confinement.require()
    job = _alone(task.model, task.settings)
    detectors = load(task.settings.detectors)
    return _examine_suspect(job, (), detectors, _Shares(progress, len(detectors)))


def compare(trial: Trial, _progress: Progress) -> tuple[Examination, ...]:
    """Set measured models beside clean ones; no model is opened."""
    return tuple(_examination(trial, record) for record in trial.records)


def _examination(trial: Trial, suspect: ModelRecord) -> Examination:
    """Compare one model; the references' records are not sent back."""
    job = dataclasses.replace(
        _alone(Source(name=suspect.model.path, path=""), trial.settings),
        population=trial.population,
        source=trial.source,
    )
    detectors = load(trial.settings.detectors)
    try:
        for reference in trial.references if suspect.measurements else ():
            _check_comparable(suspect.model, reference.model)
    except _MEASUREMENT_ERRORS as error:
        failure = Failure(rule=MODEL_RULE, error=error.to_dict())
        suspect = ModelRecord(
            model=suspect.model, measurements=(), skips=(), failures=(failure,), runtime=None
        )
    return _compared(job, suspect, trial.references, detectors)


def _alone(source: Source, settings: Settings) -> Job:
    return Job(model=source, references=(), records=(), population=(), source="", settings=settings)


def check(task: Task, _progress: Progress) -> Check:
    """Open a model, and say which detectors could measure it; nothing is run.

    Raises:
        ScannerError: The model cannot be opened.
    """
    model = _open(task.model, task.settings.limits)
    unsuitable = suitability.unsuitable(model, task.settings)
    return Check(
        model=model.identity,
        detectors=tuple(
            Prospect(
                rule=detector.rule.id,
                obstacle=unsuitable
                if unsuitable and _shows_images(detector)
                else suitability.obstacle(detector.needs, model, task.settings),
            )
            for detector in load(task.settings.detectors)
        ),
    )


def _shows_images(detector: Detector) -> bool:
    """Whether a detector runs the model; the last one runs what the others ran."""
    return bool(detector.needs & suitability.RUNS) or detector.rule.id == CHECK


def layers(source: Source, _progress: Progress) -> LayerList:
    """List the activations of a model.

    Raises:
        ScannerError: The model cannot be opened.
    """
    from scanner.graph.core import flatten, shapes  # noqa: PLC0415 - onnx, which a scan can often skip
    from scanner.graph.layers import activations  # noqa: PLC0415 - as above

    model = _open(source, Limits())
    flat = flatten.flatten(model.proto)
    known = shapes.value_types(flat)
    found = (
        Layer(
            value=activation.value,
            operator=activation.operator,
            node=activation.node,
            position=activation.position,
            quantisation=activation.quantisation,
            shape=known[activation.value].shape if activation.value in known else None,
        )
        for activation in activations.activations(flat)
    )
    return LayerList(model=model.identity, layers=tuple(found))


def rules(_request: None, _progress: Progress) -> tuple[DetectorDescription, ...]:
    """Describe the detectors, in the order of the report."""
    return tuple(
        DetectorDescription(
            rule=detector.rule, needs=tuple(n.name.lower() for n in detector.needs if n.name)
        )
        for detector in load()
    )


def diagnose(_request: None, _progress: Progress) -> Diagnosis:
    """Report versions, installed runtimes, usable CUDA devices and clashes with other packages."""
    return Diagnosis(
        versions=runtime.versions(),
        runtimes=runtime.installed_runtimes(),
        cuda_devices=runtime.cuda_devices(),
        telemetry=runtime.telemetry_enabled(),
        isolation=confinement.current(),
        shared_packages=_shared_packages(),
    )


def _shared_packages() -> tuple[SharedPackage, ...]:
    """Return the import names of this program that another distribution has installed too."""
    from importlib import metadata  # noqa: PLC0415 - takes as long as a small model, for one command

    owners = metadata.packages_distributions()
    others = {
        name: sorted({owner for owner in owners.get(name, ()) if not _is_this(owner)})
        for name in _PACKAGES
    }
    return tuple(
        SharedPackage(name=name, distributions=tuple(found))
        for name, found in others.items()
        if found
    )


def _is_this(distribution: str) -> bool:
    return distribution.lower().replace("_", "-") == _DISTRIBUTION


def _compare(
    clean: CleanModels, detectors: Sequence[Detector], suspect: ModelRecord, limits: Limits
) -> tuple[list[tuple[Comparison, Population | None]], list[Failure]]:
    pairs: list[tuple[Comparison, Population | None]] = []
    failures: list[Failure] = []
    for detector in detectors:
        with _contained(detector.rule.id, limits, failures):
            own, pair = suspect.measurement(detector.rule.id), clean.compare(detector, suspect)
            if own is not None and pair is not None:
                pairs.append((described(detector, own, pair[0]), pair[1]))
    return pairs, failures


@contextlib.contextmanager
def _contained(rule: str, limits: Limits, failures: list[Failure]) -> Iterator[None]:
    """Record an error of one detector as its failure, so that the others' findings are kept.

    Raises:
        DeviceError: The request cannot be carried out, whatever the detector.
    """
    try:
        yield
    except DeviceError:
        raise
    except _MEASUREMENT_ERRORS as error:
        failures.append(Failure(rule=rule, error=error.to_dict()))
    except MemoryError:
        failures.append(Failure(rule=rule, error=WorkerLimitError.memory(limits.memory).to_dict()))
    except Exception as error:  # noqa: BLE001 - a bug of our own is a failure like any other
        failures.append(Failure(rule=rule, error=WorkerCrashedError.internal(error).to_dict()))


def _clean_models(
    job: Job,
    suspect: ModelRecord,
    references: tuple[ModelRecord, ...],
    detectors: Sequence[Detector],
) -> CleanModels:
    """Return the references with the baseline that the user named, or a shipped one that fits."""
    population, source = job.population, job.source
    if not population and job.settings.shipped_baselines:
        shipped = shipped_baseline(suspect.model, [detector.rule.id for detector in detectors])
        if shipped is not None:
            population, source = shipped.records, f"shipped baseline {shipped.name!r}"
    clean = CleanModels(references=references, population=population, source=source)
    return clean.settled(detectors, suspect, job.settings.alpha)


class _Shares:
    """A single progress count over several measurements of equal weight."""

    def __init__(self, progress: Progress, parts: int) -> None:
        self._progress, self._parts, self._finished = progress, parts, 0

    def within(self, done: int, total: int) -> None:
        self._progress(round(1000 * (self._finished + done / total)), 1000 * self._parts)

    def finish(self) -> None:
        self._finished += 1
        self.within(0, 1)


def _open(source: Source, limits: Limits) -> Model:
    return open_model(Path(source.path), source.name, limits)


def _examine_suspect(
    job: Job, references: Sequence[ModelIdentity], detectors: Sequence[Detector], share: _Shares
) -> ModelRecord:
    """Measure the suspect; if that is impossible, return a record with one failure."""
    identity = ModelIdentity(
        path=job.model.name, sha256=None, producer="", opset=None, inputs=(), outputs=()
    )
    try:
        model = _open(job.model, job.settings.limits)
        identity = model.identity
        for reference in references:
            _check_comparable(identity, reference)
    except _MEASUREMENT_ERRORS as error:
        failure = Failure(rule=MODEL_RULE, error=error.to_dict())
        return ModelRecord(
            model=identity, measurements=(), skips=(), failures=(failure,), runtime=None
        )
    return _measure(model, job.settings, detectors, share)


def _check_comparable(suspect: ModelIdentity, reference: ModelIdentity) -> None:
    if reference.sha256 == suspect.sha256:
        raise UsageError(
            f"the reference {reference.path!r} is the scanned model itself (same SHA-256)",
            remedy="name a clean model that was trained separately",
        )
    if len(suspect.inputs) != len(reference.inputs) or not all(
        map(_compatible, suspect.inputs, reference.inputs)
    ):
        raise UnsupportedModelError(
            f"{suspect.path!r} takes {_signature(suspect.inputs)}, but the reference "
            f"{reference.path!r} takes {_signature(reference.inputs)}",
            remedy="compare with a clean model of the same input",
        )


def _compatible(one: ValueInfo, other: ValueInfo) -> bool:
    """Whether two inputs agree after the batch axis, as far as their sizes are known."""
    pairs = zip(one.shape[1:], other.shape[1:], strict=False)
    sizes_agree = all(isinstance(a, str) or isinstance(b, str) or a == b for a, b in pairs)
    return one.dtype == other.dtype and len(one.shape) == len(other.shape) and sizes_agree


def _signature(inputs: Sequence[ValueInfo]) -> str:
    return ", ".join(f"{i.dtype}[{','.join(map(str, i.shape))}]" for i in inputs) or "no input"


def _measure(  # noqa: PLR0913 - what is measured, how, and what is known already
    model: Model,
    settings: Settings,
    detectors: Sequence[Detector],
    share: _Shares,
    *,
    scanned: ModelRecord | None = None,
    few: bool = True,
    known: ModelRecord | None = None,
) -> ModelRecord:
    """Run the detectors on one model.

    Args:
        model: The model.
        settings: How.
        detectors: Which.
        share: Takes the progress.
        scanned: For a reference, the suspect's record.
        few: Whether the references are too few to judge, so that they repeat what the suspect's
            search chose.
        known: For a reference, its record from before.
    """
    start = time.monotonic()
    measurements: list[Measurement] = []
    skips: list[Skip] = []
    failures: list[Failure] = []
    witnesses: list[Witness] = []  # left by the detectors for the last one, which checks them
    seen: list[npt.NDArray[Any]] = []
    unsuitable = suitability.unsuitable(model, settings)
    for detector in detectors:
        rule = detector.rule.id
        # One cause is one sentence; who asks for a detector by name is told why it failed.
        if unsuitable and _shows_images(detector) and rule not in settings.detectors:
            skips.append(Skip(rule=rule, reason=unsuitable))
            share.finish()
            continue
        followed = scanned.measurement(rule) if scanned else None
        before = known.measurement(rule) if known else None
        with _contained(rule, settings.limits, failures):
            deadline.check()
            follows = few or not _dropped_some(followed)
            if before is not None and (not follows or _same_course(before, followed)):
                measurements.append(before)
            else:
                subject = Subject(
                    model=model,
                    settings=settings,
                    progress=share.within,
                    suspect=followed,
                    follows=follows,
                    witnesses=witnesses,
                    seen=seen,
                )
                try:
                    measurements.append(detector.measure(subject))
                    skips += _left_out(measurements[-1])
                except (NoGradientError, NoLayerError, NoLogitsError) as error:
                    if rule in settings.detectors:
                        raise
                    skips.append(Skip(rule=rule, reason=str(error)))
        share.finish()
    if scanned is None and witnesses and not any(d.rule.id == CHECK for d in detectors):
        with _contained(CHECK, settings.limits, failures):
            checked = load([CHECK])[0].measure(
                Subject(model=model, settings=settings, witnesses=witnesses, seen=seen)
            )
            measurements += [checked] if checked.observations else []
    return ModelRecord(
        model=model.identity,
        measurements=tuple(measurements),
        skips=tuple(skips),
        failures=tuple(failures),
        runtime=Runtime(
            provider=next(
                (str(m.parameters["provider"]) for m in measurements if "provider" in m.parameters),
                "CPU",
            ),
            threads=settings.threads,
            versions=runtime.versions(),
            seconds=time.monotonic() - start,
            isolation=to_json(confinement.current()),
        ),
    )


def _left_out(measurement: Measurement) -> Iterator[Skip]:
    """Yield a skip where a contest of classes left some out for want of time."""
    contest = measurement.by_class.contest if measurement.by_class else None
    if contest is not None and contest.left_out:
        plural = "es" if len(contest.left_out) > 1 else ""
        named = f"class{plural} {', '.join(map(str, contest.left_out))}"
        remedy = "choose a larger setting `budget`, or name them as the setting `classes`"
        yield Skip(
            rule=measurement.rule,
            reason=f"the time ran out before {named} had a turn; {remedy}",
        )


def _dropped_some(measurement: Measurement | None) -> bool:
    profile = measurement.by_class if measurement else None
    return profile is not None and profile.dropped_some


def _same_course(before: Measurement, scanned: Measurement | None) -> bool:
    """Whether a reference measured before took the steps that this suspect's budget chose."""
    return scanned is None or _granted(before) == _granted(scanned)


def _granted(measurement: Measurement) -> set[Grant]:
    contest = measurement.by_class.contest if measurement.by_class else None
    return set(contest.granted) if contest else set()
