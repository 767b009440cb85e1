"""A suspicion about nodes that every reference shares is a note, and no other is."""

from collections.abc import Sequence

import models
import onnx
import planting
import pytest

from scanner.graph.canonical.drawing import draw
from scanner.judging.excuses import excused
from scanner.results import (
    Measurement,
    ModelIdentity,
    ModelRecord,
    Observation,
    Severity,
)

SEEN = Observation(
    code="gate", severity=Severity.CONFIRMED, sentence="A gate", nodes=("planted_open", "elsewhere")
)


def record(model: onnx.ModelProto, rule: str = "gates") -> ModelRecord:
    identity = ModelIdentity(
        path="m.onnx", sha256=None, producer="", opset=17, inputs=(), outputs=()
    )
    return ModelRecord(
        model=identity,
        measurements=(
            Measurement(rule="graphs", statistic=0.0, parameters={}, by_node=draw(model)),
            Measurement(rule=rule, statistic=4.0, parameters={}, observations=(SEEN,)),
        ),
        skips=(),
        failures=(),
        runtime=None,
    )


@pytest.mark.parametrize(
    ("references", "severity"),
    [
        ([planting.gated(1), planting.gated(2)], Severity.NOTE),
        ([planting.gated(1), models.plain()], Severity.CONFIRMED),
        ([planting.deep()], Severity.CONFIRMED),
        ([], Severity.CONFIRMED),
    ],
)
def test_all_references_must_share_it(
    references: Sequence[onnx.ModelProto], severity: Severity
) -> None:
    found = excused(record(planting.gated()), [record(r) for r in references], ["gates"])
    ((seen),) = found.measurements[1].observations
    assert seen.severity is severity
    assert found.measurements[1].statistic == severity
    assert ("Every reference has the same nodes" in seen.sentence) == (severity is Severity.NOTE)


def test_other_detectors_suspicions_are_not_excused() -> None:
    found = excused(record(planting.gated(), "bytes"), [record(planting.gated(1))], ["gates"])
    assert found.measurements[1].observations == (SEEN,)
