"""Functions are expanded; a branch is taken only where its condition is a constant."""

import models
from onnx import helper

from scanner.graph.core import flatten


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


def test_an_if_of_another_domain_is_no_branch() -> None:
    model = models.plain()
    model.graph.node.append(helper.make_node("If", [], ["spare"], domain="acme.ops"))
    assert flatten.flatten(model) is model
