"""Values survive JSON unchanged."""

import json

import pytest

from scanner.protocol import Job, Source
from scanner.results import Evidence, Finding, Observation, Rule, Severity, Verdict
from scanner.settings import Device, Noise, Settings
from scanner.values import from_json, to_json

RULE = Rule(id="r", name="R", summary="s", reference="p")


def test_a_finding_survives_json() -> None:
    seen = Observation(code="c", severity=Severity.NOTE, sentence="seen", nodes=("n",))
    finding = Finding(
        rule=RULE, verdict=Verdict.SUSPICIOUS, statistic=1.5, p_value=None, reason="because",
        parameters={"seed": 0}, evidence=Evidence(target_class=3),
        observations=(seen,),
    )  # fmt: skip
    assert from_json(Finding, json.loads(json.dumps(to_json(finding)))) == finding


def test_a_job_survives_json() -> None:
    settings = Settings(
        noise=Noise.GAUSSIAN,
        input_range=(-1, 1),
        input_shape=(3, 2, 2),
        device=Device.CPU,
        detectors=("x",),
    )
    job = Job(
        model=Source(name="a", path="/a"),
        references=(),
        records=(),
        population=(),
        source="",
        settings=settings,
    )
    assert from_json(Job, json.loads(json.dumps(to_json(job)))) == job


@pytest.mark.parametrize(
    "data", [{"id": "r"}, {**to_json(RULE), "extra": 1}], ids=["missing field", "unknown field"]
)
def test_data_of_another_shape_is_refused(data: dict[str, object]) -> None:
    with pytest.raises((TypeError, ValueError)):
        from_json(Rule, data)


@pytest.mark.parametrize("data", ["x", ["x"], 1, None], ids=repr)
def test_data_without_fields_is_refused(data: object) -> None:
    with pytest.raises(TypeError, match="expected the fields of Rule"):
        from_json(Rule, data)
