"""Functions are expanded within a budget; a branch is taken only where its condition is a constant."""

import models
import pytest
from onnx import helper

from scanner.errors import UnsafeModelError
from scanner.graph import inline


def test_a_model_without_functions_or_branches_is_itself() -> None:
    model = models.plain()
    assert inline.flatten(model) is model


def test_functions_are_expanded() -> None:
    flat = inline.flatten(models.function_relu())
    assert "Relu" in [n.op_type for n in flat.graph.node]
    assert not flat.functions


def test_a_constant_branch_is_taken() -> None:
    flat = inline.flatten(models.branch_relu(constant=True))
    names = [n.name for n in flat.graph.node]
    assert "then_relu" in names
    assert "else_relu" not in names


def test_a_branch_that_depends_on_the_input_stays() -> None:
    flat = inline.flatten(models.branch_relu(constant=False))
    assert "If" in [n.op_type for n in flat.graph.node]


def test_an_expansion_past_the_budget_is_counted_not_tried() -> None:
    model = models.function_relu()
    for level in range(40):
        inner = "Activate" if level == 0 else f"Double{level - 1}"
        nodes = [
            helper.make_node(inner, ["x"], ["m"], domain="local"),
            helper.make_node(inner, ["m"], ["y"], domain="local"),
        ]
        opsets = [helper.make_opsetid("", 17), helper.make_opsetid("local", 1)]
        model.functions.append(helper.make_function("local", f"Double{level}", ["x"], ["y"], nodes, opsets))
    model.graph.node[1].op_type = "Double39"
    with pytest.raises(UnsafeModelError, match="expand to 109951162[0-9]+ nodes"):
        inline.flatten(model)


def test_a_function_that_calls_itself_is_refused() -> None:
    model = models.function_relu()
    model.functions[0].node[0].CopyFrom(helper.make_node("Activate", ["x"], ["y"], domain="local"))
    with pytest.raises(UnsafeModelError, match="calls itself"):
        inline.flatten(model)
