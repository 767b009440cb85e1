"""From a comparison to a verdict: what the clean models at hand allow to be said, and no more."""

import math
from collections.abc import Iterator, Sequence

from scanner.judging.courses import left_out
from scanner.judging.population import MEASURED_WITH
from scanner.judging.ranks import FAR, NEAR, Driver, Place, Rank, enough, place, strength
from scanner.judging.recipes import Stranger
from scanner.results import (
    Comparison,
    Finding,
    Measurement,
    Part,
    Population,
    Rule,
    Severity,
    Skip,
    Verdict,
)
from scanner.settings import Budget, Settings
from scanner.values import frozen

_MOST_OF_THEM = 3  # detectors that skip for one cause: that is what the model is
_TWO = 2
_LISTED = 5  # more classes are counted, not listed
_SAID = {"beyond": "beyond", "apart": "apart from", "far-beyond": "far beyond"}
# Times as far out as clean networks of all recipes but one. Without a reference those of two of six
# accurate recipes lie up to 1.56 times as far out (docs/detection.md, "Six accurate recipes").
ALONE = 1.5
_FURTHEST = 0.1  # of a model among the furthest tenth it is said how far out it lies
_ON_HALF_SIDES = (
    "a search on whole images would take too long: it was made on images of half the side, and a "
    "network may hide what it does with whole ones; raise the setting `budget`"
)


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


def among_recipes(own: Stranger, settings: Settings) -> Judgement:
    """Return what networks of other recipes allow to be said of a model.

    Suspicious needs a p-value of at most `alpha` and that no clean network of any recipe lies as
    far out; a model that stands alone has to lie half as far again, and its foremost class may not
    be much of the user's images (`Stranger.common`). Clean is a statement about power: of the
    backdoored networks at most a share `miss` stands out no further, over all attacks that would
    show, and no class leads the others further than in clean networks of all recipes but one. It
    takes clean models or images: of accurate networks that stand alone, most backdoored ones stand
    out no further than clean ones (docs/detection.md, "Deeper networks").
    """
    place, others = own.place, f"networks of {own.recipes} other recipes"
    said, score = f"{own.sentence}; " if own.sentence else "", 1 - place.p
    if place.p <= settings.alpha and place.size >= (1 if own.references else ALONE):
        if own.common is not None:
            reason = (
                f"{said}but to the model {own.common:.0%} of the images are of class "
                f"{own.driven}, and a class that is much of the training data stands out in "
                "clean networks too: name a clean model of the same data with the setting "
                "`references`"
            )
            return Judgement(verdict=Verdict.INCONCLUSIVE, reason=reason, score=score)
        far = f"{place.size:.2g} times as far out as those of all recipes but one"
        reason = f"{said}p = {place.p:.3g} among clean {others}, {far}"
        return Judgement(
            verdict=Verdict.SUSPICIOUS, reason=reason, score=score, target_class=own.foremost
        )
    few, alone = own.overall <= settings.miss, not (own.references or own.images)
    if few and place.size < 1 and own.searched and not (own.missing or alone or own.leads):
        reason = (
            f"{said}of backdoored {others} only {_missed(own)}; none of these has a trigger that "
            "moves one class only"
        )
        return Judgement(verdict=Verdict.CLEAN, reason=reason, score=score)
    reason = f"{said}p = {place.p:.3g} among clean {others}; of backdoored ones {_missed(own)}"
    if place.p <= settings.alpha and place.size >= 1:
        reason += (
            f"; it is not called suspicious because without a reference that takes {ALONE:g} times "
            f"as far out as those of all recipes but one, and it lies {place.size:.2g} times"
        )
    elif few and not own.searched:
        reason += (
            "; it is not called clean because searches for triggers in so many classes cannot be "
            "compared with those in other networks"
        )
    elif few and alone:
        reason += "; it is not called clean because neither a clean model nor images are at hand"
    elif few and own.leads:
        rule = max(own.leads, key=lambda one: own.leads[one])
        reason += (
            f"; it is not called clean because {rule} finds one class {own.leads[rule]:.2g} times "
            "as far ahead of the others as in clean networks of all recipes but one"
        )
    elif few:
        names = " and ".join(own.missing)
        reason += f"; it is not called clean because {names} gave no complete result"
    return Judgement(verdict=Verdict.INCONCLUSIVE, reason=reason, score=score)


