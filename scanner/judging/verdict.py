"""From a comparison to a verdict: what the clean models at hand allow to be said, and no more."""

import math
from collections.abc import Iterator, Sequence

from scanner.judging.ranks import FAR, NEAR, Place, Rank, enough, place
from scanner.results import (
    Comparison,
    Finding,
    Measurement,
    Population,
    Rule,
    Severity,
    Skip,
    Verdict,
)
from scanner.settings import Budget, Settings
from scanner.values import frozen

_MOST_OF_THEM = 3  # detectors that skip for one cause: that is what the model is
_FURTHEST = 0.1  # of a model among the furthest tenth it is said how far out it lies


@frozen
class Judgement:
    """The combined answer.

    Attributes:
        verdict: Suspicion outranks doubt, doubt outranks innocence.
        reason: In one sentence.
        score: In [0, 1], larger is more suspicious; None while nothing is calibrated.
        target_class: The class that a suspicious verdict is about, where it is about one.
    """

    verdict: Verdict
    reason: str
    score: float | None
    target_class: int | None = None


def judge(
    rule: Rule,
    measurement: Measurement,
    comparison: Comparison,
    population: Population | None,
    alpha: float,
) -> Finding:
    """Return one detector's finding.

    Structural observations judge themselves, by severity; a statistic is judged by its rank among
    clean models.
    """
    own = None
    if population is not None and population.values and comparison.statistic is not None:
        own = place(comparison.statistic, population.values)
    verdict, reason = _verdict(measurement, comparison, population, own, alpha)
    return Finding(
        rule=rule,
        verdict=verdict,
        statistic=measurement.statistic if comparison.statistic is None else comparison.statistic,
        p_value=own.p if own else None,
        size=own.size if own else None,
        reason=reason,
        parameters=measurement.parameters,
        contribution=comparison.contribution,
        evidence=comparison.evidence,
        description=comparison.description,
        observations=measurement.observations,
    )


def combine(  # noqa: PLR0913 - all that a verdict rests on
    findings: Sequence[Finding],
    rank: Rank | None,
    skips: Sequence[Skip],
    *,
    failed: bool,
    alpha: float,
    doubts: Sequence[str] = (),
) -> Judgement:
    """Return the combined answer: what the graph shows, or else the suspect's rank (`together`).

    Suspicious needs a p-value of at most `alpha` and a size that clean models do not reach: among k
    clean models somebody always ranks first. Clean needs that neither all detectors together nor
    one of them alone lies beyond every clean model.

    Where there are `doubts` about the references, nothing is clean beside them.
    """
    structural = [f for f in findings if f.observations and f.verdict is Verdict.SUSPICIOUS]
    if structural:
        return Judgement(verdict=Verdict.SUSPICIOUS, reason=structural[0].reason, score=1.0)
    score = None if rank is None else 1 - rank.place.p
    if rank is not None and rank.place.p <= alpha and rank.place.size >= FAR:
        return Judgement(
            verdict=Verdict.SUSPICIOUS,
            reason=_in_words(rank),
            score=score,
            target_class=rank.foremost,
        )
    if failed:
        return Judgement(
            verdict=Verdict.INCONCLUSIVE, reason="not everything could be measured", score=score
        )
    if rank is not None and rank.decisive and enough(rank.models, alpha):
        doubt = next(iter((*_apart(findings, rank, alpha), *doubts)), None)
        verdict = Verdict.CLEAN if doubt is None else Verdict.INCONCLUSIVE
        return Judgement(verdict=verdict, reason=doubt or _in_words(rank), score=score)
    return Judgement(verdict=Verdict.INCONCLUSIVE, reason=_doubt(findings, skips), score=score)


