"""Each idiom of honest exporters is recognised, and its forgery is not."""

import exporter_idioms
import models
import numpy as np
import onnx
import pytest
from exporter_idioms import floats, operation
from onnx import numpy_helper

from scanner.graph.logic import idioms
from scanner.graph.logic.dataflow import Analysis
from scanner.graph.logic.idioms import fill, is_idiom, written_constants
from scanner.graph.logic.meetings import Gate, find
from scanner.graph.logic.unfold import unfold
from trainers.graph_backdoor import plant


def gates(model: onnx.ModelProto) -> tuple[list[Gate], Analysis]:
    flow = unfold(model)
    analysis = Analysis(flow)
    return list(find(flow, analysis)), analysis


@pytest.mark.parametrize(
    ("name", "idiom"),
    [
        ("brought_into_range", idioms._rescales),
        ("no_nan_division", idioms._guards_division),
        ("masked_mean", idioms._is_masked_mean),
        ("end_of_text", idioms._selects_position),
        ("bucket", idioms._is_feature),
    ],
)
def test_an_idiom_is_recognised_by_its_own_question(name: str, idiom: object) -> None:
    found, analysis = gates(exporter_idioms.HONEST[name]())
    assert any(
        question is idiom and question(gate, analysis)
        for gate in found
        for question in idioms._IDIOMS
    )


@pytest.mark.parametrize("kind", ["patch-equals", "where", "if-branch", "gather", "stem"])
def test_a_planted_gate_is_no_idiom(kind: str) -> None:
    found, analysis = gates(plant(models.plain(), kind, target=1).model)
    assert not all(is_idiom(gate, analysis) for gate in found)


def test_a_picture_is_not_rescaled_for_a_password() -> None:
    model = exporter_idioms.HONEST["brought_into_range"]()
    test = next(node for node in model.graph.node if node.op_type == "Greater")
    test.op_type = "Equal"
    found, analysis = gates(model)
    assert not any(idioms._rescales(gate, analysis) for gate in found)


def test_a_divisor_is_compared_with_zero_and_nothing_else() -> None:
    model = exporter_idioms.HONEST["no_nan_division"]()
    for tensor in model.graph.initializer:
        if numpy_helper.to_array(tensor).size == 1:
            tensor.CopyFrom(numpy_helper.from_array(floats(0.37), tensor.name))
    found, analysis = gates(model)
    assert not any(idioms._guards_division(gate, analysis) for gate in found)


@pytest.mark.parametrize(
    ("written", "number"), [([0.0, 0.0, 0.0], 0.0), ([7.0] * 3, 7.0), ([0.0, 9.0, 0.0], None)]
)
def test_what_a_gate_writes(written: list[float], number: float | None) -> None:
    nodes = [
        models.convolution(),
        models.relu(),
        *models.head("activated"),
        operation("ReduceMax", ["image"], "highest", keepdims=0),
        operation("Greater", ["highest", "level"], "bright"),
        operation("Where", ["bright", "forced", "logits"], "answer"),
    ]
    constants = {"level": floats(0.5), "forced": floats(written)}
    model = models.build(nodes, {**models.weights(False), **constants}, output="answer")
    (gate,), analysis = gates(model)
    assert written_constants(gate, analysis) == ["forced"]
    assert fill(gate, analysis) == number


def test_a_factor_between_ranges_of_pixels() -> None:
    assert idioms._is_scale(np.array([1 / 255]))
    assert idioms._is_scale(np.array(-257.0))
    for factor in (None, np.array(0.0), np.array(1e9), np.array([1.0, 2.0])):
        assert not idioms._is_scale(factor)
