"""The child's side of a scan: open models, run the detectors, compare.

This is where the heavy imports are. The user's side, `scanner.pipeline`, reaches it through
`scanner.sandbox.worker`.
"""

import contextlib
import dataclasses
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

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
from scanner.protocol import Examination, Job, Source
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
from scanner.settings import Settings
from scanner.values import from_json, to_json

Progress = Callable[[int, int], None]

# What checks the others' graphs against the file: where it was not asked for by name it does so all
# the same, and is heard only if it finds something.
CHECK = "not-the-file"
MODEL_RULE = "model"  # the rule id of a failure that concerns a whole file
# A worker's error is the deadline or a limit, met inside one detector: what the others found is
# kept.
_MEASUREMENT_ERRORS = (ModelError, GraphError, UsageError, WorkerError)


def examine(argument: Any, progress: Progress) -> Any:
    """Carry out a `Job` given as JSON and return an `Examination` as JSON.

    Raises:
        ScannerError: A reference cannot be opened, or the request cannot be carried out.
    """
    job = from_json(Job, argument)
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
    if suspect.measurement(CHECK) and not any(d.rule.id == CHECK for d in detectors):
        detectors = (*detectors, *load([CHECK]))
    compared, failures = _compare(lineup, detectors, suspect, job.settings.limits)
    examination = Examination(
        suspect=dataclasses.replace(suspect, failures=(*suspect.failures, *failures)),
        references=references,
        comparisons=tuple(comparison for comparison, _ in compared),
        nulls=tuple(nulls for _, nulls in compared if nulls is not None),
        rules=tuple(d.rule for d in detectors),
        warnings=tuple(lineup.warnings(detectors, suspect.model)),
        doubts=tuple(lineup.doubts(detectors)),
    )
    return to_json(examination)


def layers(argument: Any, _progress: Progress) -> Any:
    """List the activations of a model, given as a `Source` in JSON: value, operator, node, position and shape."""
    from scanner.graph.core import flatten, shapes  # noqa: PLC0415 - onnx, which a scan may do without
    from scanner.graph.layers import activations  # noqa: PLC0415 - onnx, which a scan may do without

    model = _open(from_json(Source, argument), Limits())
    flat = flatten.flatten(model.proto)
    known = shapes.value_types(flat)
    rows = [
        dataclasses.asdict(activation)
        | {"shape": known[activation.value].shape if activation.value in known else None}
        for activation in activations.activations(flat)
    ]
    return to_json({"model": model.identity, "layers": rows})


def rules(_argument: Any, _progress: Progress) -> Any:
    """List the detectors: rule and needs."""
    return [
        {"rule": to_json(d.rule), "needs": [n.name.lower() for n in d.needs if n.name]}
        for d in load()
    ]


def diagnose(_argument: Any, _progress: Progress) -> Any:
    """Report versions, installed runtimes and the CUDA devices that are really usable."""
    return {
        "versions": runtime.versions(),
        "runtimes": runtime.installed_runtimes(),
        "cuda_devices": list(runtime.cuda_devices()),
        "telemetry": runtime.telemetry_enabled(),
        "isolation": to_json(confinement.current()),
    }


def select(names: Sequence[str]) -> tuple[Detector, ...]:
    """Return the detectors of these ids, or all of them for none.

    Raises:
        UsageError: There is no such detector.
    """
    for name in names:
        if name not in FAMILY:
            import difflib  # noqa: PLC0415 - only for a name that is misspelt

            near = difflib.get_close_matches(name, FAMILY, n=1)
            remedy = f"did you mean {near[0]!r}?" if near else "'scan detectors' lists them"
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
    """Make what goes wrong with one detector its failure, so that it does not swallow what the others found.

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
    """Line up the references with the baseline that the user named, or with a shipped one that fits."""
    population, source = job.population, job.source
    if not population and job.settings.shipped_baselines:
        shipped = shipped_baseline(suspect.model, [detector.rule.id for detector in detectors])
        if shipped is not None:
            population, source = shipped.records, f"shipped baseline {shipped.name!r}"
    lineup = Lineup(references=references, population=population, source=source)
    return lineup.settled(detectors, suspect, job.settings.alpha)


class _Shares:
    """One progress count over several measurements of equal weight."""

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
    """Measure the suspect; a file that cannot be measured at all is a record with one failure."""
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
            f"{reference.path!r} takes "
            f"{_signature(reference.inputs)}",
            remedy="compare with a clean model of the same input",
        )


def _compatible(one: ValueInfo, other: ValueInfo) -> bool:
    """Whether two inputs agree behind the batch axis, as far as they say."""
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
        settings: How.
        detectors: Which.
        share: Takes the progress.
        lead: For a reference, the suspect's record.
        few: Whether the references are too few to judge, so that they repeat what the suspect's
            search chose.
        known: For a reference, its record from before.
    """
    start = time.monotonic()
    measurements: list[Measurement] = []
    skips: list[Skip] = []
    failures: list[Failure] = []
    witnesses: list[Any] = []  # left by the detectors for the last one, which checks them
    seen: list[Any] = []
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
    if lead is None and witnesses and not any(d.rule.id == CHECK for d in detectors):
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
    classes = measurement.series.get("left_out")
    if classes:
        named = f"class{'es' if len(classes) > 1 else ''} {', '.join(map(str, classes))}"
        reason = f"the time ran out before {named} had a turn; choose a larger --budget, or name them with --classes"
        yield Skip(rule=measurement.rule, reason=reason)


def _same_course(before: Measurement, lead: Measurement | None) -> bool:
    """Whether a reference measured before took the steps that this suspect's budget chose."""
    return lead is None or before.series.get("granted") == lead.series.get("granted")
