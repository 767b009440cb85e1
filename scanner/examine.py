"""The child's side of a scan: open models, run the detectors, compare.

These are the functions behind the endpoints of `scanner.protocol`. The heavy imports are here, so
the user's side, `scanner.pipeline`, never imports this module; it asks `scanner.sandbox.worker`.
"""

import contextlib
import dataclasses
import functools
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
    NoImagesError,
    NoLayerError,
    NoLogitsError,
    UnsupportedModelError,
    UsageError,
    WorkerCrashedError,
    WorkerError,
    WorkerLimitError,
)
from scanner.instruments import cuda, input_range, runtime, suitability
from scanner.instruments.detector import Detector, Needs, Subject, described
from scanner.instruments.witness import Witness
from scanner.judging.excuses import excused
from scanner.judging.population import CleanModels, shipped_baseline
from scanner.judging.ranks import enough
from scanner.judging.references import Kinship, copies, objections, relatives, torn
from scanner.judging.verdict import half_searched
from scanner.limits import Limits
from scanner.modelfile.model import Model, open_model
from scanner.protocol import (
    MODEL_RULE,
    NOT_THE_FILE,
    Check,
    DetectorDescription,
    Diagnosis,
    Drawing,
    Examination,
    Job,
    Layer,
    LayerList,
    Opening,
    Preparation,
    Prospect,
    SecondOpinion,
    SharedPackage,
    Source,
    Task,
    Trial,
)
from scanner.results import (
    Comparison,
    Failure,
    Grant,
    InputRange,
    Likeness,
    Measurement,
    ModelIdentity,
    ModelRecord,
    Part,
    Population,
    Runtime,
    Skip,
    ValueInfo,
)
from scanner.sandbox import confinement, deadline
from scanner.sandbox.endpoint import Progress
from scanner.settings import Device, Settings
from scanner.values import checked, to_json

# A worker's error is the deadline or a limit, reached inside one detector: what the others found is
# kept.
_MEASUREMENT_ERRORS = (ModelError, GraphError, UsageError, WorkerError)
_DISTRIBUTION = "overactivation"
_PACKAGES = ("overactivation", "scanner", "trainers")  # the import names that it owns


def prepare(settings: Settings, _progress: Progress) -> Preparation:
    """Find out whether a request can be carried out, before any model is opened.

    Raises:
        ScannerError: There is no such detector or device, or the isolation that is required is not
            there.
    """
    if settings.require_isolation:
        confinement.require()
    if settings.device is Device.CUDA:
        runtime.resolve_device(settings.device)
    return Preparation(
        rules=tuple(detector.rule for detector in load(settings.detectors)),
        isolation=confinement.current(),
    )


def identify(opening: Opening, _progress: Progress) -> tuple[ModelIdentity, ...]:
    """Open models that are to be measured later.

    Raises:
        ScannerError: One cannot be opened.
    """
    return tuple(_open_once(source, opening.limits).identity for source in opening.sources)


