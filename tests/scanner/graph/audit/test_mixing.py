"""Nodes that make an honest answer depend on more than the image are named."""

import models
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from scanner.graph.audit.mixing import (
    BATCH_NORM,
    DROPOUT,
    REDUCED,
    counted,
    default_numbers,
    mixing_nodes,
)

AXES = {"first": np.array([0]), "pixels": np.array([2, 3])}


@pytest.mark.parametrize(
    ("node", "kind"),
    [
        (helper.make_node("BatchNormalization", ["image"] * 5, ["y"], training_mode=1), BATCH_NORM),
        (helper.make_node("BatchNormalization", ["image"] * 5, ["y"]), None),
        (helper.make_node("Dropout", ["image", "", "mode"], ["y"]), DROPOUT),
        (helper.make_node("Dropout", ["image"], ["y"]), None),
        (helper.make_node("ReduceMax", ["image"], ["y"]), REDUCED),
        (helper.make_node("ReduceMax", ["image"], ["y"], axes=[0, 1]), REDUCED),
        (helper.make_node("ReduceMax", ["image"], ["y"], axes=[1, 2]), None),
        (helper.make_node("ReduceSum", ["image", "first"], ["y"]), REDUCED),
        (helper.make_node("ReduceSum", ["image", "pixels"], ["y"]), None),
        (helper.make_node("ReduceSum", ["image", "computed"], ["y"]), REDUCED),
        (helper.make_node("RandomNormal", [], ["y"], shape=[1]), "RandomNormal"),
        (helper.make_node("DynamicQuantizeLinear", ["image"], ["y"]), "DynamicQuantizeLinear"),
    ],
)
def test_a_node_is_of_its_kind(node: onnx.NodeProto, kind: str | None) -> None:
    node.name = "it"
    found = mixing_nodes(models.build([node], AXES, output="y"))
    assert found == (() if kind is None else ((kind, "it"),))


def test_bodies_are_looked_into() -> None:
    inner = helper.make_node("RandomUniform", [], ["drawn"], name="draw", shape=[1])
    output = helper.make_tensor_value_info("drawn", TensorProto.FLOAT, [1])
    body = helper.make_graph([inner], "body", [], [output])
    branch = helper.make_node("If", ["mode"], ["y"], then_branch=body, else_branch=body)
    assert mixing_nodes(models.build([branch], {}, output="y")) == (("RandomUniform", "draw"),) * 2


def test_the_default_of_an_input() -> None:
    model = models.plain()
    model.graph.initializer.append(numpy_helper.from_array(np.array([0.0, 3.0]), "mode"))
    assert default_numbers(model, "mode").tolist() == [0.0, 3.0]


def test_numbers_that_places_are_compared_with_are_named() -> None:
    nodes = [
        helper.make_node("Shape", ["image"], ["count"], start=0, end=1),
        helper.make_node("Equal", ["count", "hundred"], ["full"], name="full"),
        helper.make_node("Constant", [], ["seven"], value_int=7),
        helper.make_node("Greater", ["image", "half"], ["y"], name="bright"),
    ]
    numbers = {"hundred": np.array(100), "half": np.array(0.5, np.float32)}
    model = models.build(nodes, numbers, output="y")
    assert counted(model) == {100: "full"}
    del model.graph.node[0]
    assert counted(model) == {}, "nothing measures the batch"
