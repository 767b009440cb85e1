"""Branches of trees that no row reaches, or that decide nothing."""

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

from scanner.graph.audit import trees
from scanner.modelfile.nested import Contents

THRESHOLDS = np.random.default_rng(3).uniform(0, 1, 40).tolist()


def told(root: float, thresholds: list[float], weights: list[float], **more: Any) -> list[str]:
    """A root, a chain of tests behind its false branch, and a leaf at each of their true ones."""
    count = len(thresholds)
    tests = range(count + 1)
    leaves = [count + 1 + n for n in range(count + 2)]
    columns: dict[str, Any] = {
        "nodes_treeids": [0] * (2 * count + 3),
        "nodes_nodeids": [*tests, *leaves],
        "nodes_modes": ["BRANCH_LEQ"] * (count + 1) + ["LEAF"] * (count + 2),
        "nodes_featureids": [0] * (2 * count + 3),
        "nodes_values": [root, *thresholds] + [0.0] * (count + 2),
        "nodes_truenodeids": [count + 1 + n for n in tests] + [0] * (count + 2),
        "nodes_falsenodeids": [n + 1 for n in tests][:-1] + [leaves[-1]] + [0] * (count + 2),
        "target_treeids": [0] * len(leaves),
        "target_nodeids": leaves,
        "target_ids": [0] * len(leaves),
        "target_weights": (weights * len(leaves))[: len(leaves)],
    }
    node = helper.make_node(
        "TreeEnsembleRegressor", ["x"], ["y"], domain="ai.onnx.ml", **{**columns, **more}
    )
    return [o.code for o in trees.observe(Contents(onnx.ModelProto(graph={"node": [node]})))]


def test_an_honest_chain() -> None:
    assert told(-1.0, sorted(THRESHOLDS), [0.25, 0.5]) == []


@pytest.mark.parametrize("root", [3e38, 2e30])
def test_behind_a_test_that_no_number_fails(root: float) -> None:
    assert told(root, THRESHOLDS, [0.25, 0.5]) == ["idle-branches"]


def test_thresholds_below_one_that_was_exceeded() -> None:
    assert told(1.5, THRESHOLDS, [0.25, 0.5]) == ["idle-branches"]


@pytest.mark.parametrize("weight", [0.0, 0.5])
def test_leaves_that_all_say_the_same(weight: float) -> None:
    assert told(-1.0, sorted(THRESHOLDS), [weight]) == ["idle-branches"]


def test_few_thresholds_hold_nothing() -> None:
    assert told(3e38, THRESHOLDS[:8], [0.25, 0.5]) == []


def test_a_tree_that_leads_to_itself_ends() -> None:
    loop = [1, 2, *range(3, 41), 0]
    assert told(-1.0, THRESHOLDS, [0.25, 0.5], nodes_falsenodeids=loop + [0] * 42) == []
