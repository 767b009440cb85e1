"""Comparing in the child: a measured model beside clean ones."""

import dataclasses
from collections.abc import Iterator, Sequence

from scanner.detectors import load
from scanner.errors import UnsupportedModelError, UsageError
from scanner.instruments.detector import Detector, described
from scanner.judging import by_class
from scanner.judging.excuses import excused
from scanner.judging.population import Baseline, CleanModels, mismatch, shipped_baseline
from scanner.judging.references import (
    Kinship,
    copies,
    distinct,
    is_of_use,
    objections,
    relatives,
    repeated,
    torn,
)
from scanner.limits import Limits
from scanner.measuring import contained
from scanner.protocol import (
    NOT_THE_FILE,
    Examination,
    Job,
    SecondOpinion,
)
from scanner.results import (
    Array,
    Comparison,
    Failure,
    ModelIdentity,
    ModelRecord,
    Part,
    Population,
    ValueInfo,
)
from scanner.values import checked

AGREED = 0.25  # in the same class's logits; chosen between recipes (docs/detection.md)
_LISTED = 10  # classes that a sentence names


def set_beside(
    job: Job,
    suspect: ModelRecord,
    references: tuple[ModelRecord, ...],
    detectors: tuple[Detector, ...],
) -> Examination:
    """Set a measured model beside clean ones; what fails is one more failure of its record.

    Args:
        job: The scan, for its settings, its population and that population's source.
        suspect: The model.
        references: Clean models measured with the same settings.
        detectors: Those that ran.
    """
    excusable = [d.rule.id for d in detectors if d.excusable]
    suspect = excused(suspect, references, excusable)
    premises = [d.rule.id for d in detectors if d.contribution.part is Part.PREMISE]
    kinships = [_kinship(suspect, reference) for reference in references]
    useful = tuple(
        reference
        for reference, kinship in zip(references, kinships, strict=True)
        if is_of_use(reference, kinship, premises)
    )
    counted = distinct(useful)
    useful = tuple(reference for reference in useful if reference.model.path in counted)
    clean = _clean_models(job, suspect, references, detectors)
    able = clean if useful == references else _clean_models(job, suspect, useful, detectors)
    if suspect.measurement(NOT_THE_FILE) and not any(d.rule.id == NOT_THE_FILE for d in detectors):
        detectors = (*detectors, *load([NOT_THE_FILE]))
    compared, failures = _compare(clean, able, detectors, suspect, job.settings.limits)
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
            *repeated(counted),
            *clean.warnings(detectors, suspect.model),
            *relatives(references, kinships),
        ),
        doubts=(
            *objected,
            *clean.doubts(detectors),
            *clean.other_graph(suspect),
            *torn(suspect.input_range),
            *_not_reached(suspect, detectors),
        ),
        second=_second_opinion(job, suspect, references, detectors),
    )


def _not_reached(suspect: ModelRecord, detectors: Sequence[Detector]) -> Iterator[str]:
    """Yield which classes a decisive search never reached, in sentences.

    It compares the others, and its silence is about them alone.
    """
    for detector in detectors:
        own = suspect.measurement(detector.rule.id)
        if own is None or own.by_class is None or not detector.contribution.decisive:
            continue
        missed = by_class.not_reached(own.by_class)
        if missed:
            shown = ", ".join(map(str, missed[:_LISTED])) + (", ..." * (len(missed) > _LISTED))
            yield (
                f"{detector.rule.name} found nothing that turns the images into {len(missed)} of "
                f"{own.by_class.classes:,} classes ({shown}), so that it cannot rule out a "
                "backdoor there"
            )


def check_comparable(suspect: ModelIdentity, reference: ModelIdentity) -> None:
    """Refuse a reference that cannot stand beside a suspect.

    Raises:
        UsageError: It is the suspect itself.
        UnsupportedModelError: It takes another input.
    """
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


def check_same_values(suspect: ModelRecord, reference: ModelRecord) -> None:
    """Refuse to compare what two models answered to different values.

    Raises:
        UsageError: They were measured on other values.
    """
    for own in suspect.measurements:
        other = reference.measurement(own.rule)
        ranges = [m.parameters.get("input_range") for m in (own, other) if m is not None]
        # One that was shown nothing was not shown anything else.
        if None not in ranges and any(shown != ranges[0] for shown in ranges):
            raise UsageError(
                f"the reference {reference.model.path!r} was measured on other values than "
                f"{suspect.model.path!r}",
                remedy="measure both with one range, as the setting `input_range`",
            )


