"""A population of clean models, measured once: none of them twice, none far from the others.

A backdoored model that is taken for clean blinds every later scan, so each member is ranked among
the others before a baseline is made of them.
"""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

from scanner import pipeline
from scanner.cache import Cache, renamed
from scanner.errors import BaselineError, ScannerError, UsageError
from scanner.judging import population, ranks
from scanner.judging.population import Baseline
from scanner.judging.references import distinct, refuse_repeats, repeated
from scanner.pipeline import PathLike
from scanner.results import ModelRecord, ScanResult, Severity
from scanner.settings import Settings
from scanner.values import frozen

# Any rank is wanted, however few the others are; `_member` asks for the level itself.
_ANY_LEVEL = 0.5
_DIGITS = 9  # of 1 - (1 - p), which is p but for rounding


@frozen
class Member:
    """A clean model's place among the other clean models.

    Attributes:
        path: Its file.
        p: How often one of the others' recipe would lie as far out; None where they cannot say.
        size: How many times as far out it lies as the furthest of the others; None likewise.
        suspicion: Why it must be confirmed that it is clean, in words; None where nothing speaks
            against it.
        far: Whether it lies so far out that it would have to be confirmed among enough others.
    """

    path: str
    p: float | None
    size: float | None
    suspicion: str | None
    far: bool = False


def calibrate(  # noqa: PLR0913 - what is measured, what it is called, and who is told
    models: Sequence[PathLike],
    settings: Settings | None = None,
    *,
    name: str,
    provenance: str,
    keep: Sequence[str] = (),
    cache: Cache | None = None,
    progress: Callable[[int, int], None] | None = None,
    ranked: Callable[[Sequence[Member]], None] | None = None,
) -> Baseline:
    """Measure a population of clean models once.

    Args:
        models: Clean ONNX files of one recipe.
        settings: Those of later scans; a scan with other settings cannot use the baseline.
        name: Name of the recipe.
        provenance: Where the models come from and how they were made.
        keep: Models, as named or by their file's name, that are known to be clean although they
            stand far apart from the others.
        cache: Remembers what was measured, so that an interrupted calibration resumes.
        progress: Called for each model as `progress(done, total)`.
        ranked: Told how each member ranks among the others, before any is refused.

    Raises:
        ScannerError: A model cannot be measured, is there twice, is of another architecture than
            the first, or must be confirmed.
    """
    pipeline.several("models", models)
    pipeline.several("keep", keep)
    _check_named(keep, models)
    chosen = settings or Settings()
    records: list[ModelRecord] = []
    for done, model in enumerate(models, start=1):
        record = _measured(model, chosen, cache)
        refuse_repeats("model", [r.model for r in (*records, record)])
        if records and record.model.architecture != records[0].model.architecture:
            raise BaselineError(
                f"{record.model.path!r} has another architecture than {records[0].model.path!r}",
                remedy="make one baseline for each architecture",
            )
        records.append(record)
        if record.input_range is not None:  # one recipe takes one range
            settled = (record.input_range.low, record.input_range.high)
            chosen = dataclasses.replace(chosen, input_range=settled)
        if progress:
            progress(done, len(models))
    for sentence in repeated(distinct(records)):
        raise BaselineError(sentence, remedy="name one of them")
    baseline = gathered(name, provenance, records)
    named = zip(members(baseline, chosen), records, strict=True)
    found = [dataclasses.replace(member, path=record.model.path) for member, record in named]
    if ranked:
        ranked(found)
    _refuse_doubtful([m for m in found if not _is_named(m.path, keep)])
    return baseline


def gathered(name: str, provenance: str, records: Sequence[ModelRecord]) -> Baseline:
    """Return a baseline of clean models that were measured; none is refused.

    Args:
        name: Name of the recipe.
        provenance: Where the models come from and how they were made.
        records: What was measured on them.
    """
    from scanner.instruments import kinship  # noqa: PLC0415 - numpy, for this command alone

    slim = map(population.without_pictures, records)
    return Baseline(
        name=name,
        provenance=provenance,
        records=tuple(dataclasses.replace(record, on_noise=None) for record in slim),
        graphs=population.graphs_of(records),
        on_noise=kinship.shared([record.on_noise for record in records]),
    )


def members(baseline: Baseline, settings: Settings) -> list[Member]:
    """Return how each member of a population ranks among the others.

    Args:
        baseline: The population.
        settings: Those that its models were measured with.
    """
    if not baseline.records:
        return []
    alone = dataclasses.replace(settings, alpha=_ANY_LEVEL, shipped_baselines=False)
    results = pipeline.judge(baseline.records, settings=alone, baseline=baseline)
    return [_member(result, settings.alpha) for result in results]


def _member(result: ScanResult, alpha: float) -> Member:
    """Return a member's place; it is doubtful by the bounds of a scan that calls it suspicious."""
    path = result.model.path
    seen = [o for finding in result.findings for o in finding.observations]
    worst = max(seen, key=lambda o: o.severity, default=None)
    if worst is not None and worst.severity >= Severity.SUSPICIOUS:
        # The score of such a result is no rank.
        suspicion = f"it is itself suspicious: {worst.sentence}"
        return Member(path=path, p=None, size=None, suspicion=suspicion)
    if result.score is None or result.size is None:
        return Member(path=path, p=None, size=None, suspicion=None)
    p, size = round(1 - result.score, _DIGITS), result.size
    apart = (
        f"it stands far apart from the other clean models (p = {p:.3g}, {size:.1f} times as far "
        "out as the furthest of them)"
    )
    far = size >= ranks.FAR
    doubtful = far and p <= alpha
    return Member(path=path, p=p, size=size, suspicion=apart if doubtful else None, far=far)


def _refuse_doubtful(found: Sequence[Member]) -> None:
    """Raise a `BaselineError` that names all members that must be confirmed."""
    doubtful = [f"{m.path!r} may not be clean: {m.suspicion}" for m in found if m.suspicion]
    if doubtful:
        raise BaselineError(
            "; ".join(doubtful),
            remedy="leave it out, since a backdoored model in a baseline hides others, or confirm "
            "with the setting `keep` that it is clean",
        )


def _check_named(keep: Sequence[str], models: Sequence[PathLike]) -> None:
    for name in keep:
        if not any(_is_named(str(model), [name]) for model in models):
            raise UsageError(
                f"the setting `keep` names {name!r}, which is none of the models",
                remedy="write it as the model is named, or give its file's name",
            )


def _is_named(path: str, names: Sequence[str]) -> bool:
    return path in names or Path(path).name in names


def _measured(model: PathLike, settings: Settings, cache: Cache | None) -> ModelRecord:
    """Return a model's record, from the cache where it is there.

    Raises:
        ScannerError: It cannot be measured in full.
    """
    key = cache.key(model, settings) if cache else None
    known = cache.record(key) if cache and key else None
    if known is not None:
        return renamed(known, str(model))
    record = pipeline.measure(model, settings)
    for failure in record.failures:
        raise ScannerError.from_dict(failure.error)
    if cache and key:
        cache.keep_record(key, record)
    return record