def examine(job: Job, progress: Progress) -> Examination:
    """Measure a suspect, its references, or both, and compare them.

    Raises:
        ScannerError: A reference cannot be opened, or the request cannot be carried out.
    """
    detectors = load(job.settings.detectors)
    models = len(job.references) + (job.measured is None)
    share = _Shares(progress, models * len(detectors))
    opened = [_open_once(source, job.settings.limits) for source in job.references]
    beside = [*job.beside, *(m.identity for m in opened)]
    suspect = job.measured or _examine_suspect(job, beside, detectors, share)
    settings = _ranged(job.settings, suspect.input_range)
    known = {record.model.sha256: record for record in job.records}
    few = not enough(len(opened), job.settings.alpha)
    references = tuple(
        _measure(
            m,
            settings,
            detectors,
            share,
            scanned=suspect,
            few=few,
            known=known.get(m.identity.sha256),
            unsuitable=suitability.unsuitable(m, job.settings),
            own_range=_input_range(m, job.settings),
            compared=True,
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
    excusable = [d.rule.id for d in detectors if d.excusable]
    suspect = excused(suspect, references, excusable)
    clean = _clean_models(job, suspect, references, detectors)
    if suspect.measurement(NOT_THE_FILE) and not any(d.rule.id == NOT_THE_FILE for d in detectors):
        detectors = (*detectors, *load([NOT_THE_FILE]))
    compared, failures = _compare(clean, detectors, suspect, job.settings.limits)
    premises = [d.rule.id for d in detectors if d.contribution.part is Part.PREMISE]
    kinships = [_kinship(suspect, reference) for reference in references]
    others = [r for r, kinship in zip(references, kinships, strict=True) if not kinship.copied]
    objected = (
        *copies(suspect, others),
        *objections(suspect, references, kinships, premises),
    )
    return Examination(
        suspect=dataclasses.replace(suspect, failures=(*suspect.failures, *failures)),
        references=(),
        comparisons=tuple(comparison for comparison, _ in compared),
        populations=tuple(found for _, found in compared if found is not None),
        rules=tuple(d.rule for d in detectors),
        warnings=(
            *objected,
            *clean.warnings(detectors, suspect.model),
            *relatives(references, kinships),
        ),
        doubts=(
            *objected,
            *clean.doubts(detectors),
            *clean.other_graph(suspect),
            *torn(suspect.input_range),
        ),
        second=_second_opinion(job, suspect, references, detectors),
    )


def compare(trial: Trial, _progress: Progress) -> tuple[Examination, ...]:
    """Set measured models beside clean ones; no model is opened."""
    return tuple(_examination(trial, record) for record in trial.records)


def _examination(trial: Trial, suspect: ModelRecord) -> Examination:
    """Compare one model; the references' records are not sent back."""
    job = Job(
        model=Source(name=suspect.model.path, path=""),
        population=trial.population,
        source=trial.source,
        graphs=trial.graphs,
        settings=trial.settings,
    )
    detectors = load(trial.settings.detectors)
    try:
        for reference in trial.references if suspect.measurements else ():
            _check_comparable(suspect.model, reference.model)
            _check_same_values(suspect, reference)
    except _MEASUREMENT_ERRORS as error:
        failure = Failure(rule=MODEL_RULE, error=error.to_dict())
        suspect = ModelRecord(
            model=suspect.model, measurements=(), skips=(), failures=(failure,), runtime=None
        )
    return _compared(job, suspect, trial.references, detectors)


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
    return bool(detector.needs & suitability.RUNS) or detector.rule.id == NOT_THE_FILE


def draw(task: Task, _progress: Progress) -> Drawing:
    """Return the canonical graph of a model.

    Raises:
        ScannerError: The model cannot be opened, or is too large to be compared.
    """
    from scanner.graph.canonical import drawing  # noqa: PLC0415 - onnx, which a scan can often skip

    model = _open(task.model, task.settings.limits)
    graph = drawing.draw(model.complete(model.proto), task.settings.seed)
    return Drawing(model=model.identity, graph=graph)


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
    devices, facts = runtime.cuda_devices(), runtime.cuda_facts()
    return Diagnosis(
        versions=runtime.versions(),
        runtimes=runtime.installed_runtimes(),
        cuda_devices=devices,
        cuda=cuda.installed(facts),
        cuda_obstacle=None if devices else cuda.obstacle(facts).problem,
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
                pairs.append((checked(described(detector, own, pair[0])), pair[1]))
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
    if job.population or not job.settings.shipped_baselines:
        clean = CleanModels(
            references=references,
            population=job.population,
            source=job.source,
            graphs=job.graphs,
        )
    else:
        clean = _shipped(suspect, references, detectors)
    return clean.settled(detectors, suspect, job.settings.alpha)


def _shipped(
    suspect: ModelRecord, references: tuple[ModelRecord, ...], detectors: Sequence[Detector]
) -> CleanModels:
    """Return the references with the shipped baseline that fits, if one does."""
    shipped = shipped_baseline(suspect.model, [detector.rule.id for detector in detectors])
    if shipped is None:
        return CleanModels(references=references, population=(), source="")
    source = f"shipped baseline {shipped.name!r}"
    return CleanModels(
        references=references, population=shipped.records, source=source, graphs=shipped.graphs
    )


def _second_opinion(
    job: Job,
    suspect: ModelRecord,
    references: tuple[ModelRecord, ...],
    detectors: Sequence[Detector],
) -> SecondOpinion | None:
    """Return what a shipped baseline says of a suspect that the user's own judges.

    A baseline decides a verdict, and anybody can write one: where two fit, their verdicts should
    agree.
    """
    if not job.population or not job.settings.shipped_baselines:
        return None
    clean = _shipped(suspect, references, detectors)
    if not clean.population:
        return None
    clean = clean.settled(detectors, suspect, job.settings.alpha)
    compared, _ = _compare(clean, detectors, suspect, job.settings.limits)
    return SecondOpinion(
        source=clean.source,
        comparisons=tuple(comparison for comparison, _ in compared),
        populations=tuple(found for _, found in compared if found is not None),
    )


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


# A reference is opened once, however many suspects are compared with it.
_open_once = functools.cache(_open)


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
    found = _input_range(model, job.settings)
    return _measure(
        model,
        _ranged(job.settings, found),
        detectors,
        share,
        unsuitable=suitability.unsuitable(model, job.settings),
        own_range=found,
        compared=job.compared or bool(references),
    )


def _input_range(model: Model, settings: Settings) -> InputRange | None:
    """Return a model's input range; None where that fails, and whoever needs it will say why."""
    with contextlib.suppress(ModelError, GraphError, UsageError):
        return input_range.find(model, settings)
    return None


def _ranged(settings: Settings, found: InputRange | None) -> Settings:
    """Return settings in which the input range is settled, for the suspect and all beside it."""
    if found is None:
        return settings
    return dataclasses.replace(settings, input_range=(found.low, found.high))


def _likeness(model: Model, settings: Settings, detectors: Sequence[Detector]) -> Likeness | None:
    """Return what tells relatives and strangers of a model, as far as it can be told.

    Nothing is told where no detector runs models to their end: that would cost more than all the
    rest.
    """
    if not any(Needs.LOGITS in detector.needs for detector in detectors):
        return None
    from scanner.instruments import kinship  # noqa: PLC0415 - onnx, which a scan can often skip

    return kinship.likeness(model, settings)


def _kinship(suspect: ModelRecord, reference: ModelRecord) -> Kinship:
    """Return how alike two models are."""
    own, other = suspect.likeness, reference.likeness
    if own is None or other is None:
        return Kinship()
    from scanner.instruments import kinship  # noqa: PLC0415 - as above

    same = suspect.model.architecture == reference.model.architecture
    agreed = kinship.agreement(own, other)
    return Kinship(
        weights=kinship.weights_alike(own, other) if same else None,
        correlation=agreed.correlation if agreed else None,
        z=agreed.z if agreed else None,
    )


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


def _check_same_values(suspect: ModelRecord, reference: ModelRecord) -> None:
    """Refuse to compare what two models answered to different values."""
    for own in suspect.measurements:
        other = reference.measurement(own.rule)
        shown = own.parameters.get("input_range")
        if other is not None and other.parameters.get("input_range") != shown:
            raise UsageError(
                f"the reference {reference.model.path!r} was measured on other values than "
                f"{suspect.model.path!r}",
                remedy="measure both with the same setting `input_range`",
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
    unsuitable: str | None = None,
    own_range: InputRange | None = None,
    compared: bool = False,
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
        unsuitable: Why no image can be shown to the model.
        own_range: The model's own input range, for the record; `settings` hold the one in use.
        compared: Whether the model is compared with others, so that its likeness is wanted.
    """
    start = time.monotonic()
    measurements: list[Measurement] = []
    skips: list[Skip] = []
    failures: list[Failure] = []
    witnesses: list[Witness] = []  # left by the detectors for the last one, which checks them
    seen: list[npt.NDArray[Any]] = []
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
            if (
                before is not None
                and _same_range(before, settings)
                and (not follows or _same_course(before, followed))
            ):
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
                    measurements.append(checked(detector.measure(subject)))
                    skips += _left_out(measurements[-1])
                except (NoGradientError, NoImagesError, NoLayerError, NoLogitsError) as error:
                    if rule in settings.detectors:
                        raise
                    skips.append(Skip(rule=rule, reason=str(error)))
        share.finish()
    if witnesses and not any(d.rule.id == NOT_THE_FILE for d in detectors):
        with _contained(NOT_THE_FILE, settings.limits, failures):
            found = load([NOT_THE_FILE])[0].measure(
                Subject(model=model, settings=settings, witnesses=witnesses, seen=seen)
            )
            measurements += [checked(found)] if found.observations else []
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
        input_range=own_range,
        likeness=_likeness(model, settings, detectors) if compared else None,
    )


def _left_out(measurement: Measurement) -> Iterator[Skip]:
    """Yield a skip where a contest of classes left some out for want of time."""
    reason = half_searched(measurement)
    if reason:
        yield Skip(rule=measurement.rule, reason=reason)


def _dropped_some(measurement: Measurement | None) -> bool:
    profile = measurement.by_class if measurement else None
    return profile is not None and profile.dropped_some


def _same_range(before: Measurement, settings: Settings) -> bool:
    """Whether a reference measured before was shown the range that this suspect takes."""
    shown = before.parameters.get("input_range")
    return shown is None or settings.input_range in {None, tuple(shown)}


def _same_course(before: Measurement, scanned: Measurement | None) -> bool:
    """Whether a reference measured before took the steps that this suspect's budget chose."""
    return scanned is None or _granted(before) == _granted(scanned)


def _granted(measurement: Measurement) -> set[Grant]:
    contest = measurement.by_class.contest if measurement.by_class else None
    return set(contest.granted) if contest else set()
