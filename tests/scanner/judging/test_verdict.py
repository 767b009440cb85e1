"""What clean models allow to be said, and no more."""

import dataclasses
from collections.abc import Sequence

import pytest
from examples import neural_cleanse
from hypothesis import given
from hypothesis import strategies as st
from judged import COMBINED, PARTS, clean, compared

from scanner.judging import ranks, verdict
from scanner.results import (
    Array,
    ByClass,
    ClassDifference,
    ClassRow,
    Comparison,
    Contest,
    Evidence,
    Finding,
    Input,
    Lead,
    Measurement,
    Observation,
    Population,
    Rule,
    Severity,
    Skip,
    Stages,
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
            "; p = 0.0476 among 20 clean models (test), far beyond them: 3.1 times as far",
        ),
        (
            1.3,
            clean(20),
            Verdict.INCONCLUSIVE,
            ", apart from them: 1.6 times as far out as",
        ),
        (1.1, clean(20), Verdict.CLEAN, ", beyond them: 1.2 times as far out as"),
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
    assert judged(None, None, Severity.WARNING, SWEEP).verdict is Verdict.INCONCLUSIVE
    silent = judged(0.1, None, rule=SWEEP)
    assert silent.verdict is Verdict.CLEAN
    assert silent.reason == "class 3 is easy to reach; nothing suspicious, 0 notes"


GRAPH = Rule(id="graph_logic", name="G", summary="s", source="p")


def combine(
    *pairs: tuple[Finding, Population | None],
    failed: bool = False,
    doubts: tuple[str, ...] = (),
    skips: Sequence[Skip] = (Skip(rule="x", reason="no images"),),
    structural: Sequence[Finding] = (judged(None, None, rule=GRAPH),),
) -> verdict.Judgement:
    comparisons = [compared(f.rule.id, f.statistic) for f, _ in pairs]
    rank = ranks.together(comparisons, [n for _, n in pairs if n is not None])
    findings = [*(f for f, _ in pairs), *structural]
    return verdict.combine(findings, rank, skips, failed=failed, settings=Settings(), doubts=doubts)


def test_nothing_is_clean_beside_a_reference_that_is_doubted() -> None:
    guilty, innocent = judged(2.0, clean(20)), judged(0.5, clean(20))
    doubted = combine((innocent, clean(20)), doubts=("its twin is suspicious",))
    assert doubted.verdict is Verdict.INCONCLUSIVE
    assert doubted.reason == "its twin is suspicious"
    accused = combine((guilty, clean(20)), doubts=("its twin is suspicious",))
    assert accused.verdict is Verdict.SUSPICIOUS


def test_what_the_structure_leaves_open_is_not_clean() -> None:
    innocent, guilty = (judged(0.5, clean(20)), clean(20)), (judged(2.0, clean(20)), clean(20))
    assert combine(innocent).verdict is Verdict.CLEAN
    warned = [judged(None, None, Severity.WARNING, rule=GRAPH)]
    noted = [judged(None, None, Severity.NOTE, rule=GRAPH)]
    blind = [Skip(rule="head", reason="a Where makes the logits", forbids_clean=True)]
    assert combine(innocent, structural=noted).verdict is Verdict.CLEAN
    for judgement, words in (
        (combine(innocent, structural=warned), "a gate was seen"),
        (combine(innocent, skips=blind), "a Where makes the logits"),
        (combine(innocent, structural=()), "no detector that ran looks at the graph"),
    ):
        assert judgement.verdict is Verdict.INCONCLUSIVE
        assert words in judgement.reason
    assert combine(guilty, structural=warned, skips=blind).verdict is Verdict.SUSPICIOUS


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
    assert combine(structural=()).verdict is Verdict.INCONCLUSIVE
    assert combine((judged(None, None, Severity.CONFIRMED), None)).score == 1.0


SWEEP = Rule(id="patch_sweep", name="P", summary="s", source="p")
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


def test_advice_is_about_what_made_the_verdict() -> None:
    drawn = dataclasses.replace(judged(0.5, clean(20)), evidence=neural_cleanse().evidence)
    gate = judged(None, None, Severity.CONFIRMED, rule=GRAPH)
    first = next(verdict.advice(Verdict.SUSPICIOUS, [drawn, gate], [], QUICK))
    assert "a small ONNX file" in first
    assert "mask" not in first
    seen = judged(None, None, Severity.SUSPICIOUS, rule=SWEEP)
    (look, *_) = verdict.advice(Verdict.SUSPICIOUS, [drawn, seen], [], QUICK)
    assert "an image before and after" in look


