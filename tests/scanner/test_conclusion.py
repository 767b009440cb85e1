"""An examination becomes a result: nothing that was found or that failed is lost on the way."""

import dataclasses

import pytest
from examples import identity
from hypothesis import given
from hypothesis import strategies as st
from judged import clean, compared

from scanner import conclusion
from scanner.errors import MalformedModelError, ScannerError, UnsafeModelError
from scanner.judging.population import MEASURED_WITH
from scanner.protocol import Examination, Source
from scanner.results import (
    Basis,
    ByClass,
    ClassDifference,
    ClassRow,
    Comparison,
    Contest,
    Evidence,
    Failure,
    InputRange,
    Measurement,
    ModelRecord,
    Observation,
    Population,
    Rule,
    Severity,
    Skip,
    Stages,
    Verdict,
)
from scanner.settings import Settings

NAMES = ("neural_cleanse", "head", "mm_bd", "graph_logic")
SOURCE = Source(name="a.onnx", path="/models/a.onnx")
FAILURE = Failure(rule="model", error=MalformedModelError("it is cut", remedy="get it").to_dict())


def _record(path: str, *failures: Failure, skips: tuple[Skip, ...] = ()) -> ModelRecord:
    return ModelRecord(
        model=identity(path),
        measurements=tuple(Measurement(rule=r, statistic=1.0, parameters={}) for r in NAMES),
        skips=skips,
        failures=failures,
        runtime=None,
    )


def _examined(statistic: float, references: tuple[ModelRecord, ...] = ()) -> Examination:
    return Examination(
        suspect=_record("a.onnx", skips=(Skip(rule="ulp", reason="no gradients"),)),
        references=references,
        comparisons=tuple(compared(rule, statistic) for rule in NAMES),
        populations=tuple(clean(20, rule) for rule in NAMES),
        rules=tuple(Rule(id=r, name=r, summary="s", source="p") for r in NAMES),
        warnings=("a warning",),
    )


def _alone(rule: str) -> Comparison:
    """What a detector says of a model that stands alone: class 3 stands out of it."""
    said = compared(rule, 9.0)
    rows = tuple(
        ClassDifference(class_id=one, suspect=1.0, ahead=9.0 if one == 3 else 0.0)
        for one in range(5)
    )
    return dataclasses.replace(said, evidence=dataclasses.replace(said.evidence, classes=rows))


@pytest.mark.parametrize(("share", "common"), [(0.75, 0.75), (0.05, None)])
def test_a_class_that_is_much_of_the_images_is_told_to_the_verdict(
    share: float, common: float | None
) -> None:
    """Among networks of other recipes, of a model that stands alone."""
    searched = Measurement(
        rule="neural_cleanse",
        statistic=None,
        parameters={"images": 60, "held_back": 4},
        by_class=ByClass(
            classes=5,
            rows=tuple(
                ClassRow(class_id=one, course=(None,), answered=share if one == 3 else 0.05)
                for one in range(5)
            ),
        ),
    )
    examined = _examined(1.0)
    suspect = dataclasses.replace(examined.suspect, measurements=(searched,))
    examined = dataclasses.replace(examined, suspect=suspect)
    settings = Settings(images_file="images.npz")
    found = conclusion._stranger((_alone("neural_cleanse"),), examined, settings)
    assert found is not None
    assert (found.driven, found.common) == (3, common)


@given(st.floats(-10, 10))
def test_findings_skips_and_failures_are_all_kept(statistic: float) -> None:
    failing = _record("b.onnx", FAILURE)
    result = conclusion.judged(_examined(statistic, (failing,)), Settings(), 1.0)
    assert [finding.rule.id for finding in result.findings] == list(NAMES)
    assert [skip.rule for skip in result.skips] == ["ulp"]
    (failure,) = result.failures
    assert failure.sentence == "the reference 'b.onnx': it is cut; get it."
    assert result.verdict is not Verdict.CLEAN, "a failure is no innocence"
    assert result.warnings[-1] == "a warning"