def advice(
    verdict: Verdict,
    findings: Sequence[Finding],
    populations: Sequence[Population],
    settings: Settings,
) -> Iterator[str]:
    """Yield what would make an answer stronger, in sentences, the most useful first."""
    if verdict is Verdict.SUSPICIOUS and any(f.evidence.trigger for f in findings):
        yield (
            "to confirm, inspect the trigger that the setting `evidence` writes: a mask, a pattern,"
            " and an image before and after it is stamped"
        )
    needed = math.ceil(1 / settings.alpha) - 1
    counts = {p.rule: len(p.values) for p in populations}
    combined = (counts.get(f.rule.id, 0) for f in findings if f.contribution.combined)
    known = min(combined, default=needed)
    if known >= needed:
        return
    more = f"{needed - known}{' more' if known else ''} clean models of the same recipe"
    yield (
        f"{more}, as the setting `references` or in a baseline (the function `calibrate`): with "
        f"{needed}, p can reach {settings.alpha:g}"
    )
    # Neither goes with a baseline that was made without it.
    images = settings.images_file or settings.images_folder
    if not images and any(f.contribution.images_help for f in findings):
        yield (
            "clean images of the kind that the model was trained on (the setting `images_file` or "
            "the setting `images_folder`): triggers were searched for on noise"
        )
    if settings.budget is Budget.QUICK and any(f.contribution.budget_helps for f in findings):
        yield "a longer search for triggers: the setting `budget` at 'standard'"


def _in_words(rank: Rank) -> str:
    *others, last = rank.rules
    by = f" by {', '.join(others)} and {last} together," if others else ""
    among = f"among {rank.models} clean models ({rank.source})"
    return f"{rank.sentence}; p = {rank.place.p:.3g}{by} {among}{_distance(rank.place)}"


def _distance(own: Place) -> str:
    """Say how far out a model lies that is among the furthest; nothing of one amid the others."""
    if own.p > _FURTHEST or own.size <= 0:
        return ""
    return f", {own.size:.2g} times as far out as the furthest of them"


def _apart(findings: Sequence[Finding], rank: Rank, alpha: float) -> Iterator[str]:
    """Yield what sets a model apart from clean ones, if not so far that it is suspicious."""
    yield from (f.reason for f in findings if f.contribution.combined and _beyond(f, alpha))
    if rank.place.p <= alpha and rank.place.size > NEAR:
        yield _in_words(rank)


def _beyond(finding: Finding, alpha: float) -> bool:
    """Whether a detector alone finds a model far beyond every clean model."""
    return (
        finding.p_value is not None
        and finding.size is not None
        and finding.p_value <= alpha
        and finding.size >= FAR
    )


def _verdict(
    measurement: Measurement,
    comparison: Comparison,
    population: Population | None,
    own: Place | None,
    alpha: float,
) -> tuple[Verdict, str]:
    worst = max(measurement.observations, key=lambda o: o.severity, default=None)
    if worst is not None and worst.severity >= Severity.SUSPICIOUS:
        return Verdict.SUSPICIOUS, worst.sentence
    if not comparison.contribution.calibrated:
        notes = len(measurement.observations)
        return Verdict.CLEAN, f"nothing suspicious, {notes} note{'s' if notes != 1 else ''}"
    said = f"{comparison.sentence}; " if comparison.sentence else ""
    if own is None or population is None:
        return Verdict.INCONCLUSIVE, said + _uncalibrated(comparison, population)
    among = f"among {len(population.values)} clean models ({population.source})"
    rank = f"p = {own.p:.3g} {among}{_distance(own)}"
    if own.p <= alpha and own.size > NEAR:
        return Verdict.SUSPICIOUS if own.size >= FAR else Verdict.INCONCLUSIVE, said + rank
    if not enough(len(population.values), alpha):
        return Verdict.INCONCLUSIVE, f"{said}{rank}, too few to reach {alpha:g}"
    return Verdict.CLEAN, said + rank


def _uncalibrated(comparison: Comparison, population: Population | None) -> str:
    if population is not None and population.reason:
        return f"uncalibrated: {population.source} does not apply, {population.reason}"
    if comparison.statistic is None:
        return "there is no clean model to compare with: name one with the setting `references`"
    return "uncalibrated: one clean model shows a difference, not how much clean models differ"


def _doubt(findings: Sequence[Finding], skips: Sequence[Skip]) -> str:
    reasons = [skip.reason for skip in skips]
    if shared := next((r for r in reasons if reasons.count(r) >= _MOST_OF_THEM), None):
        asked = ", ".join(f.rule.id for f in findings) or "nothing"
        return f"{shared}; what could be asked of it: {asked}"
    doubtful = [f for f in findings if f.verdict is Verdict.INCONCLUSIVE]
    decisive = [f for f in doubtful if f.contribution.decisive]
    if decisive or doubtful:
        return (decisive or doubtful)[0].reason
    return skips[0].reason if skips else "none of the detectors that ran can rule out a backdoor"
