"""Readers that agree, readers that do not, and models that cannot be run."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from models import build, plain
from onnx import TensorProto, helper

from scanner.detectors.integrity import Integrity, _disagreements, _distance, _tolerance
from scanner.graph.audit import second_reader
from scanner.instruments.detector import Subject
from scanner.judging.comparison import compare
from scanner.modelfile.model import open_model
from scanner.results import Measurement, Severity
from scanner.settings import Settings


def measure(model: onnx.ModelProto, tmp_path: Path) -> Measurement:
    path = tmp_path / "model.onnx"
    path.write_bytes(model.SerializeToString())
    return Integrity().measure(Subject(model=open_model(path), settings=Settings()))


def test_three_readers_agree_on_an_honest_model(tmp_path: Path) -> None:
    measurement = measure(plain(), tmp_path)
    assert measurement.statistic == 0.0
    assert len(measurement.parameters["readers"]) == 3


def test_two_value_fields_are_suspicious(tmp_path: Path) -> None:
    model = plain()
    model.graph.initializer[0].float_data.extend([9.0] * 36)
    assert measure(model, tmp_path).statistic == Severity.SUSPICIOUS


def test_what_cannot_be_run_is_audited_all_the_same(tmp_path: Path) -> None:
    model = plain()
    model.graph.node.append(
        helper.make_node("Secret", ["logits"], ["spare"], domain="acme.ops", name="secret")
    )
    model.opset_import.append(helper.make_opsetid("acme.ops", 1))
    measurement = measure(model, tmp_path)
    assert measurement.parameters["readers"] == []
    assert [o.code for o in measurement.observations] == ["custom-operators", "idle-nodes"]


@pytest.mark.parametrize("operator", ["RandomNormalLike", "Bernoulli"])
def test_a_model_that_draws_is_not_compared_with_itself(operator: str, tmp_path: Path) -> None:
    model = build([helper.make_node(operator, ["image"], ["logits"], name="draw")], {})
    assert not second_reader.is_brief(model)
    assert measure(model, tmp_path).parameters["readers"] == []


def test_readers_that_disagree_are_named() -> None:
    answers = {"one": [np.ones((1, 3))], "two": [np.ones((1, 3))], "three": [np.full((1, 3), 2.0)]}
    (observation,) = _disagreements(answers)
    assert observation.severity is Severity.WARNING
    assert observation.details["readers"] == ["one", "three"]


@pytest.mark.parametrize(
    ("one", "other", "distance"),
    [
        ([1.0, 2.0], [1.0, 2.0], 0.0),
        ([0.0, 2.0], [1.0, 2.0], 0.5),
        ([np.nan, np.nan], [np.nan, np.nan], 0.0),
        ([1.0], [1.0, 2.0], np.inf),
        ([], [], 0.0),
    ],
)
def test_distance_is_relative_to_the_largest(
    one: list[float], other: list[float], distance: float
) -> None:
    assert _distance(np.asarray(one), np.asarray(other)) == distance


def test_a_number_beside_no_number_is_a_difference() -> None:
    assert _distance(np.asarray([1.0, 2.0]), np.asarray([1.0, np.nan])) > 0


def test_the_reference_evaluator_says_when_it_does_not_know(tmp_path: Path) -> None:
    model = build(
        [helper.make_node("Secret", ["image"], ["logits"], domain="acme.ops", name="secret")], {}
    )
    model.opset_import.append(helper.make_opsetid("acme.ops", 1))
    assert second_reader.evaluate(model, {"image": np.zeros((1, 1, 8, 8), np.float32)}) is None
    assert measure(model, tmp_path).statistic == Severity.WARNING


def test_what_a_file_claims_of_its_answer_is_checked(tmp_path: Path) -> None:
    model = plain()
    claim = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", 7])
    model.graph.output[0].CopyFrom(claim)
    assert "false-claim" in [o.code for o in measure(model, tmp_path).observations]


def test_codes_may_differ_further_than_fractions() -> None:
    rounding = [
        helper.make_node("QuantizeLinear", ["image", "scale"], ["codes"]),
        helper.make_node("DequantizeLinear", ["codes", "scale"], ["logits"]),
    ]
    assert _tolerance(build(rounding, {"scale": np.asarray(0.1, np.float32)})) > _tolerance(plain())


def test_support_vector_machines_have_one_reader_less() -> None:
    machine = helper.make_node("SVMClassifier", ["image"], ["logits"], domain="ai.onnx.ml")
    assert not second_reader.is_brief(build([machine], {}))


def test_goods_in_external_data_are_found(tmp_path: Path) -> None:
    model = plain()
    program = b"\x7fELF\2\1\1" + bytes(9) + b"\3\0\x3e\0\1\0\0\0" + bytes(40)
    (tmp_path / "weights.bin").write_bytes(program)
    tensor = model.graph.initializer.add(name="w", data_type=TensorProto.UINT8, dims=[64])
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="weights.bin")
    assert "carried-data" in [o.code for o in measure(model, tmp_path).observations]


def test_a_text_output_is_not_compared(tmp_path: Path) -> None:
    nodes = [helper.make_node("Cast", ["image"], ["logits"], name="say", to=TensorProto.STRING)]
    assert measure(build(nodes, {}), tmp_path).observations == ()


def test_comparison_is_the_suspects_own_severity(tmp_path: Path) -> None:
    measurement = measure(plain(), tmp_path)
    assert compare(Integrity(), measurement, []).statistic == 0.0