def test_further_out_is_more_suspicious() -> None:
    near, far = (conclusion.judged(_examined(s), Settings(), 1.0) for s in (0.5, 9.0))
    assert (near.verdict, far.verdict) == (Verdict.CLEAN, Verdict.SUSPICIOUS)
    assert far.target_class == 3
    assert near.calibration == "20 clean models (test: the same input, classes and weight shapes)"


def _staged(*, compared: bool) -> Examination:
    """One in which the first detector searched one class of four."""
    examination = _examined(0.5)
    row = ClassRow(class_id=0, figure=1.0, course=(1.0,))
    stages = Stages(images=8, foremost=(0,))
    contest = Contest(planned=100, round=25, finalists=1, stages=stages)
    profile = ByClass(classes=4, rows=(row,), contest=contest)
    first, *others = examination.suspect.measurements
    own = dataclasses.replace(first, by_class=profile)
    suspect = dataclasses.replace(examination.suspect, measurements=(own, *others))
    comparisons = examination.comparisons
    if not compared:
        alone = [dataclasses.replace(c, evidence=Evidence()) for c in comparisons]
        comparisons = tuple(alone)
    return dataclasses.replace(examination, suspect=suspect, comparisons=comparisons)


@pytest.mark.parametrize("compared", [True, False])
def test_a_few_searched_classes_beside_no_model_rank_nothing(compared: bool) -> None:
    result = conclusion.judged(_staged(compared=compared), Settings(), 1.0)
    assert result.verdict is Verdict.INCONCLUSIVE
    assert [f.unsearched for f in result.findings] == [3, 0, 0, 0]
    assert (result.index is not None) == compared


def test_beside_half_a_search_what_is_whole_is_judged_by_other_recipes() -> None:
    """But nothing is called clean by it."""
    examination = dataclasses.replace(_staged(compared=True), populations=())
    beside = dataclasses.replace(examination, references=(_record("r.onnx"),))
    found = conclusion._stranger(beside.comparisons, beside, Settings())
    assert found is not None
    assert NAMES[0] in found.missing
    without = [c for c in beside.comparisons if c.rule != NAMES[0]]
    assert found == conclusion._stranger(without, beside, Settings())
    assert conclusion.judged(beside, Settings(), 1.0).verdict is not Verdict.CLEAN


@pytest.mark.parametrize(("other", "beside"), [(1.0, "one reference"), (2.0, "two references")])
def test_copies_among_references_count_once_among_other_recipes(other: float, beside: str) -> None:
    references = []
    for number, figure in enumerate((1.0, other)):
        rows = tuple(ClassRow(class_id=c, figure=figure, course=(figure,)) for c in range(10))
        own = Measurement(
            rule="neural_cleanse",
            statistic=None,
            parameters={},
            by_class=ByClass(classes=10, rows=rows),
        )
        references.append(dataclasses.replace(_record(f"{number}.onnx"), measurements=(own,)))
    examination = dataclasses.replace(_examined(0.5, tuple(references)), populations=())
    result = conclusion.judged(examination, Settings(), 1.0)
    assert result.calibration is not None
    assert f"each beside {beside}" in result.calibration


def _on_images(figure: float, others: float) -> Examination:
    """One whose decisive search no clean model of its recipe can be compared with.

    Args:
        figure: What that search says, beside a reference.
        others: What the other detectors say.
    """
    examination = _examined(others, (_record("r.onnx"),))
    none = Population(
        rule=NAMES[0], values=(), source="test", reason=f"{MEASURED_WITH} data 'noise', not 'mine'"
    )
    first, *more = examination.comparisons
    return dataclasses.replace(
        examination,
        comparisons=(compared(first.rule, figure), *more),
        populations=(none, *examination.populations[1:]),
    )


@pytest.mark.parametrize(
    ("figure", "others", "verdict", "by"),
    [
        (9.0, 0.5, Verdict.SUSPICIOUS, "68 recipes"),
        (0.0, 0.5, Verdict.INCONCLUSIVE, "68 recipes"),
        (0.0, 9.0, Verdict.SUSPICIOUS, "20 clean models"),
    ],
)
def test_where_a_search_fits_no_baseline_other_recipes_judge_it(
    figure: float, others: float, verdict: Verdict, by: str
) -> None:
    """Unless what does fit accuses the model; and the advice says which scan fits."""
    settings = Settings(images_file="images.npz")
    result = conclusion.judged(_on_images(figure, others), settings, 1.0)
    assert (result.verdict, by in (result.calibration or "")) == (verdict, True)
    assert any("a scan that the test can judge: it was" in said for said in result.advice)