def test_advice_is_what_would_help() -> None:
    doubtful, guilty = judged(2.0, None), judged(2.0, clean(20))
    drawn = dataclasses.replace(guilty, evidence=neural_cleanse().evidence)

    def advice(
        finding: Finding, population: Population | None, settings: Settings = QUICK
    ) -> list[str]:
        return list(
            verdict.advice(finding.verdict, [finding], [population] if population else [], settings)
        )

    images, few, longer = advice(doubtful, None)
    assert few.startswith("19 clean models of the same recipe")
    assert "the setting `images_file`" in images
    assert "the setting `budget`" in longer
    other = Population(rule="overactivation", values=(0.0,) * 24, source="test")
    assert advice(doubtful, other)[1] == few
    assert advice(doubtful, clean(5))[1].startswith("14 more clean models")
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
    made = verdict.combine([finding], None, skips, failed=False, settings=Settings())
    assert made.verdict is Verdict.INCONCLUSIVE
    assert made.reason == f"{cause}; what could be asked of it: neural_cleanse"


SAID = st.dictionaries(
    st.sampled_from(sorted(COMBINED)),
    st.lists(st.floats(-5, 5), min_size=4, max_size=4),
    min_size=1,
)


def said(rule: str, figures: list[float], *, alone: bool) -> Comparison:
    """What a detector says of four classes: beside a reference, or of its own model's lead."""
    foremost = max(range(4), key=lambda t: figures[t])
    second, first = sorted(figures)[-2:]
    rows = tuple(
        ClassDifference(class_id=t, suspect=1.0, above=None if alone else figures[t])
        for t in range(4)
    )
    return Comparison(
        rule=rule,
        statistic=None if alone else first,
        contribution=PARTS[rule],
        sentence=f"class {foremost} has {figures[foremost]:.3f}",
        evidence=Evidence(
            target_class=foremost,
            lead=Lead(class_id=foremost, distance=first - second),
            classes=rows,
        ),
    )


@given(figures=SAID, alone=st.booleans())
def test_the_reason_is_about_what_drove_the_index(
    figures: dict[str, list[float]], alone: bool
) -> None:
    """Class and detector are those whose contribution to the index is the largest."""
    comparisons = [said(rule, each, alone=alone) for rule, each in figures.items()]
    driver = ranks.driver(comparisons)
    assert driver is not None
    if alone:
        leads = {c.rule: c.evidence.lead for c in comparisons}
        part = {
            rule: lead.distance / (PARTS[rule].alone or 1) for rule, lead in leads.items() if lead
        }
        expected = leads[driver.rule]
        assert expected is not None
        assert driver.class_id == expected.class_id
    else:
        part = {
            rule: e[driver.class_id] / (PARTS[rule].beside_one or 1) for rule, e in figures.items()
        }
    assert part[driver.rule] == pytest.approx(max(part.values()))
    assert driver.value == pytest.approx(part[driver.rule])
    findings = [
        verdict.judge(dataclasses.replace(RULE, id=c.rule), measured(), c, None, 0.05)
        for c in comparisons
    ]
    judgement = verdict.combine(
        findings, None, (), failed=False, settings=Settings(), driver=driver
    )
    assert judgement.verdict is Verdict.INCONCLUSIVE
    assert judgement.reason.startswith(f"{driver.rule}: ")
    assert f"class {driver.class_id} " in judgement.reason


@given(figures=st.lists(st.lists(st.floats(-5, 5), min_size=4, max_size=4), min_size=3, max_size=3))
def test_the_reason_of_a_rank_is_about_what_drove_it(figures: list[list[float]]) -> None:
    comparisons = [
        said(rule, each, alone=False) for rule, each in zip(sorted(COMBINED), figures, strict=True)
    ]
    populations = [clean(20, c.rule) for c in comparisons]
    rank = ranks.together(comparisons, populations)
    assert rank is not None
    assert rank.foremost is not None
    assert f"class {rank.foremost} " in rank.sentence


def half(left_out: tuple[int, ...]) -> Measurement:
    """A search of two classes that had no time for others."""
    rows = tuple(ClassRow(class_id=t, figure=9.0, course=(9.0,)) for t in range(2))
    contest = Contest(planned=100, round=25, finalists=2, granted=(), left_out=left_out)
    profile = ByClass(classes=2 + len(left_out), rows=rows, contest=contest)
    return Measurement(rule=RULE.id, statistic=1.0, parameters={}, by_class=profile)


@pytest.mark.parametrize(
    ("left_out", "words"),
    [
        ((2,), "the time ran out before class 2 had a turn"),
        ((2, 3), "the time ran out before classes 2, 3 had a turn"),
        (tuple(range(2, 1000)), "the time ran out before 998 of 1000 classes had a turn"),
    ],
)
def test_half_a_search_is_said_and_never_clean(left_out: tuple[int, ...], words: str) -> None:
    found = {
        statistic: verdict.judge(
            RULE, half(left_out), compared(RULE.id, statistic), clean(20), 0.05
        )
        for statistic in (0.5, 1.3, 2.0)
    }
    assert [f.left_out for f in found.values()] == [len(left_out)] * 3
    assert [f.verdict for f in found.values()] == [
        Verdict.INCONCLUSIVE,
        Verdict.INCONCLUSIVE,
        Verdict.SUSPICIOUS,
    ]
    assert found[0.5].reason.startswith(words)
    judgement = combine((found[0.5], clean(20)))
    assert (judgement.verdict, judgement.reason) == (Verdict.INCONCLUSIVE, found[0.5].reason)
    assert combine((found[2.0], clean(20))).verdict is Verdict.SUSPICIOUS
    alone = verdict.combine([found[0.5]], None, (), failed=False, settings=Settings())
    assert alone.reason == found[0.5].reason


