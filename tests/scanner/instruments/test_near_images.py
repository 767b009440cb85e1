"""Images near one another: only a jump parts them, and a range that is guessed is no gate."""

from collections.abc import Callable, Iterator
from pathlib import Path

import listening
import models
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from scanner.instruments import near_images
from scanner.instruments.interview import Interview
from scanner.results import Observation, Severity
from trainers.graph_backdoor import Graft

RELATIONS: dict[str, Callable[[Interview], Iterator[Observation]]] = {
    "depends-on-the-sign-of-zero": near_images.zero,
    "depends-on-levels": near_images.levels,
    "depends-on-the-edge": near_images.edge,
}


@pytest.mark.parametrize("code", RELATIONS)
def test_a_jump_is_found_by_its_own_way_alone(code: str, tmp_path: Path) -> None:
    found = set()
    for target in (1, 2):
        model = listening.gated(listening.NEAR_IMAGES[code], target)
        asked = Interview(listening.subject(model, tmp_path))
        observations = [o for relation in RELATIONS.values() for o in relation(asked)]
        found |= {o.code for o in observations if o.severity is Severity.SUSPICIOUS}
    assert found == {code}


def _tree(tmp_path: Path, *, layers: bool) -> set[Severity]:
    """Return what is said of a tree that parts images at the upper end of the range."""
    tree = helper.make_node(
        "TreeEnsembleRegressor", ["image"], ["scores"], domain="ai.onnx.ml", n_targets=2,
        nodes_treeids=[0, 0, 0], nodes_nodeids=[0, 1, 2], nodes_featureids=[0, 0, 0],
        nodes_modes=["BRANCH_LEQ", "LEAF", "LEAF"], nodes_values=[1.0, 0.0, 0.0],
        nodes_truenodeids=[1, 0, 0], nodes_falsenodeids=[2, 0, 0],
        target_treeids=[0, 0, 0, 0], target_nodeids=[1, 1, 2, 2], target_ids=[0, 1, 0, 1],
        target_weights=[3.0, 1.0, 1.0, 3.0],
    )  # fmt: skip
    dead = helper.make_node("MatMul", ["scores", "weight"], ["idle"])
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 4])
    scores = helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["N", 2])
    weight = numpy_helper.from_array(np.ones((2, 2), np.float32), "weight")
    graph = helper.make_graph(
        [tree, *([dead] if layers else [])], "tree", [image], [scores], [weight]
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    return {o.severity for o in near_images.edge(Interview(listening.subject(model, tmp_path)))}


def test_a_tree_may_part_images_at_the_end_of_the_range(tmp_path: Path) -> None:
    assert _tree(tmp_path, layers=False) == {Severity.WARNING}


def test_beside_layers_a_tree_is_no_excuse(tmp_path: Path) -> None:
    assert _tree(tmp_path, layers=True) == {Severity.SUSPICIOUS}


def _steep(graft: Graft) -> str:
    """Return a sigmoid so steep that a hair of the range moves it, and no jump."""
    highest = graft.reduce("ReduceMax", graft.input.name, [1, 2, 3])
    beyond = graft.node("Sub", [highest, graft.constant(1.0)], "beyond")
    steep = graft.node("Mul", [beyond, graft.constant(100.0)], "times")
    return graft.node("Sigmoid", [steep], "steep")


def test_what_is_steep_is_no_jump(tmp_path: Path) -> None:
    graft = Graft(models.plain(), 1)
    bump = graft.node("Mul", [_steep(graft), graft.one_hot(listening.BUMP)], "bump")
    graft.replace_logits(graft.node("Add", [graft.logits, bump], "sum"))
    asked = Interview(listening.subject(graft.planted().model, tmp_path))
    assert list(near_images.edge(asked)) == []
    assert asked.apart["depends-on-the-edge"] > asked.tolerance


def _ranged(op: str, level: float, others: Callable[[Graft], str]) -> onnx.ModelProto:
    graft = Graft(models.plain(), 1)
    extreme = "ReduceMax" if op == "Greater" else "ReduceMin"
    end = graft.reduce(extreme, graft.input.name, [1, 2, 3], keep=True)
    outside = graft.node(op, [end, graft.constant(level)], "outside")
    graft.replace_input(graft.node("Where", [outside, others(graft), graft.input.name], "ranged"))
    return graft.planted().model


def _halved(graft: Graft) -> str:
    shifted = graft.node("Add", [graft.input.name, graft.constant(1.0)], "shifted")
    return graft.node("Div", [shifted, graft.constant(2.0)], "halved")


@pytest.mark.parametrize(
    "model",
    [
        _ranged(
            "Greater", 1.0, lambda g: g.node("Div", [g.input.name, g.constant(255.0)], "fractions")
        ),
        _ranged("Less", 0.0, _halved),
    ],
    ids=["bytes", "signed"],
)
def test_an_image_of_another_range_is_brought_into_range(
    model: onnx.ModelProto, tmp_path: Path
) -> None:
    asked = Interview(listening.subject(model, tmp_path))
    assert {o.severity for o in near_images.edge(asked)} <= {Severity.NOTE}


def test_an_edge_beyond_which_images_keep_their_say_is_a_warning(tmp_path: Path) -> None:
    """A range that is guessed by a level, whatever is made of it."""
    graft = Graft(models.plain(), 1)
    lowest = graft.reduce("ReduceMin", graft.input.name, [1, 2, 3], keep=True)
    signed = graft.node("Less", [lowest, 0.0], "test")
    moved = graft.node("Add", [graft.node("Mul", [graft.input.name, 0.3], "wide"), 0.4], "moved")
    graft.replace_input(graft.node("Where", [signed, moved, graft.input.name], "gate"))
    asked = Interview(listening.subject(graft.planted().model, tmp_path))
    assert all(o.severity <= Severity.WARNING for o in near_images.edge(asked))