def _missed(own: Stranger) -> str:
    shares = {name: f"{name} {share:.0%}" for name, share in own.missed.items()}
    unseen = ", ".join(shares.pop(name) for name in own.unseen)
    more = f"; not counted are those that only images show ({unseen})" if unseen else ""
    return f"{own.overall:.0%} stand out no further ({', '.join(shares.values())}){more}"


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
        observations=(*measurement.observations, *comparison.observations),
        left_out=left_out(measurement),
        unsearched=unsearched(measurement),
        clean=() if population is None else tuple(sorted(population.values)),
    )


def unsearched(measurement: Measurement) -> int:
    """Return how many classes were not chosen for a search that came in stages."""
    profile = measurement.by_class
    stages = profile.stages if profile else None
    return profile.classes - len(stages.classes) if profile and stages and stages.foremost else 0


def in_stages(measurement: Measurement) -> str:
    """Say what a search in stages left out: classes, or that it was on images as they are.

    Empty where it left out neither.
    """
    profile, missing = measurement.by_class, unsearched(measurement)
    if profile is None or profile.stages is None:
        return ""
    if not missing:
        return _ON_HALF_SIDES if profile.stages.half_side else ""
    first, drawn = len(profile.stages.foremost), len(profile.stages.controls)
    those = f"the {first} that stand out" if first > 1 else "the one that stands out"
    return (
        f"a search of all classes would take too long: {first + drawn} of {profile.classes:,} were "
        f"searched, {those} most without a search{f' and {drawn} drawn at random' if drawn else ''}"
        f"{', on images of half the side' if profile.stages.half_side else ''}; of the other "
        f"{missing:,} it is known only that they stand out less; raise the setting "
        "`budget`, or name classes as the setting `classes`"
    )


def half_searched(measurement: Measurement) -> str:
    """Say that a search did not come to all classes; empty where it did."""
    missing, profile = left_out(measurement), measurement.by_class
    if not missing or profile is None or profile.contest is None:
        return ""
    asked = {*profile.contest.left_out, *(row.class_id for row in profile.rows)}
    named = f"{missing} of {len(asked)} classes"
    if missing <= _LISTED:
        numbers = ", ".join(map(str, profile.contest.left_out))
        named = f"class{'es' if missing > 1 else ''} {numbers}"
    remedy = (
        "raise the setting `budget` or the setting `timeout`, or name them as the setting `classes`"
    )
    return f"the time ran out before {named} had a turn; {remedy}"


def combine(  # noqa: PLR0913 - all that a verdict rests on
    findings: Sequence[Finding],
    rank: Rank | None,
    skips: Sequence[Skip],
    *,
    failed: bool,
    settings: Settings,
    stranger: Stranger | None = None,
    doubts: Sequence[str] = (),
    unfit: str = "",
    driver: Driver | None = None,
) -> Judgement:
    """Return the combined answer: what the graph shows, or else the suspect's rank (`together`).

    Suspicious needs a p-value of at most `alpha` and a size that clean models do not reach: among k
    clean models somebody always ranks first. Clean needs that neither all detectors together nor
    one of them alone lies beyond every clean model. Where too few clean models of the
    suspect's own recipe judge it, or its decisive search cannot be compared with theirs, networks
    of other recipes do (`among_recipes`).

    Where there are `doubts` about what was measured, nothing is clean; nor where a search did not
    come to all classes, where the structure was not looked at, or holds what a person has to look
    at (`_unsettled`). Nothing is said of a model that is no trained classifier, or that was asked
    with images that are none (`unfit`). Where no clean models judge, the reason is about what
    drives the index (`driver`).
    """
    premises = (f for f in findings if f.contribution.part is Part.PREMISE and f.observations)
    unmet = next((f.reason for f in premises), unfit)
    seen = next(_seen(findings, structural_only=bool(unmet)), None)
    if seen is not None:
        return seen
    if unmet:
        return Judgement(verdict=Verdict.INCONCLUSIVE, reason=unmet, score=None)
    own = None if rank is None else among_own(rank, findings, settings.alpha)
    foreign = None if stranger is None else among_recipes(stranger, settings)
    for judgement in (foreign, own):
        if judgement is not None and judgement.verdict is Verdict.SUSPICIOUS:
            return judgement
    chosen = foreign or own
    score = None if chosen is None else chosen.score
    half = [f.reason for f in findings if f.left_out and f.contribution.combined]
    apart = [] if rank is None else _apart(findings, rank, settings.alpha)
    unsettled = [*doubts, *_unsettled(findings, skips), *apart]
    if failed:
        reason = "not everything could be measured"
    elif half:
        reason = half[0]
    elif chosen is None:
        reason = _driven(findings, driver) or _doubt(findings, skips)
    elif not chosen.reason:
        reason = _doubt(findings, skips)
    elif chosen.verdict is Verdict.CLEAN and unsettled:
        reason = unsettled[0]
    else:
        return chosen
    return Judgement(verdict=Verdict.INCONCLUSIVE, reason=reason, score=score)


