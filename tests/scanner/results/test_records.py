"""Records survive JSON, and say what was measured and what failed."""

import json

import pytest
from examples import identity

from scanner.errors import UnsupportedModelError
from scanner.results import (
    ByImage,
    Failure,
    Measurement,
    ModelRecord,
    Observation,
    Runtime,
    Severity,
    Skip,
)
from scanner.values import from_json, to_json

ERROR = UnsupportedModelError("it is odd", remedy="export it again", layer="relu")
RECORD = ModelRecord(
    model=identity("a.onnx"),
    measurements=(
        Measurement(
            rule="one", statistic=1.0, parameters={"seed": 0}, by_image=ByImage(maxima=(1.0, 2.0))
        ),
        Measurement(
            rule="two",
            statistic=None,
            parameters={},
            observations=(Observation(code="c", severity=Severity.WARNING, sentence="seen"),),
        ),
    ),
    skips=(Skip(rule="three", reason="no images"),),
    failures=(Failure(rule="four", error=ERROR.to_dict()),),
    runtime=Runtime(provider="CPU", threads=1, versions={"onnx": "1.21"}, seconds=0.5),
)


def test_a_record_survives_json() -> None:
    assert from_json(ModelRecord, json.loads(json.dumps(to_json(RECORD)))) == RECORD


@pytest.mark.parametrize(
    ("rule", "found"), [("one", 0), ("two", 1), ("three", None), ("four", None), ("none", None)]
)
def test_a_measurement_is_found_by_its_rule(rule: str, found: int | None) -> None:
    expected = None if found is None else RECORD.measurements[found]
    assert RECORD.measurement(rule) is expected


def test_a_failure_says_problem_and_remedy() -> None:
    assert RECORD.failures[0].sentence == "it is odd; export it again."


def test_severities_are_ordered() -> None:
    assert sorted(Severity) == [
        Severity.NOTE,
        Severity.WARNING,
        Severity.SUSPICIOUS,
        Severity.CONFIRMED,
    ]
