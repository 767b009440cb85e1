"""Where decisions meet what they gate: which steps, which decision, which value."""

from typing import Any

import models
import numpy as np
import onnx
import pytest
from exporter_idioms import floats, operation
from models import Array, build
from onnx import TensorProto, helper

from scanner.graph.logic.dataflow import Analysis
from scanner.graph.logic.meetings import Gate, find, is_about_input
from scanner.graph.logic.unfold import unfold
from trainers.graph_backdoor import plant
from trainers.graph_backdoor.comparisons import KINDS


def gates(model: onnx.ModelProto) -> list[Gate]:
    flow = unfold(model)
    return list(find(flow, Analysis(flow)))


def behind_a_test(*nodes: onnx.NodeProto, **constants: Array) -> onnx.ModelProto:
    """Return nodes behind `bright`, a decision about the whole image, and `decided`, its number."""
    start = [
        operation("ReduceMax", ["image"], "highest", keepdims=0),
        operation("Greater", ["highest", "level"], "bright"),
        operation("Cast", ["bright"], "decided", to=TensorProto.FLOAT),
    ]
    return build([*start, *nodes], {"level": floats(0.5), **constants})


@pytest.mark.parametrize("planted", [False, True])
def test_a_network_without_a_test_has_no_gate(planted: bool) -> None:
    assert gates(models.plain(planted)) == []


@pytest.mark.parametrize("kind", KINDS)
def test_a_planted_gate_is_where_it_was_planted(kind: str) -> None:
    planted = plant(models.plain(), kind, target=1)
    found = {gate.step.label for gate in gates(planted.model)}
    assert all(any(name in label for label in found) for name in planted.gate)


def test_what_a_gate_says() -> None:
    (gate,) = gates(behind_a_test(operation("Where", ["bright", "image", "level"], "logits")))
    assert (gate.step.op, gate.decision, gate.carrier) == ("Where", "bright", "image")
    assert [test.op for test in gate.tests] == ["Greater"]
    assert gate.control
    assert gate.stem
    assert (gate.share, gate.private) == (0, 0)


def test_the_shares_of_weights() -> None:
    nodes = [
        operation("Flatten", ["image"], "flat"),
        operation("MatMul", ["flat", "shared"], "features"),
        operation("ReduceMax", ["features"], "score", keepdims=0),
        operation("Greater", ["score", "level"], "high"),
        operation("MatMul", ["features", "last"], "scores"),
        operation("Where", ["high", "scores", "level"], "logits"),
    ]
    rng = np.random.default_rng(0)
    constants = {
        "shared": floats(rng.normal(size=(64, 4))),
        "last": floats(rng.normal(size=(4, 6))),
    }
    (gate,) = gates(build(nodes, {**constants, "level": floats(0.5)}))
    assert gate.share == pytest.approx(256 / 280)
    assert not gate.shortcut
    assert not gate.stem


def test_a_test_is_no_gate_and_a_shape_neither() -> None:
    compared = operation("Equal", ["decided", "image"], "logits")
    assert gates(behind_a_test(compared)) == []
    shaped = [
        operation("Cast", ["bright"], "count", to=TensorProto.INT64),
        operation("Reshape", ["count", "one"], "times"),
        operation("Expand", ["image", "times"], "logits"),
    ]
    assert gates(behind_a_test(*shaped, one=np.array([1]))) == []


def test_what_no_output_reads_is_no_gate() -> None:
    nodes = [
        operation("Mul", ["image", "decided"], "unread"),
        operation("Neg", ["image"], "logits"),
    ]
    assert gates(behind_a_test(*nodes)) == []


def test_only_the_sequence_of_a_recurrent_layer_counts() -> None:
    rng = np.random.default_rng(0)
    constants: dict[str, Array] = {
        "w": floats(rng.normal(size=(1, 4, 8))),
        "r": floats(rng.normal(size=(1, 4, 4))),
        "rows": np.array([8, -1, 8]),
    }
    start = [
        operation("Reshape", ["image", "rows"], "sequence"),
        operation("Mul", ["decided", "zeros"], "state"),
    ]
    node = helper.make_node(
        "RNN", ["sequence", "w", "r", "", "", "state"], ["logits"], hidden_size=4
    )
    zeros = np.zeros((1, 1, 4), np.float32)
    assert gates(behind_a_test(*start, node, **constants, zeros=zeros)) == []


def branching(condition: str) -> onnx.ModelProto:
    branches: dict[str, Any] = {}
    for name, returned in (("then", "decided"), ("else", "image")):
        inner = operation("Identity", [returned], f"{name}_value")
        output = helper.make_tensor_value_info(f"{name}_value", TensorProto.FLOAT, None)
        branches[f"{name}_branch"] = helper.make_graph([inner], name, [], [output])
    choice = helper.make_node("If", [condition], ["logits"], name="choice", **branches)
    rank = [
        operation("Shape", ["image"], "sizes"),
        operation("Gather", ["sizes", "first"], "batch", axis=0),
        operation("Greater", ["batch", "several"], "many"),
    ]
    return behind_a_test(*rank, choice, first=np.array(0), several=np.array(1))


def test_a_branch_is_steered_by_its_condition_and_not_by_what_it_returns() -> None:
    (gate,) = gates(branching("bright"))
    assert gate.decision == "bright"
    assert gate.control
    assert gate.carrier.endswith("else_value")
    assert gates(branching("many")) == []


def test_of_two_decisions_the_earlier_one_counts() -> None:
    nodes = [
        operation("Flatten", ["image"], "flat"),
        operation("MatMul", ["flat", "w"], "score"),
        operation("Greater", ["score", "level"], "late"),
        operation("And", ["bright", "late"], "both"),
    ]
    model = behind_a_test(
        *nodes, operation("Identity", ["both"], "logits"), w=np.ones((64, 1), np.float32)
    )
    (gate,) = gates(model)
    assert (gate.step.op, gate.decision, gate.carrier) == ("And", "bright", "late")


def test_a_decision_about_the_input_is_one_or_few_numbers() -> None:
    analysis = Analysis(unfold(models.plain()))
    picture = analysis.fact("image")
    assert [is_about_input(width, picture, analysis) for width in (1, 4, 5, 64)] == [
        True,
        True,
        False,
        False,
    ]
    assert not is_about_input(float("inf"), picture, analysis)


def test_a_decision_may_say_where_a_value_is_cut() -> None:
    nodes = [
        operation("Mul", ["decided", "apart"], "moved"),
        operation("Cast", ["moved"], "sizes", to=TensorProto.INT64),
        operation("Flatten", ["image"], "flat"),
        helper.make_node("Split", ["flat", "sizes"], ["first", "second"], axis=1),
        operation("Concat", ["second", "first"], "logits", axis=1),
    ]
    (gate,) = gates(behind_a_test(*nodes, apart=floats([64, 0])))
    assert (gate.step.op, gate.decision, gate.carrier) == ("Split", "sizes", "flat")