def _seen(findings: Sequence[Finding], *, structural_only: bool) -> Iterator[Judgement]:
    """Yield what was seen that is suspicious by itself: in the graph, then in the answers."""
    for structural in (True,) if structural_only else (True, False):
        for finding in findings:
            own = (finding.contribution.part is Part.STRUCTURAL) == structural
            worst = max(finding.observations, key=lambda o: o.severity, default=None)
            if own and worst is not None and worst.severity >= Severity.SUSPICIOUS:
                image = None if structural else worst.input
                yield Judgement(
                    verdict=Verdict.SUSPICIOUS,
                    reason=finding.reason,
                    score=1.0,
                    # Without a share of other images the change is about no single class.
                    target_class=image.class_after if image and image.success else None,
                )


def _unsettled(findings: Sequence[Finding], skips: Sequence[Skip]) -> Iterator[str]:
    """Yield what a model cannot be called clean over, whatever its statistics are."""
    if all(f.contribution.part is not Part.STRUCTURAL for f in findings):
        yield "no detector that ran looks at the graph and the file themselves"
    for finding in findings:
        for observation in finding.observations:
            if observation.severity is Severity.WARNING:
                yield observation.sentence
    yield from (f.reason for f in findings if f.unsearched and f.contribution.combined)
    yield from (skip.reason for skip in skips if skip.forbids_clean)


def among_own(rank: Rank, findings: Sequence[Finding], alpha: float) -> Judgement:
    """Return what clean models of a model's own recipe allow to be said of it.

    The reason is empty where they are too few, or no detector among them is decisive.
    """
    score = 1 - rank.place.p
    if accused(rank, alpha):
        return Judgement(
            verdict=Verdict.SUSPICIOUS,
            reason=_in_words(rank),
            score=score,
            target_class=rank.foremost,
        )
    if not (rank.decisive and enough(rank.models, alpha)):
        return Judgement(verdict=Verdict.INCONCLUSIVE, reason="", score=score)
    apart = next(_apart(findings, rank, alpha), None)
    verdict = Verdict.CLEAN if apart is None else Verdict.INCONCLUSIVE
    return Judgement(verdict=verdict, reason=apart or _in_words(rank), score=score)


def accused(rank: Rank, alpha: float) -> bool:
    """Whether a model stands so far out from clean ones of its recipe that it is suspicious."""
    return rank.place.p <= alpha and rank.place.size >= FAR


