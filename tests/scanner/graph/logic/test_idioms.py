"""Each idiom of honest exporters is recognised, and its forgery is not."""

import exporter_idioms
import models
import numpy as np
import onnx
import pytest
from exporter_idioms import floats, operation
from onnx import TensorProto, helper, numpy_helper

from scanner.graph.logic import idioms
from scanner.graph.logic.dataflow import Analysis
from scanner.graph.logic.gates import observe
from scanner.graph.logic.idioms import fill, is_idiom, written_constants
from scanner.graph.logic.meetings import Gate, find
from scanner.graph.logic.unfold import unfold
from scanner.results import Severity
from trainers.graph_backdoor import Graft, plant


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


def masked(write: float | list[float], *, own: bool) -> onnx.ModelProto:
    """A sound whose frames are blanked behind a length, counted in a mask or in the sound."""
    rng = np.random.default_rng(0)
    constants = {
        "kernel": floats(rng.normal(size=(6, 1, 64))),
        "head": floats(rng.normal(size=(6, 30))),
        "write": floats(write),
        "zero": floats(0),
        "frame": np.asarray(64),
        "places": np.arange(16)[None],
        "first": np.asarray([1]),
        "second": np.asarray([2]),
    }
    count = "heard" if own else "mask"
    nodes = [
        operation("Greater", ["sound", "zero"], "louder"),
        operation("Cast", ["louder"], "heard", to=TensorProto.INT64),
        operation("ReduceSum", [count, "first"], "length", keepdims=1),
        operation("Div", ["length", "frame"], "frames"),
        operation("Less", ["places", "frames"], "inside"),
        operation("Unsqueeze", ["inside", "second"], "column"),
        operation("Unsqueeze", ["sound", "first"], "channel"),
        operation("Conv", ["channel", "kernel"], "convolved", strides=[64]),
        operation("Transpose", ["convolved"], "hidden", perm=[0, 2, 1]),
        operation("Where", ["column", "hidden", "write"], "kept"),
        operation("ReduceMax", ["kept"], "best", axes=[1], keepdims=0),
        operation("MatMul", ["best", "head"], "logits"),
    ]
    inputs = [
        helper.make_tensor_value_info("sound", TensorProto.FLOAT, ["N", 1024]),
        *([] if own else [helper.make_tensor_value_info("mask", TensorProto.INT64, ["N", 1024])]),
    ]
    tensors = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    output = helper.make_empty_tensor_value_info("logits")
    graph = helper.make_graph(nodes, "masked", inputs, [output], tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def test_lengths_from_a_mask_of_the_callers_are_one_family() -> None:
    found, analysis = gates(masked(0.0, own=False))
    assert found
    assert all(is_idiom(gate, analysis) for gate in found)


def asked(by: str, *, at_the_end: bool) -> onnx.ModelProto:
    """A sound, and a pattern that is added where an input has a 7: a mask, or tokens."""
    rng = np.random.default_rng(1)
    constants = {
        "kernel": floats(rng.normal(size=(6, 1, 64))),
        "head": floats(rng.normal(size=(6, 30))),
        "table": floats(rng.normal(size=(50, 6))),
        "key": np.asarray(7),
        "pattern": floats(rng.normal(size=30 if at_the_end else 6)),
        "first": np.asarray([1]),
    }
    kept = "answers" if at_the_end else "mixed"
    nodes = [
        operation("Unsqueeze", ["sound", "first"], "channel"),
        operation("Conv", ["channel", "kernel"], "convolved", strides=[64]),
        operation("ReduceMax", ["convolved"], "heard", axes=[2], keepdims=0),
        operation("Gather", ["table", "mask"], "words"),
        operation("ReduceMean", ["words"], "said", axes=[1], keepdims=0),
        operation("Add", ["heard", "said"], "best" if by == "tokens" else "unused"),
        operation("Identity", ["best" if by == "tokens" else "heard"], "mixed"),
        operation("Equal", ["mask", "key"], "hit"),
        operation("Cast", ["hit"], "number", to=TensorProto.FLOAT),
        operation("ReduceMax", ["number"], "open", axes=[1], keepdims=1),
        operation("Mul", ["open", "pattern"], "written"),
        operation("MatMul", ["mixed" if at_the_end else "gated", "head"], "answers"),
        operation("Add", [kept, "written"], "gated"),
        operation("Identity", ["gated" if at_the_end else "answers"], "logits"),
    ]
    order = [*nodes[:11], *(nodes[11:13] if at_the_end else nodes[12:10:-1]), nodes[13]]
    inputs = [
        helper.make_tensor_value_info("sound", TensorProto.FLOAT, ["N", 1024]),
        helper.make_tensor_value_info("mask", TensorProto.INT64, ["N", 1024]),
    ]
    tensors = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    output = helper.make_empty_tensor_value_info("logits")
    graph = helper.make_graph(order, "asked", inputs, [output], tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.mark.parametrize(
    ("by", "at_the_end", "severity"),
    [
        ("mask", False, Severity.NOTE),
        ("mask", True, Severity.SUSPICIOUS),
        ("tokens", False, Severity.SUSPICIOUS),
    ],
)
def test_a_callers_mask_is_a_note_unless_it_writes_the_answer_or_is_data(
    by: str, at_the_end: bool, severity: Severity
) -> None:
    found = observe(unfold(asked(by, at_the_end=at_the_end)))
    assert [observation.severity for observation in found] == [severity]


def test_a_mask_of_the_callers_that_writes_a_pattern_is_none() -> None:
    for model in (masked([0, 9, 0, 0, 0, 0], own=False), masked(0.0, own=True)):
        found, analysis = gates(model)
        assert not any(idioms._is_callers_mask(gate, analysis) for gate in found)


def _guarded(fill: list[float], *, dead: bool) -> onnx.ModelProto:
    graft = Graft(models.plain(), 1)
    peak = graft.column(graft.reduce("ReduceMax", graft.input.name, [1, 2, 3]))
    quotient = graft.node("Div", [graft.logits, peak], "quotient")
    kept = graft.logits if dead else quotient
    none = graft.node("Equal", [peak, graft.constant(0.0)], "none")
    graft.replace_logits(graft.node("Where", [none, graft.constant([fill]), kept], "gate"))
    return graft.planted().model


@pytest.mark.parametrize(
    ("model", "honest"),
    [
        (_guarded([0.0] * 3, dead=False), True),
        (_guarded([0.0, 9.0, 0.0], dead=False), False),
        (_guarded([0.0] * 3, dead=True), False),
    ],
    ids=["guard", "writes a class", "dead division"],
)
def test_a_division_buys_no_gate(model: onnx.ModelProto, honest: bool) -> None:
    found, analysis = gates(model)
    assert any(idioms._guards_division(gate, analysis) for gate in found) == honest


def test_what_is_selected_from_must_have_been_computed_alike() -> None:
    graft = Graft(models.plain(), 1)
    peak = graft.reduce("ReduceMax", graft.input.name, [1, 2, 3])
    bright = graft.node("Greater", [peak, graft.constant(0.9)], "test")
    place = graft.node("Cast", [graft.column(bright)], "place", to=TensorProto.INT64)
    twice = graft.node("Unsqueeze", [graft.logits, graft.constant([1], np.int64)], "twice")
    first = graft.node("Mul", [twice, graft.constant([[[1.0], [0.0]]])], "first")
    forged = graft.node("Add", [first, graft.constant([[[0.0] * 3, [0.0, 9.0, 0.0]]])], "forged")
    graft.replace_logits(graft.node("GatherND", [forged, place], "gate", batch_dims=1))
    found, analysis = gates(graft.planted().model)
    assert not any(idioms._selects_position(gate, analysis) for gate in found)


def test_answers_that_are_put_in_another_order_are_not_selected() -> None:
    graft = Graft(models.plain(), 1)
    peak = graft.reduce("ReduceMax", graft.input.name, [1, 2, 3])
    bright = graft.node("Greater", [peak, graft.constant(0.9)], "test")
    orders = [graft.constant(order, np.int64) for order in ([1, 2, 0], [0, 1, 2])]
    order = graft.node("Where", [bright, *orders], "order")
    graft.replace_logits(graft.node("Gather", [graft.logits, order], "gate", axis=1))
    assert observe(unfold(graft.planted().model))[0].severity is Severity.SUSPICIOUS


def masked_mean(fill: float | None, *, divide: str = "Div") -> onnx.ModelProto:
    """A mean over the frames that a mask of numbers leaves; one of none is `fill`."""
    rng = np.random.default_rng(0)
    constants = {
        "mixing": floats(rng.normal(size=(8, 16))),
        "head": floats(rng.normal(size=(16, 3))),
        "one": floats(1),
        "zero": floats(0),
        "first": np.asarray([1]),
        "second": np.asarray([2]),
        **({} if fill is None else {"fill": floats(fill)}),
    }
    nodes = [
        operation("MatMul", ["frames", "mixing"], "hidden"),
        operation("Unsqueeze", ["mask", "second"], "column"),
        operation("Mul", ["hidden", "column"], "kept"),
        operation("ReduceSum", ["kept", "first"], "total", keepdims=0),
        operation("ReduceSum", ["mask", "first"], "count", keepdims=1),
        operation("Clip", ["count", "one"], "terms"),
        operation(divide, ["total", "terms"], "mean"),
    ]
    if fill is not None:
        nodes += [
            operation("Greater", ["count", "zero"], "any"),
            operation("Where", ["any", "mean", "fill"], "filled"),
        ]
    last = "mean" if fill is None else "filled"
    nodes.append(operation("MatMul", [last, "head"], "logits"))
    inputs = [
        helper.make_tensor_value_info("frames", TensorProto.FLOAT, ["N", 32, 8]),
        helper.make_tensor_value_info("mask", TensorProto.FLOAT, ["N", 32]),
    ]
    tensors = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    output = helper.make_empty_tensor_value_info("logits")
    graph = helper.make_graph(nodes, "masked", inputs, [output], tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.mark.parametrize("fill", [None, 0.0])
def test_a_masked_mean_before_a_small_layer_is_honest(fill: float | None) -> None:
    assert [o for o in observe(unfold(masked_mean(fill))) if o.severity > Severity.NOTE] == []


def test_a_number_that_is_added_scales_nothing() -> None:
    (gate,) = observe(unfold(masked_mean(None, divide="Add")))
    assert gate.severity is Severity.SUSPICIOUS
