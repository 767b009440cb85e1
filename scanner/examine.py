"""The child's side of a scan: open models, run the detectors, compare.

These are the functions behind the endpoints of `scanner.protocol`. The heavy imports are here, so
the user's side, `scanner.pipeline`, never imports this module; it asks `scanner.sandbox.worker`.
"""

import base64
import dataclasses
import functools
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from scanner.comparing import check_comparable, check_same_values, other_data, set_beside
from scanner.detectors import load
from scanner.instruments import cuda, probes, runtime, suitability
from scanner.instruments.detector import Detector, Needs
from scanner.judging.population import Baseline, shipped_baseline
from scanner.judging.ranks import enough
from scanner.limits import Limits
from scanner.measuring import (
    MEASUREMENT_ERRORS,
    Shares,
    asked,
    measure,
    own_range_of,
    ranged,
    shows_images,
    threaded,
)
from scanner.modelfile.model import Model, open_model
from scanner.protocol import (
    MODEL_RULE,
    Check,
    DetectorDescription,
    Diagnosis,
    Drawing,
    Examination,
    Job,
    Layer,
    LayerList,
    Opening,
    Piece,
    PieceBytes,
    Preparation,
    Prospect,
    RepairOrder,
    SharedPackage,
    Source,
    Task,
    Trial,
)
from scanner.results import (
    Array,
    Failure,
    ModelIdentity,
    ModelRecord,
    Repaired,
    ScanPlan,
)
from scanner.sandbox import confinement, linux
from scanner.sandbox.endpoint import Progress
from scanner.settings import Device, Settings

if TYPE_CHECKING:
    from scanner.graph.surgery.parcel import Bulk

_COPIES = 64  # so many times a model's size a scan may hold, if it keeps what it has freed
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
    """Measure a suspect, its references, or both, and compare them where all are here.

    Raises:
        ScannerError: A reference cannot be opened, or the request cannot be carried out.
    """
    detectors = load(job.settings.detectors)
    models = len(job.references) + (job.measured is None)
    share = Shares(progress, models * len(detectors))
    opened = [_open_once(source, job.settings.limits) for source in job.references]
    beside = [*job.beside, *(m.identity for m in opened)]
    suspect = job.measured or _examine_suspect(job, beside, detectors, share)
    settings = ranged(job.settings, suspect.input_range)
    known = {record.model.sha256: record for record in job.records}
    few = not enough(max(len(opened), job.among), job.settings.alpha)
    references = tuple(
        measure(
            m,
            threaded(settings, m),
            detectors,
            share,
            scanned=suspect,
            few=few,
            known=known.get(m.identity.sha256),
            unsuitable=suitability.unsuitable(m, job.settings),
            own_range=own_range_of(m, job.settings),
            compared=True,
            at_once=runtime.at_once(job.settings.threads, m.size),
        )
        for m in opened
        if suspect.measurements
    )
    if job.beside and suspect.measurements:  # it is compared where the references are measured
        rules = tuple(detector.rule for detector in detectors)
        return Examination(
            suspect=suspect, references=(), comparisons=(), populations=(), rules=rules, warnings=()
        )
    examination = set_beside(job, suspect, references, detectors)
    return dataclasses.replace(examination, references=references)


def compare(trial: Trial, _progress: Progress) -> tuple[Examination, ...]:
    """Set measured models beside clean ones; no model is opened."""
    return tuple(_examination(trial, record) for record in trial.records)


def _examination(trial: Trial, suspect: ModelRecord) -> Examination:
    """Compare one model; the references' records are not sent back."""
    job = Job(
        model=Source(name=suspect.model.path, path=""),
        baseline=trial.baseline,
        settings=trial.settings,
    )
    detectors = load(trial.settings.detectors)
    try:
        for reference in trial.references if suspect.measurements else ():
            check_comparable(suspect.model, reference.model)
            check_same_values(suspect, reference)
    except MEASUREMENT_ERRORS as error:
        failure = Failure(rule=MODEL_RULE, error=error.to_dict())
        suspect = ModelRecord(
            model=suspect.model, measurements=(), skips=(), failures=(failure,), runtime=None
        )
    return set_beside(job, suspect, trial.references, detectors)


def check(task: Task, _progress: Progress) -> Check:
    """Open a model, and say which detectors could measure it; nothing is run.

    Raises:
        ScannerError: The model cannot be opened, or the given shape is not that of its input.
    """
    model = _open(task.model, task.settings.limits)
    unsuitable = suitability.unsuitable(model, task.settings)
    if unsuitable is None:
        probes.image_shape(model, task.settings)
    return Check(
        model=model.identity,
        detectors=tuple(
            Prospect(
                rule=detector.rule.id,
                obstacle=unsuitable
                if unsuitable and shows_images(detector)
                else suitability.obstacle(detector.needs, model, task.settings),
            )
            for detector in load(task.settings.detectors)
        ),
    )


