"""What clean models allow to be said, and no more."""

import dataclasses

import pytest
from examples import neural_cleanse
from judged import clean, compared

from scanner.judging import ranks, verdict
from scanner.results import (
    Finding,
    Measurement,
    Observation,
    Population,
    Rule,
    Severity,
    Skip,
    Verdict,
)
from scanner.settings import Budget, Settings

QUICK = Settings()
RULE = Rule(id="neural_cleanse", name="N", summary="s", source="p")


def measured(severity: Severity | None = None) -> Measurement:
    seen = (
        ()
        if severity is None
        else (Observation(code="c", severity=severity, sentence="a gate was seen"),)
    )
    return Measurement(rule=RULE.id, statistic=1.0, parameters={}, observations=seen)


def judged(
    statistic: float | None,
    population: Population | None,
    severity: Severity | None = None,
    rule: Rule = RULE,
) -> Finding:
    return verdict.judge(rule, measured(severity), compared(rule.id, statistic), population, 0.05)


@pytest.mark.parametrize(
    ("statistic", "population", "expected", "words"),
    [
        (
            2.0,
            clean(20),
            Verdict.SUSPICIOUS,
            "class 3 is easy to reach; p = 0.0476 among 20 clean models (test), 3.1 times as far",
        ),
        (1.3, clean(20), Verdict.INCONCLUSIVE, "1.6 times as far out as the furthest of them"),
        (1.1, clean(20), Verdict.CLEAN, "1.2 times as far out as the furthest of them"),
        (0.5, clean(20), Verdict.CLEAN, "among 20 clean models"),
        (2.0, clean(5), Verdict.INCONCLUSIVE, "too few to reach 0.05"),
        (2.0, None, Verdict.INCONCLUSIVE, "one clean model shows a difference"),
        (None, None, Verdict.INCONCLUSIVE, "name one with the setting `references`"),
        (
            2.0,
            Population(rule="r", values=(), source="s", reason="it has another seed"),
            Verdict.INCONCLUSIVE,
            "another seed",
        ),
    ],
)
def test_one_verdict(
    statistic: float | None, population: Population | None, expected: Verdict, words: str
) -> None:
    finding = judged(statistic, population)
    assert finding.verdict is expected
    assert words in finding.reason


def test_an_observation_judges_itself() -> None:
    assert judged(None, None, Severity.SUSPICIOUS).verdict is Verdict.SUSPICIOUS
    assert judged(None, None, Severity.WARNING).verdict is Verdict.INCONCLUSIVE


def combine(
    *pairs: tuple[Finding, Population | None], failed: bool = False, doubts: tuple[str, ...] = ()
) -> verdict.Judgement:
    skips = [Skip(rule="x", reason="no images")]
    comparisons = [compared(f.rule.id, f.statistic) for f, _ in pairs]
    rank = ranks.together(comparisons, [n for _, n in pairs if n is not None])
    findings = [f for f, _ in pairs]
    return verdict.combine(findings, rank, skips, failed=failed, alpha=0.05, doubts=doubts)


def test_nothing_is_clean_beside_a_reference_that_is_doubted() -> None:
    guilty, innocent = judged(2.0, clean(20)), judged(0.5, clean(20))
    doubted = combine((innocent, clean(20)), doubts=("its twin is suspicious",))
    assert doubted.verdict is Verdict.INCONCLUSIVE
    assert doubted.reason == "its twin is suspicious"
    accused = combine((guilty, clean(20)), doubts=("its twin is suspicious",))
    assert accused.verdict is Verdict.SUSPICIOUS


def test_suspicion_outranks_doubt_outranks_innocence() -> None:
    guilty, innocent, doubtful = (
        judged(s, n) for s, n in ((2.0, clean(20)), (0.5, clean(20)), (2.0, None))
    )
    assert combine((guilty, clean(20)), failed=True).verdict is Verdict.SUSPICIOUS
    assert combine((innocent, clean(20)), failed=True).verdict is Verdict.INCONCLUSIVE
    assert combine((innocent, clean(20))).verdict is Verdict.CLEAN
    first = judged(1.1, clean(20))
    assert combine((first, clean(20))).verdict is Verdict.CLEAN
    further = judged(1.3, clean(20))
    assert combine((further, clean(20))).verdict is Verdict.INCONCLUSIVE
    assert combine((doubtful, None)).verdict is Verdict.INCONCLUSIVE
    assert combine().verdict is Verdict.INCONCLUSIVE
    assert combine((judged(None, None, Severity.CONFIRMED), None)).score == 1.0


