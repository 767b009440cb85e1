"""Activations that are spelled out are one node, and products that are not them stay."""

import models
import numpy as np
import pytest
from onnx import helper

from scanner.graph.canonical.drawing import draw


def activated(nodes: list[tuple[str, list[str], str]], constants: dict[str, float]) -> list[str]:
    """Return the operators of a plain model whose activation is made of these nodes."""
    made = [helper.make_node(op, inputs, [output]) for op, inputs, output in nodes]
    held = {name: np.array(value, np.float32) for name, value in constants.items()}
    model = models.build(
        [models.convolution(), *made, *models.head("activated")], {**models.weights(False), **held}
    )
    return [node.operator for node in draw(model).nodes][1:-3]


@pytest.mark.parametrize("half_first", [False, True])
def test_gelu(half_first: bool) -> None:
    start = [
        ("Div", ["convolved", "root"], "scaled"),
        ("Erf", ["scaled"], "erf"),
        ("Add", ["erf", "one"], "above"),
    ]
    constants = {"root": 2**0.5, "one": 1.0, "half": 0.5}
    products = [
        ("Mul", ["convolved", "above"], "product"),
        ("Mul", ["product", "half"], "activated"),
    ]
    if half_first:
        products = [
            ("Mul", ["above", "half"], "share"),
            ("Mul", ["convolved", "share"], "activated"),
        ]
    assert activated([*start, *products], constants) == ["Gelu"]
    constants["one"] = 3.0
    assert "Gelu" not in activated([*start, *products], constants)


def test_swish() -> None:
    nodes = [
        ("Sigmoid", ["convolved"], "gate"),
        ("Mul", ["convolved", "gate"], "activated"),
    ]
    assert activated(nodes, {}) == ["Swish"]
    nodes[0] = ("Sigmoid", ["scaled"], "gate")
    scaled = [("Mul", ["convolved", "gain"], "scaled"), *nodes]
    assert activated(scaled, {"gain": 40.0})[-1] == "Mul"


@pytest.mark.parametrize(("shift", "operator"), [(0.5, "HardSwish"), (-50.0, "Mul")])
def test_hard_swish_has_its_own_shift(shift: float, operator: str) -> None:
    """With another one the product is nothing below a level: a test of its argument."""
    nodes = [
        helper.make_node("HardSigmoid", ["convolved"], ["gate"], alpha=1 / 6, beta=shift),
        helper.make_node("Mul", ["convolved", "gate"], ["activated"]),
    ]
    model = models.build(
        [models.convolution(), *nodes, *models.head("activated")], models.weights(False)
    )
    assert operator in [node.operator for node in draw(model).nodes]
