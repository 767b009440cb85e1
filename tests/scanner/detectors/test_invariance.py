"""What invariance measures: the gravest thing that an answer depends on and must not."""

from pathlib import Path

import exporter_idioms
import listening
import models
import onnx
import pytest
from onnx import TensorProto

from scanner.detectors.invariance import Invariance
from scanner.errors import NoLogitsError
from scanner.results import Measurement, Severity


def measure(model: onnx.ModelProto, folder: Path) -> Measurement:
    return Invariance().measure(listening.subject(model, folder))


def test_the_statistic_is_the_highest_severity(tmp_path: Path) -> None:
    gate = listening.SURROUNDINGS["depends-on-batch-size"]
    found = measure(listening.gated(gate, 2), tmp_path)
    assert found.statistic == Severity.SUSPICIOUS == found.observations[0].severity


HONEST = {
    **{name: lambda build=build: build(False) for name, build in models.MEASURABLE.items()},  # type: ignore[misc]
    **exporter_idioms.HONEST,
}


@pytest.mark.parametrize("name", list(HONEST))
def test_no_honest_file_is_accused(name: str, tmp_path: Path) -> None:
    model = HONEST[name]()
    if (
        len(model.graph.input) != 1
        or model.graph.input[0].type.tensor_type.elem_type != TensorProto.FLOAT
    ):
        pytest.skip("it takes no picture of floats")
    dims = model.graph.input[0].type.tensor_type.shape.dim[1:]
    if not all(size.dim_value for size in dims):
        pytest.skip("its input has open sizes")
    try:
        found = measure(model, tmp_path)
    except NoLogitsError:
        pytest.skip("it names no class")
    assert [o.sentence for o in found.observations if o.severity > Severity.NOTE] == []


def test_what_was_asked_is_recorded(tmp_path: Path) -> None:
    found = measure(models.plain(), tmp_path)
    assert found.observations == ()
    assert found.parameters["refused"] == []
    assert set(found.parameters["tried"]) >= {"repetition", "size", "elsewhere", "levels"}
    assert all(number is not None and number < 10 for number in found.figures.values())
