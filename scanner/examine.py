"""The child's side of a scan: open models, run the detectors, compare.

These are the functions behind the endpoints of `scanner.protocol`. The heavy imports are here, so
the user's side, `scanner.pipeline`, never imports this module; it asks `scanner.sandbox.worker`.
"""

import contextlib
import dataclasses
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from scanner.detectors import FAMILY, load
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
from scanner.instruments import runtime
from scanner.instruments.detector import Detector, Subject
from scanner.judging.calibration import enough, shipped_baseline
from scanner.judging.lineup import Lineup, dropped_some
from scanner.limits import Limits
from scanner.modelfile.model import Model, open_model
from scanner.protocol import (
    DetectorDescription,
    Diagnosis,
    Examination,
    Job,
    Layer,
    LayerList,
    SharedPackage,
    Source,
)
from scanner.results import (
    Comparison,
    Failure,
    Measurement,
    ModelIdentity,
    ModelRecord,
    Nulls,
    Runtime,
    Skip,
    ValueInfo,
)
from scanner.sandbox import confinement, deadline
from scanner.sandbox.endpoint import Progress
from scanner.settings import Settings
from scanner.values import to_json

MODEL_RULE = "model"  # the rule id of a failure that concerns a whole file
# A worker's error is the deadline or a limit, reached inside one detector: what the others found is
# kept.
_MEASUREMENT_ERRORS = (ModelError, GraphError, UsageError, WorkerError)
_DISTRIBUTION = "overactivation"
_PACKAGES = ("overactivation", "scanner", "trainers")  # the import names that it owns


def examine(job: Job, progress: Progress) -> Examination:
    """Measure a suspect and its references, and compare them.

    Raises:
        ScannerError: A reference cannot be opened, or the request cannot be carried out.
    """
    detectors = select(job.settings.detectors)
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
            lead=suspect,
            few=few,
            known=known.get(m.identity.sha256),
        )
        for m in opened
        if suspect.measurements
    )
    lineup = _lineup(job, suspect, references, detectors)
    compared, failures = _compare(lineup, detectors, suspect, job.settings.limits)
    return Examination(
        suspect=dataclasses.replace(suspect, failures=(*suspect.failures, *failures)),
        references=references,
        comparisons=tuple(comparison for comparison, _ in compared),
        nulls=tuple(nulls for _, nulls in compared if nulls is not None),
        rules=tuple(d.rule for d in detectors),
        warnings=tuple(lineup.warnings(detectors, suspect.model)),
    )


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


def select(names: Sequence[str]) -> tuple[Detector, ...]:
    """Return the detectors with these ids, or all of them if no id is given.

    Raises:
        UsageError: There is no such detector.
    """
    for name in names:
        if name not in FAMILY:
            import difflib  # noqa: PLC0415 - only for a misspelt name

            near = difflib.get_close_matches(name, FAMILY, n=1)
            remedy = f"did you mean {near[0]!r}?" if near else "the function `rules` lists them"
            raise UsageError(f"there is no detector {name!r}", remedy=remedy)
    return load(names)


def _compare(
    lineup: Lineup, detectors: Sequence[Detector], suspect: ModelRecord, limits: Limits
) -> tuple[list[tuple[Comparison, Nulls | None]], list[Failure]]:
    pairs: list[tuple[Comparison, Nulls | None] | None] = []
    failures: list[Failure] = []
    for detector in detectors:
        with _contained(detector.rule.id, limits, failures):
            pairs.append(lineup.compare(detector, suspect))
    return [pair for pair in pairs if pair is not None], failures


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


def _lineup(
    job: Job,
    suspect: ModelRecord,
    references: tuple[ModelRecord, ...],
    detectors: Sequence[Detector],
) -> Lineup:
    """Line up the references with the baseline the user named, or with a shipped one that fits."""
    population, source = job.population, job.source
    if not population and job.settings.shipped_baselines:
        shipped = shipped_baseline(suspect.model, [detector.rule.id for detector in detectors])
        if shipped is not None:
            population, source = shipped.records, f"shipped baseline {shipped.name!r}"
    lineup = Lineup(references=references, population=population, source=source)
    return lineup.settled(detectors, suspect, job.settings.alpha)


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
    lead: ModelRecord | None = None,
    few: bool = True,
    known: ModelRecord | None = None,
) -> ModelRecord:
    """Run the detectors on one model.

    Args:
        model: The model.
        settings: How to measure.
        detectors: What to run.
        share: Receives the progress.
        lead: For a reference, the suspect's record.
        few: Whether there are too few references to judge by, so that they repeat what the
            suspect's search chose.
        known: For a reference, its earlier record.
    """
    start = time.monotonic()
    measurements: list[Measurement] = []
    skips: list[Skip] = []
    failures: list[Failure] = []
    for detector in detectors:
        rule = detector.rule.id
        followed = lead.measurement(rule) if lead else None
        before = known.measurement(rule) if known else None
        with _contained(rule, settings.limits, failures):
            deadline.check()
            follows = few or followed is None or not dropped_some(followed)
            if before is not None and (not follows or _same_course(before, followed)):
                measurements.append(before)
            else:
                subject = Subject(
                    model=model,
                    settings=settings,
                    progress=share.within,
                    lead=followed,
                    follows=follows,
                )
                try:
                    measurements.append(detector.measure(subject))
                    skips += _left_out(measurements[-1])
                except (NoGradientError, NoLayerError, NoLogitsError) as error:
                    if rule in settings.detectors:
                        raise
                    skips.append(Skip(rule=rule, reason=str(error)))
        share.finish()
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
    """Yield a skip if a contest of classes ran out of time before some had a turn."""
    classes = measurement.series.get("left_out")
    if classes:
        named = f"class{'es' if len(classes) > 1 else ''} {', '.join(map(str, classes))}"
        reason = (
            f"the time ran out before {named} had a turn; "
            "raise the setting `budget`, or name them with the setting `classes`"
        )
        yield Skip(rule=measurement.rule, reason=reason)


def _same_course(before: Measurement, lead: Measurement | None) -> bool:
    """Whether a reference measured earlier took the steps that this suspect's budget chose."""
    return lead is None or before.series.get("granted") == lead.series.get("granted")