def in_stages(first: int, drawn: int, classes: int = 1000) -> Measurement:
    """A search of a few of many classes."""
    chosen = tuple(range(first + drawn))
    rows = tuple(ClassRow(class_id=t, figure=9.0, course=(9.0,)) for t in chosen)
    found = Stages(images=8, foremost=chosen[:first], controls=chosen[first:])
    contest = Contest(planned=100, round=25, finalists=2, granted=(), stages=found)
    profile = ByClass(classes=classes, rows=rows, contest=contest)
    return Measurement(rule=RULE.id, statistic=1.0, parameters={}, by_class=profile)


@pytest.mark.parametrize(
    ("first", "drawn", "words"),
    [
        (3, 3, "6 of 1,000 were searched, the 3 that stand out most without a search and 3 drawn"),
        (1, 0, "1 of 1,000 were searched, the one that stands out most without a search; of the "),
    ],
)
def test_a_few_searched_classes_are_said_and_never_clean(
    first: int, drawn: int, words: str
) -> None:
    measurement = in_stages(first, drawn)
    found = {
        statistic: verdict.judge(RULE, measurement, compared(RULE.id, statistic), clean(20), 0.05)
        for statistic in (0.5, 2.0)
    }
    assert [f.unsearched for f in found.values()] == [1000 - first - drawn] * 2
    assert [f.verdict for f in found.values()] == [Verdict.INCONCLUSIVE, Verdict.SUSPICIOUS]
    assert words in found[0.5].reason
    assert f"of the other {1000 - first - drawn} it is known only" in found[0.5].reason
    alone = verdict.judge(RULE, measurement, compared(RULE.id, 1.0), None, 0.05)
    assert words in alone.reason
    assert verdict.unsearched(half((2,))) == 0


def test_stages_of_all_classes_leave_nobody_unsearched() -> None:
    whole = in_stages(0, 0)
    assert (verdict.unsearched(whole), verdict.in_stages(whole)) == (0, "")


def test_a_note_beside_a_statistic_is_no_structural_finding() -> None:
    finding = verdict.judge(RULE, measured(Severity.NOTE), compared(RULE.id, 2.0), clean(20), 0.05)
    judgement = combine((finding, clean(20)))
    assert (judgement.verdict, judgement.target_class) == (Verdict.SUSPICIOUS, 3)
    assert (judgement.score or 1) < 1


def test_what_is_no_classifier_is_not_ranked_but_a_gate_is_a_gate() -> None:
    premise = dataclasses.replace(RULE, id="classifier")
    unmet = judged(None, None, Severity.WARNING, premise)
    assert unmet.verdict is Verdict.INCONCLUSIVE
    guilty = judged(2.0, clean(20))
    judgement = verdict.combine(
        [guilty, unmet], ranks.together([compared(RULE.id, 2.0)], [clean(20)]), (),
        failed=False, settings=Settings(),
    )  # fmt: skip
    assert (judgement.verdict, judgement.score) == (Verdict.INCONCLUSIVE, None)
    assert judgement.reason == unmet.reason
    gate = judged(None, None, Severity.CONFIRMED, rule=GRAPH)
    both = verdict.combine([gate, unmet], None, (), failed=False, settings=Settings())
    assert both.verdict is Verdict.SUSPICIOUS


def test_a_trigger_that_was_seen_accuses_a_classifier_and_nothing_else() -> None:
    blind = judged(None, None, Severity.SUSPICIOUS, rule=SWEEP)
    image = Input(image=Array.packed(bytes(4), (1,)), low=0.0, high=1.0, class_after=7, success=0.9)
    pictured = dataclasses.replace(blind.observations[0], input=image)
    seen = dataclasses.replace(blind, observations=(pictured,))
    of_no_class = dataclasses.replace(image, success=None)
    elsewhere = dataclasses.replace(pictured, input=of_no_class)
    moved = dataclasses.replace(blind, observations=(elsewhere,))
    innocent = judged(0.5, clean(20))
    assert combine((innocent, clean(20)), structural=[blind]).target_class is None
    assert combine((innocent, clean(20)), structural=[moved]).target_class is None
    accused = combine((innocent, clean(20)), structural=[seen])
    assert (accused.verdict, accused.target_class) == (Verdict.SUSPICIOUS, 7)
    assert accused.reason == "a gate was seen"
    gate = dataclasses.replace(
        judged(None, None, Severity.CONFIRMED, rule=GRAPH), reason="the graph first"
    )
    assert combine((innocent, clean(20)), structural=[seen, gate]).reason == "the graph first"
    unmet = judged(None, None, Severity.WARNING, dataclasses.replace(RULE, id="classifier"))
    untrained = combine((innocent, clean(20)), structural=[seen, unmet])
    assert (untrained.verdict, untrained.reason) == (Verdict.INCONCLUSIVE, unmet.reason)