def advice(
    verdict: Verdict,
    findings: Sequence[Finding],
    populations: Sequence[Population],
    settings: Settings,
) -> Iterator[str]:
    """Yield what would make an answer stronger, in sentences, the most useful first."""
    seen = [f for f in findings if any(o.severity >= Severity.SUSPICIOUS for o in f.observations)]
    if verdict is Verdict.SUSPICIOUS and any(f.contribution.part is Part.STRUCTURAL for f in seen):
        yield (
            "to confirm, inspect what the setting `evidence` writes: the part of the graph as a "
            "small ONNX file, and the input that shows it where one was found"
        )
    elif verdict is Verdict.SUSPICIOUS and seen:
        yield (
            "to confirm, inspect what the setting `evidence` writes: an image before and after the "
            "change that turns it"
        )
    elif verdict is Verdict.SUSPICIOUS and any(f.evidence.trigger for f in findings):
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
    decisive = {f.rule.id for f in findings if f.contribution.decisive}
    for judge in populations:
        if judge.rule in decisive and (judge.reason or "").startswith(MEASURED_WITH):
            yield f"a scan that the {judge.source} can judge: {judge.reason}"
    # None of these goes with a baseline that was made without it.
    if not settings.has_images and any(f.contribution.images_help for f in findings):
        yield (
            "clean images of the kind that the model was trained on, 20 to 100 without labels (the "
            "setting `images_file` or the setting `images_folder`): triggers were searched for on "
            "noise, warps not at all, and those that send each class elsewhere only as patches"
        )
    more = f"{needed - known}{' more' if known else ''} clean models of the same recipe"
    yield (
        f"{more}, as the setting `references` or in a baseline (the function `calibrate`): with "
        f"{needed}, p can reach {settings.alpha:g}"
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
    times = f"{own.size:.2g} times as far out as the furthest"
    word = strength(own.size)
    return f", {_SAID[word]} them: {times}" if word else f", {times} of them"


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
    observations = (*measurement.observations, *comparison.observations)
    worst = max(observations, key=lambda o: o.severity, default=None)
    if worst is not None and worst.severity >= Severity.SUSPICIOUS:
        return Verdict.SUSPICIOUS, worst.sentence
    part = comparison.contribution.part
    if worst is not None and (
        part is Part.PREMISE or (part is Part.SEEN and worst.severity >= Severity.WARNING)
    ):
        return Verdict.INCONCLUSIVE, worst.sentence
    if not comparison.contribution.calibrated:
        return _observed(comparison, len(observations))
    half = half_searched(measurement)
    if half and not (own is not None and own.p <= alpha and own.size >= FAR):
        return Verdict.INCONCLUSIVE, half
    few = in_stages(measurement)
    said = f"{comparison.sentence}; " if comparison.sentence else ""
    if own is None or population is None:
        return Verdict.INCONCLUSIVE, said + (few or _uncalibrated(comparison, population))
    verdict, reason = _ranked(said, population, own, alpha)
    return (
        (Verdict.INCONCLUSIVE, said + few)
        if few and verdict is Verdict.CLEAN
        else (verdict, reason)
    )


def _observed(comparison: Comparison, notes: int) -> tuple[Verdict, str]:
    """Return what observations allow to be said of which none is suspicious."""
    if comparison.observations:
        worst = comparison.statistic
        same = worst is not None and worst < Severity.WARNING
        return (Verdict.CLEAN if same else Verdict.INCONCLUSIVE), comparison.sentence
    said = f"{comparison.sentence}; " if comparison.sentence else ""
    return Verdict.CLEAN, f"{said}nothing suspicious, {notes} note{'s' if notes != 1 else ''}"


def _ranked(said: str, population: Population, own: Place, alpha: float) -> tuple[Verdict, str]:
    """Return what a place among clean models allows to be said."""
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
    if comparison.statistic is None and len(comparison.evidence.classes) == _TWO:
        alone = "of two classes one always leads, so that nothing is said without a clean model"
        return f"{alone}: name one with the setting `references`"
    if comparison.statistic is None:
        return "there is no clean model to compare with: name one with the setting `references`"
    return "uncalibrated: one clean model shows a difference, not how much clean models differ"


def _driven(findings: Sequence[Finding], driver: Driver | None) -> str:
    """Say what drove the index: class, detector and figure; empty where there is none."""
    finding = next((f for f in findings if driver and f.rule.id == driver.rule), None)
    if driver is None or finding is None:
        return ""
    if finding.evidence.target_class == driver.class_id:
        return f"{driver.rule}: {finding.reason}"
    return (
        f"{driver.rule}: class {driver.class_id} stands out most, by {driver.value:.2g} times what "
        "clean networks of the shipped recipes reach"
    )


def _doubt(findings: Sequence[Finding], skips: Sequence[Skip]) -> str:
    reasons = [skip.reason for skip in skips]
    if shared := next((r for r in reasons if reasons.count(r) >= _MOST_OF_THEM), None):
        asked = ", ".join(f.rule.id for f in findings) or "nothing"
        return f"{shared}; what could be asked of it: {asked}"
    doubtful = [f for f in findings if f.verdict is Verdict.INCONCLUSIVE]
    decisive = [f for f in doubtful if f.contribution.decisive]
    if decisive or doubtful:
        return (decisive or doubtful)[0].reason
    if skips:
        return skips[0].reason
    return (
        "none of the detectors that ran can rule out a backdoor; leave out the setting "
        "`detectors`, so that all run"
    )
