"""What was measured and compared becomes a result: findings, a rank, a verdict with its reason.

No child is asked here, so that a result can be made again from what was saved.
"""

import dataclasses
from collections.abc import Iterator, Sequence

from scanner import protocol
from scanner.errors import ScannerError
from scanner.judging import population, ranks, recipes, unanalysable, verdict
from scanner.judging.references import distinct, torn
from scanner.protocol import Examination, Source
from scanner.results import (
    Comparison,
    Failure,
    Finding,
    ModelIdentity,
    ModelRecord,
    Part,
    ScanResult,
    Verdict,
)
from scanner.settings import Settings
from scanner.values import frozen

_UNCHECKED = "the scan ended before it was known whether the images suit the model"


def judged(examination: Examination, settings: Settings, seconds: float) -> ScanResult:
    """Return the result of an examination.

    Args:
        examination: The suspect's record, and what it was compared with.
        settings: Those that it was measured with; the level `alpha` may be another.
        seconds: How long it took.
    """
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
        calibration=_among_others(stranger) if stranger else _rests_on(examination, findings),
        missed=stranger.missed if stranger else {},
        index=None if driver is None else driver.index,
        warnings=(
            *_disagreement(examination, concluded, bool(failures), settings),
            *examination.warnings,
            *([suspect.images_doubt] if suspect.images_doubt not in {"", reason} else []),
        ),
        advice=(
            *_which_range(examination.suspect, judgement),
            *verdict.advice(judgement.verdict, findings, examination.populations, settings),
        ),
        input_range=suspect.input_range,
    )


def unmeasured(source: Source, error: ScannerError) -> ModelRecord:
    """Return the record of a model that could not be measured at all."""
    return ModelRecord(
        model=ModelIdentity(
            path=source.name, sha256=None, producer="", opset=None, inputs=(), outputs=()
        ),
        measurements=(),
        skips=(),
        failures=(Failure(rule=protocol.MODEL_RULE, error=error.to_dict()),),
        runtime=None,
    )


def interrupted(
    source: Source, parts: Sequence[ModelRecord], error: ScannerError, settings: Settings
) -> ModelRecord:
    """Return the record of a model whose process ended before it had answered.

    Args:
        source: The model.
        parts: What the process had finished, in turn.
        error: How it ended.
        settings: Those that the model was measured with.
    """
    failure = Failure(rule=protocol.MODEL_RULE, error=error.to_dict())
    if not parts:
        return unmeasured(source, error)
    return dataclasses.replace(
        parts[-1],
        measurements=tuple(m for part in parts for m in part.measurements),
        skips=tuple(s for part in parts for s in part.skips),
        failures=(*(f for part in parts for f in part.failures), failure),
        images_doubt=_UNCHECKED if settings.has_images else "",
    )


def unanswered(source: Source, error: ScannerError) -> ScanResult:
    """Return the result for a model that could not be measured at all."""
    suspect = unmeasured(source, error)
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
    # What noise was answered that was taken for images has no place among what images were.
    told = () if examination.suspect.images_doubt else examination.comparisons
    rank = ranks.together(told, examination.populations)
    left_open = _left_open(rank, told, settings.alpha)
    stranger = _stranger(told, examination, settings) if left_open else None
    driver = ranks.driver(told) if _whole(examination, findings) else None
    judgement = verdict.combine(
        findings,
        rank,
        examination.suspect.skips,
        failed=failed,
        settings=settings,
        stranger=stranger,
        doubts=examination.doubts,
        unfit=examination.suspect.images_doubt,
        driver=driver,
    )
    return _Conclusion(
        findings=findings, rank=rank, stranger=stranger, driver=driver, judgement=judgement
    )


def _left_open(rank: ranks.Rank | None, comparisons: Sequence[Comparison], alpha: float) -> bool:
    """Whether clean models of a model's own recipe leave open whether it hides a backdoor.

    They are too few; or they do not accuse it, and its decisive search cannot be compared with
    theirs, such as one on the user's images.
    """
    if rank is None or not ranks.enough(rank.models, alpha):
        return True
    searched = any(c.contribution.decisive for c in comparisons)
    return searched and not rank.decisive and not verdict.accused(rank, alpha)


def _stranger(
    comparisons: Sequence[Comparison], examination: Examination, settings: Settings
) -> recipes.Stranger | None:
    """Return the suspect's place among networks of other recipes than its own."""
    suspect, references = examination.suspect, len(distinct(examination.references))
    # Theirs were searched with all that the budget allows.
    staged = {m.rule for m in suspect.measurements if m.by_class and m.by_class.stages}
    whole = [comparison for comparison in comparisons if comparison.rule not in staged]
    if not whole:
        return None
    found = recipes.stranger(whole, suspect.skips, references, settings, recipes.shipped())
    return found and recipes.on_images(found, suspect.measurements)


def _among_others(stranger: recipes.Stranger) -> str:
    """Say which networks judged a model of a recipe that is not among them."""
    few = {0: "by itself", 1: "beside one reference"}
    beside = few.get(stranger.references, "beside two references")
    shown = "on clean images" if stranger.images else "without images"
    return (
        f"clean and backdoored networks of {stranger.recipes} recipes, none of them known to be "
        f"the model's, each {beside}, {shown}"
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

    What is left of a scan whose decisive detector failed, or searched a few classes beside no
    other model, ranks models by the least that is known.
    """
    combined = [f for f in findings if f.contribution.combined]
    unmet = any(f.observations for f in findings if f.contribution.part is Part.PREMISE)
    failed = {failure.rule for failure in examination.suspect.failures}
    searched = any(f.contribution.decisive for f in combined) or not failed
    compared = {c.rule for c in examination.comparisons if c.scores}
    searched &= not any(f.unsearched and f.rule.id not in compared for f in combined)
    return searched and not unmet and not any(f.left_out for f in combined)


def _rests_on(examination: Examination, findings: Sequence[Finding]) -> str | None:
    """Say which clean models judged, and why these.

    Where detectors decide, those that decide nothing may have been ranked while these were not.
    """
    deciding = {finding.rule.id for finding in findings if finding.contribution.combined}
    ranked = [p for p in examination.populations if p.values]
    found = next((p for p in ranked if not deciding or p.rule in deciding), None)
    if found is None or examination.suspect.images_doubt:
        return None
    fits = (
        ""
        if found.source == population.REFERENCES
        else ": the same input, classes and weight shapes"
    )
    return f"{len(found.values)} clean models ({found.source}{fits})"


def _which_range(suspect: ModelRecord, judgement: verdict.Judgement) -> Iterator[str]:
    """Ask for the input range where the answer hangs on it, and does not say so itself."""
    if judgement.verdict is Verdict.INCONCLUSIVE:
        yield from (asked for asked in torn(suspect.input_range) if asked not in judgement.reason)


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


def unopened(measured: Sequence[ModelRecord | ScanResult]) -> ScannerError | None:
    """Return the error of the first model that could not be measured at all."""
    failures = (failure for one in measured for failure in one.failures)
    errors = (failure.error for failure in failures if failure.rule == protocol.MODEL_RULE)
    return next(map(ScannerError.from_dict, errors), None)