HEAD = dataclasses.replace(RULE, id="head")


def together(
    masks: float, head: float, odd: float = 0.0
) -> tuple[list[Finding], verdict.Judgement]:
    """Judge two detectors, among 20 clean models of which one is the largest in either.

    Of one of these, `odd` is what the head says more.
    """
    mixed = [0.1 * ((7 * i) % 20) for i in range(20)]
    heads = [mixed[-1] + odd, *mixed[-2::-1]]
    population = [
        dataclasses.replace(
            clean(20, rule), values=tuple(values), classes=tuple(((3, v),) for v in values)
        )
        for rule, values in ((RULE.id, mixed), (HEAD.id, heads))
    ]
    found = (judged(masks, population[0]), judged(head, population[1], rule=HEAD))
    return list(found), combine(*zip(found, population, strict=True))


def test_two_that_agree_accuse_where_neither_does_alone() -> None:
    findings, judgement = together(2.6, 2.6)
    assert [f.verdict for f in findings] == [Verdict.INCONCLUSIVE, Verdict.INCONCLUSIVE]
    assert (judgement.verdict, judgement.target_class) == (Verdict.SUSPICIOUS, 3)
    said = "p = 0.0476 by neural_cleanse and head together, among 20 clean models (test)"
    assert judgement.reason.startswith(f"class 3 is easy to reach; {said}")


def test_a_class_beyond_every_clean_model_is_never_outvoted_into_clean() -> None:
    findings, judgement = together(4.0, 0.3, odd=50.0)
    assert [f.verdict for f in findings] == [Verdict.SUSPICIOUS, Verdict.CLEAN]
    assert (judgement.verdict, judgement.reason) == (Verdict.INCONCLUSIVE, findings[0].reason)


def test_one_that_ranks_first_by_little_is_outvoted() -> None:
    """One of several tests at 5 % is no verdict at 5 %; the answer names all that were combined."""
    findings, judgement = together(1.95, 0.3)
    assert [f.verdict for f in findings] == [Verdict.CLEAN, Verdict.CLEAN]
    assert (judgement.verdict, judgement.target_class) == (Verdict.CLEAN, None)
    assert "by neural_cleanse and head together" in judgement.reason
    assert (judgement.score or 1) < 0.95


def test_a_weak_detector_alone_calls_nothing_clean() -> None:
    weak = dataclasses.replace(
        judged(0.5, clean(20)), rule=dataclasses.replace(RULE, id="overactivation")
    )
    population = clean(20, "overactivation")
    judgement = combine((weak, population))
    assert judgement.verdict is Verdict.INCONCLUSIVE
    assert judgement.score == pytest.approx(1 - 11 / 21)


def test_advice_is_what_would_help() -> None:
    doubtful, guilty = judged(2.0, None), judged(2.0, clean(20))
    drawn = dataclasses.replace(guilty, evidence=neural_cleanse().evidence)

    def advice(
        finding: Finding, population: Population | None, settings: Settings = QUICK
    ) -> list[str]:
        return list(
            verdict.advice(finding.verdict, [finding], [population] if population else [], settings)
        )

    few, images, longer = advice(doubtful, None)
    assert few.startswith("19 clean models of the same recipe")
    assert "the setting `images_file`" in images
    assert "the setting `budget`" in longer
    other = Population(rule="overactivation", values=(0.0,) * 24, source="test")
    assert advice(doubtful, other)[0] == few
    assert advice(doubtful, clean(5))[0].startswith("14 more clean models")
    thorough = dataclasses.replace(
        QUICK, budget=Budget.THOROUGH, images_file="images.npz", alpha=0.01
    )
    (only,) = advice(doubtful, None, thorough)
    assert only.startswith("99 clean models")
    (look,) = advice(drawn, clean(20))
    assert "the setting `evidence`" in look
    assert advice(guilty, clean(20)) == [], "there is no trigger to inspect"


def test_a_cause_that_several_detectors_share_is_the_reason() -> None:
    finding = judged(None, None)
    cause = "the model has two inputs"
    skips = [Skip(rule=name, reason=cause) for name in ("a", "b", "c")]
    made = verdict.combine([finding], None, skips, failed=False, alpha=0.05)
    assert made.verdict is Verdict.INCONCLUSIVE
    assert made.reason == f"{cause}; what could be asked of it: neural_cleanse"
