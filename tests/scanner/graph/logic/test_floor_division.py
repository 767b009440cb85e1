"""Floor division is recognised in its exported forms, and its forgeries are not."""

import models
import numpy as np
import onnx
import pytest
from exporter_idioms import operation
from onnx import TensorProto, helper, numpy_helper

from scanner.graph.logic.dataflow import Analysis
from scanner.graph.logic.floor_division import quotient
from scanner.graph.logic.gates import observe
from scanner.graph.logic.unfold import Flow, unfold
from scanner.results import Severity
from trainers.graph_backdoor import Graft

SIGNS = {
    "less": [operation("Less", ["length", "level"], "signs")],
    "xor": [operation("Xor", ["negative", "no"], "signs")],
    "equal": [operation("Equal", ["negative", "yes"], "signs")],
}


def divided(  # noqa: PLR0913 - what varies between exporters and forgeries
    signs: str = "less",
    *,
    chosen: bool = True,
    remainder: int = 5,
    correction: int = 1,
    level: int = 0,
    junction: str = "And",
) -> Flow:
    """Return lengths divided by 5, with what a forgery could change."""
    constants = {
        "five": np.asarray(5),
        "modulus": np.asarray(remainder),
        "one": np.asarray(correction),
        "zero": np.asarray(0),
        "level": np.asarray(level),
        "no": np.asarray(False),
        "yes": np.asarray(True),
    }
    corrected = [
        operation("Sub", ["cut", "one"], "lowered"),
        operation("Where", ["rounded", "lowered", "cut"], "floor"),
    ]
    subtracted = [
        operation("Cast", ["rounded"], "number", to=TensorProto.INT64),
        operation("Sub", ["cut", "number"], "floor"),
    ]
    nodes = [
        operation("Div", ["length", "five"], "cut"),
        operation("Less", ["length", "level"], "negative"),
        *SIGNS[signs],
        operation("Mod", ["length", "modulus"], "rest"),
        operation("Equal", ["rest", "zero"], "even"),
        operation("Not", ["even"], "uneven"),
        operation(junction, ["signs", "uneven"], "rounded"),
        *(corrected if chosen else subtracted),
    ]
    graph = helper.make_graph(
        nodes,
        "divided",
        [helper.make_tensor_value_info("length", TensorProto.INT64, ["N"])],
        [helper.make_empty_tensor_value_info("floor")],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    return unfold(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]))


@pytest.mark.parametrize("chosen", [True, False], ids=["chosen", "subtracted"])
@pytest.mark.parametrize("signs", SIGNS)
def test_a_floor_division_is_its_quotient(signs: str, chosen: bool) -> None:
    flow = divided(signs, chosen=chosen)
    step = flow.producer("floor")
    assert step is not None
    assert quotient(step, flow) == "cut"
    analysis = Analysis(flow)
    assert analysis.fact("floor") == analysis.fact("cut")


@pytest.mark.parametrize(
    "flow",
    [
        divided(remainder=7),
        divided(correction=2),
        divided(level=100),
        divided(junction="Or"),
        divided(junction="Xor"),
        divided(chosen=False, remainder=7),
    ],
    ids=["divisor", "correction", "level", "or", "xor", "subtracted"],
)
def test_what_is_not_exactly_that_is_none(flow: Flow) -> None:
    step = flow.producer("floor")
    assert step is not None
    assert quotient(step, flow) is None


def test_a_condition_that_reads_nothing_is_about_nothing() -> None:
    nodes = [
        operation("Div", ["image", "five"], "cut"),
        operation("RandomUniform", [], "chance", shape=[1]),
        operation("Cast", ["chance"], "rounded", to=TensorProto.INT64),
        operation("Sub", ["cut", "rounded"], "logits"),
    ]
    flow = unfold(models.build(nodes, {"five": np.asarray(5)}, input_type=TensorProto.INT64))
    step = flow.producer("logits")
    assert step is not None
    assert quotient(step, flow) is None


def _planted(remainder: int, correction: int) -> onnx.ModelProto:
    """A gate of the picture's sum in the clothes of a floor division."""
    graft = Graft(models.plain(), 1)
    total = graft.column(graft.reduce("ReduceSum", graft.input.name, [1, 2, 3]))
    whole = graft.node("Cast", [total], "whole", to=TensorProto.INT64)
    five, zero = graft.constant(5, np.int64), graft.constant(0, np.int64)
    cut = graft.node("Div", [whole, five], "cut")
    rest = graft.node("Mod", [whole, graft.constant(remainder, np.int64)], "rest")
    uneven = graft.node("Not", [graft.node("Equal", [rest, zero], "even")], "uneven")
    rounded = graft.node("And", [graft.node("Less", [whole, zero], "less"), uneven], "rounded")
    lowered = graft.node("Sub", [cut, graft.constant(correction, np.int64)], "lowered")
    floor = graft.node("Where", [rounded, lowered, cut], "floor")
    scale = graft.node("Cast", [floor], "scale", to=TensorProto.FLOAT)
    written = graft.node("Mul", [scale, graft.constant([[0.0, 9.0, 0.0]])], "written")
    graft.replace_logits(graft.node("Add", [graft.logits, written], "gate"))
    return graft.planted().model


@pytest.mark.parametrize(("remainder", "correction"), [(5, 1), (7, 1), (5, 90)])
def test_a_gate_in_its_clothes_is_found(remainder: int, correction: int) -> None:
    found = observe(unfold(_planted(remainder, correction)))
    assert any(observation.severity is Severity.SUSPICIOUS for observation in found)
