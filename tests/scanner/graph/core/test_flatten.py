"""Functions are expanded; a branch is taken only where its condition is a constant."""

import models
import numpy as np
import onnx

from scanner.graph.core import flatten
from scanner.graph.core.scopes import own_names, renamed_apart


def test_a_model_without_functions_or_branches_is_itself() -> None:
    model = models.plain()
    assert flatten.flatten(model) is model


def test_functions_are_expanded() -> None:
    flat = flatten.flatten(models.function_relu())
    assert "Relu" in [n.op_type for n in flat.graph.node]
    assert not flat.functions


def test_a_constant_branch_is_taken() -> None:
    flat = flatten.flatten(models.branch_relu(constant=True))
    names = [n.name for n in flat.graph.node]
    assert "then_relu" in names
    assert "else_relu" not in names


def test_a_branch_that_depends_on_the_input_stays() -> None:
    flat = flatten.flatten(models.branch_relu(constant=False))
    assert "If" in [n.op_type for n in flat.graph.node]


def test_branches_that_share_names_are_kept_apart() -> None:
    def branch(value: float) -> onnx.GraphProto:
        weight = onnx.numpy_helper.from_array(np.array([value], np.float32), "weight")
        node = onnx.helper.make_node("Mul", ["image", "weight"], ["out"], name="same")
        output = onnx.helper.make_empty_tensor_value_info("out")
        return onnx.helper.make_graph([node], "branch", [], [output], [weight])

    first = branch(1.0)
    second = renamed_apart(branch(2.0), own_names(first), {"same"}, "second/")
    assert renamed_apart(first, {"other"}, {"another"}, "x/") is first
    assert own_names(second) == {"second/weight", "second/out"}
    assert second.output[0].name == "second/out"
    assert list(second.node[0].input) == ["image", "second/weight"]
    assert second.node[0].name == ""
