"""Laws of the p-value, and what a baseline file refuses."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from examples import identity, overactivation
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.detection import ALL, beside_one, reached_alone, reached_beside_one
from scanner.errors import BaselineError
from scanner.judging import calibration
from scanner.judging.calibration import Baseline
from scanner.results import (
    Comparison,
    Finding,
    Measurement,
    ModelRecord,
    Nulls,
    Observation,
    Rule,
    Severity,
    Skip,
    Verdict,
)
from scanner.settings import Budget, Settings

FLOATS = st.floats(-1e6, 1e6)
QUICK = Settings()
RULE = Rule(id="neural_cleanse", name="N", summary="s", reference="p")


@given(value=FLOATS, clean=st.lists(FLOATS, min_size=1, max_size=40))
def test_p_is_never_below_what_the_population_allows(value: float, clean: list[float]) -> None:
    p = calibration.conformal_p(value, clean)
    assert 1 / (len(clean) + 1) <= p <= 1
    assert calibration.conformal_p(value + 1, clean) <= p


@pytest.mark.parametrize("detectors", [1, 3])
def test_p_is_uniform_for_a_clean_suspect(detectors: int) -> None:
    generator = np.random.default_rng(0)
    models, trials = 20, 2000
    ps = []
    for _ in range(trials):
        shared = generator.standard_normal((1, models))
        draws = (
            generator.standard_normal((detectors, models))
            * np.array([[1.0], [5.0], [0.1]])[:detectors]
            + shared
        )
        profiles = [[{"": value} for value in row] for row in draws.tolist()]
        ps.append(
            calibration.combined_p([row[0] for row in profiles], [row[1:] for row in profiles])[0]
        )
    for level in (0.05, 0.1, 0.25, 0.5):
        share = np.mean(np.array(ps) <= level + 1e-9)
        assert abs(share - level) < 4 * np.sqrt(level * (1 - level) / trials)


def profiles_of(generator: np.random.Generator, models: int) -> list[dict[str, float]]:
    return [
        {str(t): float(value) for t, value in enumerate(generator.standard_normal(4))}
        for _ in range(models)
    ]


def test_the_combination_names_the_foremost_class() -> None:
    generator = np.random.default_rng(1)
    clean = [profiles_of(generator, 20) for _ in range(2)]
    assert calibration.combined_p([{"0": 0.1}, {"0": 0.1, "2": 9.0}], clean) == (1 / 21, "2")
    # Two that agree on a class outweigh one that is louder about another.
    assert calibration.combined_p([{"3": 6.0}, {"3": 6.0, "1": 9.0}], clean) == (1 / 21, "3")


def test_detectors_that_find_one_class_speak_together() -> None:
    """Neither detector alone sets the suspect apart; what both say of one class does, of two classes does not."""
    generator = np.random.default_rng(2)
    clean = [profiles_of(generator, 40) for _ in range(2)]
    large = [sorted(max(profile.values()) for profile in row)[-2] for row in clean]
    same = [{"3": large[0]}, {"3": large[1]}]
    apart = [{"3": large[0]}, {"1": large[1]}]
    assert calibration.combined_p(same, clean)[0] < calibration.combined_p(apart, clean)[0]
    assert calibration.combined_p(same, clean)[0] == 1 / 41


def measured(severity: Severity | None = None) -> Measurement:
    seen = (
        ()
        if severity is None
        else (Observation(code="c", severity=severity, sentence="a gate was seen"),)
    )
    return Measurement(rule=RULE.id, statistic=1.0, parameters={}, observations=seen)


def judged(
    statistic: float | None,
    nulls: Nulls | None,
    severity: Severity | None = None,
    rule: Rule = RULE,
) -> Finding:
    return calibration.judge(rule, measured(severity), compared(rule.id, statistic), nulls, 0.05)


def clean(count: int, rule: str = RULE.id) -> Nulls:
    values = np.linspace(0, 1, count).tolist()
    return Nulls(
        rule=rule,
        values=tuple(values),
        classes=tuple({"3": v} for v in values),
        models=tuple(map(str, range(count))),
        source="test",
    )


@pytest.mark.parametrize(
    ("statistic", "nulls", "verdict", "words"),
    [
        (
            2.0,
            clean(20),
            Verdict.SUSPICIOUS,
            "class 3 is easy to reach; p = 0.0476 among 20 clean models",
        ),
        (0.5, clean(20), Verdict.CLEAN, "among 20 clean models"),
        (2.0, clean(5), Verdict.INCONCLUSIVE, "too few to reach 0.05"),
        (2.0, None, Verdict.INCONCLUSIVE, "one clean model shows a difference"),
        (None, None, Verdict.INCONCLUSIVE, "name one with --reference"),
        (
            2.0,
            Nulls(rule="r", values=(), source="s", reason="it has another seed"),
            Verdict.INCONCLUSIVE,
            "another seed",
        ),
    ],
)
def test_one_verdict(
    statistic: float | None, nulls: Nulls | None, verdict: Verdict, words: str
) -> None:
    finding = judged(statistic, nulls)
    assert finding.verdict is verdict
    assert words in finding.reason


def test_an_observation_judges_itself() -> None:
    assert judged(None, None, Severity.SUSPICIOUS).verdict is Verdict.SUSPICIOUS
    assert judged(None, None, Severity.WARNING).verdict is Verdict.INCONCLUSIVE


def combine(*pairs: tuple[Finding, Nulls | None], failed: bool = False) -> calibration.Judgement:
    skips = [Skip(rule="x", reason="no images")]
    comparisons = [compared(f.rule.id, f.statistic) for f, _ in pairs]
    rank = calibration.together(comparisons, [n for _, n in pairs if n is not None])
    return calibration.combine([f for f, _ in pairs], rank, skips, failed=failed, alpha=0.05)


def test_suspicion_outranks_doubt_outranks_innocence() -> None:
    guilty, innocent, doubtful = (
        judged(s, n) for s, n in ((2.0, clean(20)), (0.5, clean(20)), (2.0, None))
    )
    assert combine((guilty, clean(20)), failed=True).verdict is Verdict.SUSPICIOUS
    assert combine((innocent, clean(20)), failed=True).verdict is Verdict.INCONCLUSIVE
    assert combine((innocent, clean(20))).verdict is Verdict.CLEAN
    assert combine((doubtful, None)).verdict is Verdict.INCONCLUSIVE
    assert combine().verdict is Verdict.INCONCLUSIVE
    assert combine((judged(None, None, Severity.CONFIRMED), None)).score == 1.0


HEAD = dataclasses.replace(RULE, id="head")


def together(masks: float, head: float) -> tuple[list[Finding], calibration.Judgement]:
    """Judge two detectors, among 20 clean models of which one is the largest in either."""
    mixed = [0.1 * ((7 * i) % 20) for i in range(20)]
    nulls = [
        dataclasses.replace(
            clean(20, rule), values=tuple(values), classes=tuple({"3": v} for v in values)
        )
        for rule, values in ((RULE.id, mixed), (HEAD.id, mixed[::-1]))
    ]
    found = (judged(masks, nulls[0]), judged(head, nulls[1], rule=HEAD))
    return list(found), combine(*zip(found, nulls, strict=True))


def test_two_that_agree_accuse_where_neither_does_alone() -> None:
    findings, judgement = together(1.85, 1.85)
    assert [f.verdict for f in findings] == [Verdict.CLEAN, Verdict.CLEAN]
    assert (judgement.verdict, judgement.target_class) == (Verdict.SUSPICIOUS, 3)
    said = "p = 0.0476 by neural_cleanse and head together, among 20 clean models (test)"
    assert judgement.reason == f"class 3 is easy to reach; {said}"


def test_one_that_accuses_is_outvoted() -> None:
    """One of several tests at 5 % is no verdict at 5 %; the answer says so, and does not call it silence."""
    findings, judgement = together(1.95, 0.3)
    assert [f.verdict for f in findings] == [Verdict.SUSPICIOUS, Verdict.CLEAN]
    assert (judgement.verdict, judgement.target_class) == (Verdict.CLEAN, None)
    assert "by neural_cleanse and head together" in judgement.reason
    assert (judgement.score or 1) < 0.95


def test_other_clean_models_for_each_detector_are_no_population() -> None:
    comparisons = [compared(RULE.id, 2.0), compared("head", 2.0)]
    same, other = (
        clean(20, "head"),
        dataclasses.replace(clean(20, "head"), models=tuple("abcdefghijklmnopqrst")),
    )
    assert calibration.together(comparisons, [clean(20), same]) is not None
    assert calibration.together(comparisons, [clean(20), other]) is None


def test_a_weak_detector_alone_calls_nothing_clean() -> None:
    weak = dataclasses.replace(
        judged(0.5, clean(20)), rule=dataclasses.replace(RULE, id="overactivation")
    )
    nulls = dataclasses.replace(clean(20), rule="overactivation")
    judgement = combine((weak, nulls))
    assert judgement.verdict is Verdict.INCONCLUSIVE
    assert judgement.score == pytest.approx(1 - 11 / 21)


def record() -> ModelRecord:
    finding = overactivation()
    series = {"maxima": finding.evidence["suspect"], "pictures": {"7": "large"}}
    measurement = Measurement(
        rule="overactivation", statistic=1.0, parameters=finding.parameters, series=series
    )
    return ModelRecord(
        model=identity("a.onnx"), measurements=(measurement,), skips=(), failures=(), runtime=None
    )


@pytest.fixture
def baseline() -> Baseline:
    return Baseline(
        name="n", provenance="made here", records=(calibration.without_pictures(record()),)
    )


def test_a_baseline_survives_its_file(baseline: Baseline, tmp_path: Path) -> None:
    path = tmp_path / "b.json"
    path.write_text(calibration.write_baseline(baseline))
    assert calibration.read_baseline(path) == baseline
    assert "pictures" not in path.read_text()


DAMAGE: dict[str, tuple[Callable[[str], str], str]] = {
    "truncated": (lambda text: text[:-100], "it is no JSON"),
    "edited": (lambda text: text.replace('"name": "n"', '"name": "m"'), "was edited or damaged"),
    "another schema": (
        lambda text: text.replace('"schema": 1', '"schema": 99'),
        "is not of schema 1",
    ),
    "not a number": (
        lambda text: text.replace('"statistic": 1.0', '"statistic": NaN'),
        "it is no JSON",
    ),
    "no baseline at all": (lambda _: "[]", "is not of schema 1"),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_baseline_is_refused(kind: str, baseline: Baseline, tmp_path: Path) -> None:
    change, message = DAMAGE[kind]
    path = tmp_path / "b.json"
    path.write_text(change(calibration.write_baseline(baseline)))
    with pytest.raises(BaselineError, match=message):
        calibration.read_baseline(path)


def test_a_missing_baseline_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(BaselineError, match="scan calibrate"):
        calibration.read_baseline(tmp_path / "none.json")


def test_a_baseline_speaks_only_of_its_architecture(baseline: Baseline) -> None:
    known = baseline.records[0].model
    assert calibration.mismatch(baseline.records, known) is None
    assert (
        calibration.mismatch(baseline.records, dataclasses.replace(known, architecture="other"))
        is not None
    )


def test_other_parameters_are_named(baseline: Baseline) -> None:
    own = baseline.records[0].measurements[0]
    assert calibration.difference(own, [own]) is None
    other = dataclasses.replace(own, parameters={**own.parameters, "seed": 5})
    assert calibration.difference(other, [own]) == "it was measured with seed 0, not 5"
    elsewhere = dataclasses.replace(own, parameters={**own.parameters, "provider": "CUDA"})
    assert calibration.difference(elsewhere, [own]) is None


NAMES: dict[str, object] = {"layer": "StatefulPartitionedCall/conv/Relu:0", "logits": "Identity:0", "cut": ["Softmax"],
                           "dtype": "float16"}  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_another_export_of_one_network_fits_its_baseline(name: str, baseline: Baseline) -> None:
    own = baseline.records[0].measurements[0]
    known = dataclasses.replace(own, parameters={**own.parameters, "dtype": "float32"})
    other = dataclasses.replace(known, parameters={**known.parameters, name: NAMES[name]})
    assert calibration.difference(other, [known]) is None


def test_a_layer_that_was_asked_for_is_another_measurement(baseline: Baseline) -> None:
    own = baseline.records[0].measurements[0]
    asked = dataclasses.replace(own, parameters={**own.parameters, "asked_layer": "deep"})
    assert (
        calibration.difference(asked, [own]) == "it was measured with asked_layer None, not 'deep'"
    )


def compared(
    rule: str, statistic: float | None, lead: float | None = None, target: str = "3"
) -> Comparison:
    knows_classes = rule in calibration.COMBINED
    classes = {target: statistic, "9": -1.0} if statistic is not None and knows_classes else {}
    return Comparison(
        rule=rule,
        statistic=statistic,
        values={"lead": lead, "target_class": int(target) if target.isdigit() else None},
        classes=classes,
        sentence="class 3 is easy to reach",
    )


def test_the_index_is_in_units_of_what_clean_networks_reach() -> None:
    reach, alone = calibration.BESIDE_ONE, calibration.ALONE
    assert calibration.index([]) is None
    assert calibration.index([compared("overactivation", 99.0)]) is None
    assert calibration.index([compared("head", None)]) is None
    assert calibration.index(
        [compared(rule, None, limit) for rule, limit in alone.items()]
    ) == pytest.approx(1)
    agreed = [compared(rule, limit) for rule, limit in reach.items()]
    assert calibration.index(agreed) == pytest.approx(len(reach) / calibration.TOGETHER)
    divided = [compared(rule, limit, target=rule) for rule, limit in reach.items()]
    assert calibration.index(divided) == pytest.approx(1 / calibration.TOGETHER)
    # What one detector compared outweighs the lead of another: with a reference, differences are
    # evidence.
    mixed = [compared("head", None, 99.0), compared("mm_bd", 3 * reach["mm_bd"])]
    assert calibration.index(mixed) == pytest.approx(3 / calibration.TOGETHER)


def test_the_reach_is_that_of_the_shipped_baselines() -> None:
    baselines = [
        calibration.read_baseline(path).records for path in calibration.SHIPPED.glob("*.json")
    ]
    beside = [found for records in baselines if (found := reached_beside_one(beside_one(records)))]
    alone = [reached_alone(records) for records in baselines]
    for rule in calibration.COMBINED:
        assert calibration.BESIDE_ONE[rule] == pytest.approx(
            max(found[rule] for found in beside), abs=0.005
        )
        assert calibration.ALONE[rule] == pytest.approx(
            max(found[rule] for found in alone), abs=0.005
        )
    # In units of its own largest: the index of a clean network beside one other reaches 1.
    assert max(found[ALL] for found in beside) == pytest.approx(1, abs=0.005)


def test_who_stands_apart() -> None:
    def pair(statistic: float, rule: str = "head") -> tuple[Comparison, Nulls]:
        return compared(rule, statistic), dataclasses.replace(clean(20), rule=rule)

    assert calibration.stands_apart([pair(9.0)])
    assert calibration.stands_apart([pair(9.0), pair(0.5, "mm_bd")])
    # The clean ones reach 1 about a median of 0.5: twice as far out is 1.5.
    assert not calibration.stands_apart([pair(1.0)])
    assert not calibration.stands_apart([pair(1.45)])
    assert calibration.stands_apart([pair(1.6)])
    assert not calibration.stands_apart([pair(9.0, "overactivation")])
    assert not calibration.stands_apart([])


def test_advice_is_what_would_help() -> None:
    doubtful, guilty = judged(2.0, None), judged(2.0, clean(20))

    def advice(finding: Finding, nulls: Nulls | None, settings: Settings = QUICK) -> list[str]:
        return list(
            calibration.advice(finding.verdict, [finding], [nulls] if nulls else [], settings)
        )

    few, images, longer = advice(doubtful, None)
    assert few.startswith("19 clean models of the same recipe")
    assert "--images-npz" in images
    assert "--budget standard" in longer
    other = Nulls(rule="overactivation", values=(0.0,) * 24, source="test")
    assert advice(doubtful, other)[0] == few
    assert advice(doubtful, clean(5))[0].startswith("14 more clean models")
    thorough = dataclasses.replace(
        QUICK, budget=Budget.THOROUGH, images_file="images.npz", alpha=0.01
    )
    (only,) = advice(doubtful, None, thorough)
    assert only.startswith("99 clean models")
    (look,) = advice(guilty, clean(20))
    assert "--evidence" in look


def test_every_shipped_baseline_can_be_read() -> None:
    for path in calibration.SHIPPED.glob("*.json"):
        shipped = calibration.read_baseline(path)
        assert len(shipped.records) >= 19, "fewer clean models cannot reach p = 0.05"
        assert {r.model.architecture for r in shipped.records} == {path.stem.rpartition("-")[2]}
        assert json.loads(path.read_text())["provenance"]


@pytest.mark.parametrize("rules", [(), ("head",)], ids=["all rules", "one rule"])
def test_a_baseline_of_another_form_is_refused_though_its_checksum_fits(
    rules: tuple[str, ...], tmp_path: Path
) -> None:
    body = json.dumps({"records": ["x"]}, sort_keys=True)
    path = tmp_path / "b.json"
    path.write_text(
        json.dumps({"schema": 1, "checksum": calibration._checksum(body), "records": ["x"]})
    )
    with pytest.raises(BaselineError, match="written by another version"):
        calibration.read_baseline(path, rules)