def plan(task: Task, _progress: Progress) -> ScanPlan:
    """Say what a scan would do with a model, by the pace of a few steps.

    Raises:
        ScannerError: The model cannot be opened.
    """
    from scanner import planning  # noqa: PLC0415 - onnx, which a scan can often skip

    model = _open(task.model, task.settings.limits)
    settings = ranged(task.settings, own_range_of(model, task.settings))
    detectors = load(task.settings.detectors)
    shipped = shipped_baseline(model.identity, [detector.rule.id for detector in detectors])
    judged = _judges(shipped, _meaning(model, settings, detectors) if shipped else None, settings)
    detectors = asked(detectors, settings, alone=task.alone and not judged)
    return planning.plan(model, threaded(settings, model), detectors)


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


def repair(order: RepairOrder, progress: Progress) -> Repaired:
    """Repair a model; what was made is kept for `hand_over`.

    Raises:
        ScannerError: The model cannot be opened, run or repaired.
    """
    from scanner.mending import repairer  # noqa: PLC0415 - onnx, which a scan can often skip

    model = _open(order.model, order.settings.limits)
    found = own_range_of(model, order.settings)
    settings = threaded(ranged(order.settings, found), model)
    repaired, files = repairer.repair(
        model, dataclasses.replace(order, settings=settings), progress
    )
    _made.clear()
    _made.update(files)
    return repaired


def hand_over(piece: Piece, _progress: Progress) -> PieceBytes:
    """Hand over a piece of a file that `repair` made."""
    part = _made[piece.suffix].piece(piece.start, piece.size) if piece.suffix in _made else b""
    return PieceBytes(data=base64.b64encode(part).decode())


# Files that the last repair made, by suffix.
_made: dict[str, "Bulk"] = {}


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


def _open(source: Source, limits: Limits) -> Model:
    model = open_model(Path(source.path), source.name, limits)
    if _COPIES * model.size > limits.memory and sys.platform == "linux":
        # Of a graph, several are made by and by, each of which leaves as much behind.
        linux.return_freed_blocks()
    return model


# A reference is opened once, however many suspects are compared with it.
_open_once = functools.cache(_open)


def _examine_suspect(
    job: Job, references: Sequence[ModelIdentity], detectors: Sequence[Detector], share: Shares
) -> ModelRecord:
    """Measure the suspect; if that is impossible, return a record with one failure."""
    identity = ModelIdentity(
        path=job.model.name, sha256=None, producer="", opset=None, inputs=(), outputs=()
    )
    try:
        model = _open(job.model, job.settings.limits)
        identity = model.identity
        for reference in references:
            check_comparable(identity, reference)
    except MEASUREMENT_ERRORS as error:
        failure = Failure(rule=MODEL_RULE, error=error.to_dict())
        return ModelRecord(
            model=identity, measurements=(), skips=(), failures=(failure,), runtime=None
        )
    found = own_range_of(model, job.settings)
    settings = threaded(ranged(job.settings, found), model)
    shipped = shipped_baseline(model.identity, [detector.rule.id for detector in detectors])
    # What is measured now may be judged elsewhere.
    known = shipped or job.baseline or job.compared
    on_noise = _meaning(model, settings, detectors) if known else None
    judged = _judges(shipped, on_noise, settings)
    record = measure(
        model,
        settings,
        detectors,
        share,
        unsuitable=suitability.unsuitable(model, job.settings),
        own_range=found,
        compared=job.compared or bool(references),
        alone=job.alone and not judged,
        at_once=runtime.at_once(job.settings.threads, model.size),
    )
    return dataclasses.replace(record, on_noise=on_noise)


def _meaning(model: Model, settings: Settings, detectors: Sequence[Detector]) -> Array | None:
    """Return what a model's classes mean, where a detector asks for its classes at all."""
    if not any(Needs.LOGITS in detector.needs for detector in detectors):
        return None
    from scanner.instruments import kinship  # noqa: PLC0415 - onnx, for few models

    return kinship.on_noise(model, settings)


def _judges(shipped: Baseline | None, on_noise: Array | None, settings: Settings) -> bool:
    """Whether a baseline that ships judges a model of its weight shapes."""
    return shipped is not None and settings.shipped_baselines and not other_data(on_noise, shipped)
