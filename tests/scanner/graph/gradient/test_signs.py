"""A sign that only turns what is computed from the same value has the slope 0 of its definition."""

import numpy as np
import pytest
from finite_differences import Function, assert_gradient
from onnx import helper

from scanner.graph.gradient.signs import turning

ROOTS = [
    helper.make_node("Sign", ["x"], ["s"]),
    helper.make_node("Abs", ["x"], ["a"]),
    helper.make_node("Sqrt", ["a"], ["r"]),
    helper.make_node("Mul", ["s", "r"], ["y"]),
]
ACTIVATION = [
    helper.make_node("Sign", ["x"], ["s"]),
    helper.make_node("Mul", ["s", "W"], ["y"]),
]
BOTH = [*ROOTS[:3], helper.make_node("Mul", ["s", "r"], ["q"]),
        helper.make_node("Add", ["s", "q"], ["y"])]  # fmt: skip


@pytest.mark.parametrize(
    ("nodes", "expected"),
    [(ROOTS, {"s"}), (ACTIVATION, set()), (BOTH, set()), (ROOTS[1:3], set())],
    ids=["signed root", "activation", "read twice", "no sign"],
)
def test_which_signs_only_turn(nodes: list[object], expected: set[str]) -> None:
    graph = Function(nodes, {"x": np.ones(3)}, {"W": np.ones(3)}).model(np.float32).graph  # type: ignore[arg-type]
    assert turning(graph) == expected


def test_the_signed_root_has_its_own_derivative() -> None:
    rng = np.random.default_rng(0)
    x = rng.uniform(0.3, 2, (3, 4)) * rng.choice([-1, 1], (3, 4))
    assert_gradient(Function(ROOTS, {"x": x}), rng)