def test_a_model_apart_from_its_own_recipe_is_not_called_clean_by_others() -> None:
    """They have no place for the detectors that say so."""
    settings = Settings(images_file="images.npz", miss=0.5)
    words = []
    for others in (0.5, 1.2):
        whole = _on_images(0.0, others)
        asked = {"neural_cleanse", "source_dependent", "universal_perturbation", "universal_warp"}
        said = [compared(rule, 0.0) for rule in sorted(asked)]
        shown = [c for c in whole.comparisons if c.rule not in asked]
        examined = dataclasses.replace(whole, comparisons=(*said, *shown))
        words.append(conclusion.judged(examined, settings, 1.0).verdict)
    assert words == [Verdict.CLEAN, Verdict.INCONCLUSIVE]


def test_nothing_rests_on_clean_models_that_rank_no_detector_that_decides() -> None:
    near = _examined(0.5)
    shown = dataclasses.replace(near, populations=(clean(20, "graph_logic"),))
    result = conclusion.judged(shown, Settings(), 1.0)
    assert (result.verdict, result.calibration) == (Verdict.INCONCLUSIVE, None)


def test_where_the_answer_hangs_on_the_range_the_advice_asks_for_it() -> None:
    found = InputRange(
        low=-1, high=1, basis=Basis.IMAGES, sentence="why", other=(0, 1), agreement=0.5
    )
    near = dataclasses.replace(_examined(0.5), populations=())
    suspect = dataclasses.replace(near.suspect, input_range=found)
    result = conclusion.judged(dataclasses.replace(near, suspect=suspect), Settings(), 1.0)
    assert result.verdict is Verdict.INCONCLUSIVE
    assert (
        result.advice[0] == "the input range is -1..1 or 0..1 (why): set the setting `input_range`"
    )


def test_nothing_rests_on_noise_that_was_given_as_images() -> None:
    far = _examined(9.0)
    doubted = dataclasses.replace(far.suspect, images_doubt="'x.npz' holds noise")
    noise = dataclasses.replace(far, suspect=doubted)
    result = conclusion.judged(noise, Settings(), 1.0)
    assert (result.verdict, result.reason) == (Verdict.INCONCLUSIVE, "'x.npz' holds noise")
    assert (result.score, result.size, result.index, result.calibration) == (None,) * 4
    assert result.warnings == ("a warning",), "the reason has said so"


def test_what_the_graph_shows_needs_no_images() -> None:
    far = _examined(9.0)
    seen = Observation(code="gate", severity=Severity.SUSPICIOUS, sentence="a gate")
    measured = tuple(
        dataclasses.replace(m, observations=(seen,)) if m.rule == "graph_logic" else m
        for m in far.suspect.measurements
    )
    suspect = dataclasses.replace(
        far.suspect, measurements=measured, images_doubt="'x.npz' holds noise"
    )
    result = conclusion.judged(dataclasses.replace(far, suspect=suspect), Settings(), 1.0)
    assert (result.verdict, result.reason) == (Verdict.SUSPICIOUS, "a gate")
    assert "'x.npz' holds noise" in result.warnings


@pytest.mark.parametrize(
    ("error", "findings"),
    [
        (MalformedModelError("it is cut", remedy="get it"), 0),
        (UnsafeModelError("it is cut", remedy="get it"), 1),
    ],
)
def test_a_model_that_was_not_measured_is_inconclusive(error: ScannerError, findings: int) -> None:
    result = conclusion.unanswered(SOURCE, error)
    assert result.verdict is Verdict.INCONCLUSIVE
    assert result.model.path == "a.onnx"
    assert len(result.findings) == findings
    assert "it is cut" in result.reason.lower()
