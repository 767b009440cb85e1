"""A plan survives JSON, and adds up what is known of its stages."""

import json

from examples import identity
from hypothesis import given
from hypothesis import strategies as st

from scanner.results import PlannedStage, ScanPlan
from scanner.values import from_json, to_json

STAGES = st.lists(
    st.builds(
        PlannedStage,
        rules=st.just(("head",)),
        does=st.text(max_size=9),
        seconds=st.none() | st.floats(0, 1e6),
        memory=st.none() | st.integers(0, 2**40),
    ),
    max_size=5,
)


@given(STAGES)
def test_a_plan_survives_json_and_adds_up(stages: list[PlannedStage]) -> None:
    plan = ScanPlan(
        model=identity("a.onnx"), classes=10, threads=2, deadline=600.0, stages=tuple(stages)
    )
    assert from_json(ScanPlan, json.loads(json.dumps(to_json(plan)))) == plan
    assert plan.seconds == sum(stage.seconds for stage in stages if stage.seconds is not None)