def _compare(
    clean: CleanModels,
    able: CleanModels,
    detectors: Sequence[Detector],
    suspect: ModelRecord,
    limits: Limits,
) -> tuple[list[tuple[Comparison, Population | None]], list[Failure]]:
    """Compare what every detector measured, and say which failed.

    Args:
        clean: All clean models, beside which graphs and files are set.
        able: Those that classify what the suspect does, for all other detectors.
        detectors: Those that ran.
        suspect: What they measured.
        limits: Those of the scan.
    """
    pairs: list[tuple[Comparison, Population | None]] = []
    failures: list[Failure] = []
    for detector in detectors:
        with contained(detector.rule.id, limits, failures):
            beside = clean if detector.contribution.part is Part.STRUCTURAL else able
            own, pair = suspect.measurement(detector.rule.id), beside.compare(detector, suspect)
            if own is not None and pair is not None:
                pairs.append((checked(described(detector, own, pair[0])), pair[1]))
    return pairs, failures


def _clean_models(
    job: Job,
    suspect: ModelRecord,
    references: tuple[ModelRecord, ...],
    detectors: Sequence[Detector],
) -> CleanModels:
    """Return the references with the baseline that the user named, or a shipped one that fits."""
    if job.baseline is not None:
        clean = _of_baseline(job.baseline, suspect, references)
    elif job.settings.shipped_baselines:
        clean = _shipped(suspect, references, detectors)
    else:
        clean = CleanModels(references=references, population=(), source="")
    return clean.settled(detectors, suspect, job.settings.alpha)


def _of_baseline(
    baseline: Baseline, suspect: ModelRecord, references: tuple[ModelRecord, ...]
) -> CleanModels:
    """Return the references with the baseline that the user named: it judges whatever it is of."""
    fits = mismatch(baseline.records, suspect.model) is None
    doubt = other_data(suspect.on_noise, baseline) if fits else ""
    source = f"baseline {baseline.name!r}"
    return CleanModels(
        references=references,
        population=baseline.records,
        source=source,
        graphs=baseline.graphs,
        other_data=f"the {source} {doubt}; make sure that it is the right one" if doubt else "",
    )


def _shipped(
    suspect: ModelRecord, references: tuple[ModelRecord, ...], detectors: Sequence[Detector]
) -> CleanModels:
    """Return the references with the shipped baseline that fits, if one does."""
    shipped = shipped_baseline(suspect.model, [detector.rule.id for detector in detectors])
    if shipped is None:
        return CleanModels(references=references, population=(), source="")
    source = f"shipped baseline {shipped.name!r}"
    if doubt := other_data(suspect.on_noise, shipped):
        reason = f"the {source} {doubt}; networks of other recipes judge the model"
        return CleanModels(references=references, population=(), source="", other_data=reason)
    return CleanModels(
        references=references,
        population=shipped.records,
        source=source,
        graphs=shipped.graphs,
    )


def other_data(on_noise: Array | None, baseline: Baseline) -> str:
    """Say that a baseline of a suspect's weight shapes is of other data; empty if it is not.

    A network of other data may have the same shapes, and stands far out from all of its models.

    Args:
        on_noise: What the suspect's classes mean (`scanner.instruments.kinship.on_noise`).
        baseline: Clean models.
    """
    if on_noise is None or baseline.on_noise is None:
        return ""
    from scanner.instruments import kinship  # noqa: PLC0415 - onnx, for few models

    agreed = kinship.agreement_on(on_noise, baseline.on_noise)
    if agreed is None or agreed.correlation >= AGREED:
        return ""
    return (
        "has the model's weight shapes, but not its data: the same class's logits agree by "
        f"{agreed.correlation:.2f} on noise, those of one recipe by {AGREED:g} or more"
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
    if job.baseline is None or not job.settings.shipped_baselines:
        return None
    clean = _shipped(suspect, references, detectors)
    if not clean.population:
        return None
    clean = clean.settled(detectors, suspect, job.settings.alpha)
    compared, _ = _compare(clean, clean, detectors, suspect, job.settings.limits)
    return SecondOpinion(
        source=clean.source,
        comparisons=tuple(comparison for comparison, _ in compared),
        populations=tuple(found for _, found in compared if found is not None),
    )


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


def _compatible(one: ValueInfo, other: ValueInfo) -> bool:
    """Whether two inputs agree after the batch axis, as far as their sizes are known."""
    pairs = zip(one.shape[1:], other.shape[1:], strict=False)
    sizes_agree = all(isinstance(a, str) or isinstance(b, str) or a == b for a, b in pairs)
    return one.dtype == other.dtype and len(one.shape) == len(other.shape) and sizes_agree


def _signature(inputs: Sequence[ValueInfo]) -> str:
    return ", ".join(f"{i.dtype}[{','.join(map(str, i.shape))}]" for i in inputs) or "no input"
