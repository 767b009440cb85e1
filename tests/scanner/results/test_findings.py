"""What comparing and judging say survives JSON, and scores are those of compared classes."""

import dataclasses
import json

import pytest
from examples import hostile, result

from scanner.results import (
    ClassDifference,
    Comparison,
    Contribution,
    Evidence,
    Finding,
    Lead,
    Observation,
    Population,
    Rule,
    Run,
    ScanResult,
    Severity,
    Standing,
    Suppression,
    Verdict,
)
from scanner.values import UnfitError, from_json, to_json

RULE = Rule(id="r", name="R", summary="s", source="p")


def test_a_finding_survives_json() -> None:
    seen = Observation(code="c", severity=Severity.NOTE, sentence="seen", nodes=("n",))
    finding = Finding(
        rule=RULE, verdict=Verdict.SUSPICIOUS, statistic=1.5, p_value=None, reason="because",
        parameters={"seed": 0}, evidence=Evidence(target_class=3),
        observations=(seen,),
    )  # fmt: skip
    assert from_json(Finding, json.loads(json.dumps(to_json(finding)))) == finding


def test_a_whole_result_survives_json() -> None:
    whole = result()
    assert from_json(ScanResult, json.loads(json.dumps(to_json(whole)))) == whole


@pytest.mark.parametrize(
    ("kind", "changed"),
    [
        (Run, {"time": "yesterday"}),
        (Run, {"alpha": 2.0}),
        (Suppression, {"rule": "../x"}),
        (Suppression, {"rule": "a/b/c"}),
        (Suppression, {"expires": "never"}),
    ],
)
def test_what_a_saved_result_says_of_its_run_is_bounded(
    kind: type, changed: dict[str, object]
) -> None:
    whole = hostile()
    value = whole.run if kind is Run else whole.suppressions[0]
    data = to_json(value)
    assert from_json(kind, data) == value
    with pytest.raises(UnfitError):
        from_json(kind, {**data, **changed})


@pytest.mark.parametrize("verdict", list(Verdict))
def test_a_verdict_is_a_word(verdict: Verdict) -> None:
    assert to_json(verdict) == verdict.name.lower()
    judged = dataclasses.replace(result(), verdict=verdict)
    assert from_json(ScanResult, to_json(judged)).verdict is verdict


def test_scores_are_those_of_the_classes_that_were_compared() -> None:
    rows = (
        ClassDifference(class_id=0, suspect=1.0, above=0.5),
        ClassDifference(class_id=1, suspect=2.0),
        ClassDifference(class_id=7, suspect=3.0, above=-1.0),
    )
    evidence = Evidence(
        classes=rows, standing=Standing(suspect=1.0), lead=Lead(class_id=0, distance=1.0)
    )
    comparison = Comparison(rule="r", statistic=0.5, contribution=Contribution(), evidence=evidence)
    assert comparison.scores == ((0, 0.5), (7, -1.0))
    again = from_json(Comparison, json.loads(json.dumps(to_json(comparison))))
    assert again.scores == comparison.scores


def test_a_population_keeps_the_scores_of_its_models() -> None:
    """JSON has no tuples; the pairs of class and score must come back as such."""
    population = Population(
        rule="r", values=(0.5, 0.25), classes=(((3, 0.5), (4, 0.0)), ((3, 0.25),)),
        models=("ab" * 32, None), source="test",
    )  # fmt: skip
    again = from_json(Population, json.loads(json.dumps(to_json(population))))
    assert [dict(scores) for scores in again.classes] == [{3: 0.5, 4: 0.0}, {3: 0.25}]
    assert (again.values, again.models) == (population.values, population.models)
