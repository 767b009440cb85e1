"""What classical models learnt is weights; what people chose for them stays an attribute."""

from collections.abc import Sequence
from typing import Any

import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper

from scanner.graph.canonical.drawing import draw
from scanner.judging.differences import differences
from scanner.results import CanonicalNode, Differences, Kind, Relation

ML = "ai.onnx.ml"


def model(*nodes: onnx.NodeProto, columns: int = 4) -> onnx.ModelProto:
    graph = helper.make_graph(
        list(nodes),
        "classical",
        [helper.make_tensor_value_info("table", TensorProto.FLOAT, ["n", columns])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["n", 3])],
    )
    return helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 18), helper.make_opsetid(ML, 3)]
    )


def linear(coefficients: Sequence[float], intercepts: Sequence[float]) -> onnx.NodeProto:
    return helper.make_node(
        "LinearClassifier", ["table"], ["label", "scores"], name="linear", domain=ML,
        coefficients=coefficients, intercepts=intercepts, classlabels_ints=[0, 1, 2],
    )  # fmt: skip


def forest(levels: Sequence[float], **others: Any) -> onnx.ModelProto:
    """A forest of one stump for each level."""
    count = len(levels)
    given: dict[str, Any] = {
        "nodes_treeids": [tree for tree in range(count) for _ in range(3)],
        "nodes_nodeids": [0, 1, 2] * count,
        "nodes_featureids": [1, 0, 0] * count,
        "nodes_modes": ["BRANCH_LEQ", "LEAF", "LEAF"] * count,
        "nodes_values": [n for level in levels for n in (level, 0.0, 0.0)],
        "nodes_truenodeids": [1, 0, 0] * count,
        "nodes_falsenodeids": [2, 0, 0] * count,
        "class_treeids": [tree for tree in range(count) for _ in range(2)],
        "class_nodeids": [1, 2] * count,
        "class_ids": [0, 1] * count,
        "class_weights": [n for level in levels for n in (level / 2, 1 - level)],
        "classlabels_int64s": [0, 1, 2],
        **others,
    }
    return model(
        helper.make_node(
            "TreeEnsembleClassifier", ["table"], ["label", "scores"], name="forest", domain=ML,
            **given,
        )
    )  # fmt: skip


def only(proto: onnx.ModelProto) -> CanonicalNode:
    (node,) = draw(proto).nodes
    return node


def beside(suspect: onnx.ModelProto, reference: onnx.ModelProto) -> Differences:
    return differences(draw(suspect), draw(reference))


COEFFICIENTS = [0.1 * n for n in range(1, 13)]
ANEW = [0.3 - 0.2 * n for n in range(1, 13)]


def test_coefficients_are_rows_by_class() -> None:
    node = only(model(linear(COEFFICIENTS, [0.5, 0.25, 0.125])))
    assert {w.role: w.shape for w in node.weights} == {"coefficients": (3, 4), "intercepts": (3,)}
    assert set(node.attributes) == {"classlabels_ints", "multi_class", "post_transform"}


def test_another_training_is_no_other_network() -> None:
    trained, anew = model(linear(COEFFICIENTS, [0.5] * 3)), model(linear(ANEW, [0.1] * 3))
    found = beside(trained, anew)
    assert (found.obstacle, found.changes, found.weights) == ("", (), Relation.UNRELATED)


def test_one_class_edited_stands_out() -> None:
    edited = [*COEFFICIENTS[:8], 9.0, *COEFFICIENTS[9:]]
    found = beside(model(linear(edited, [0.5] * 3)), model(linear(COEFFICIENTS, [0.5] * 3)))
    assert [layer.standing_out for layer in found.standing_out] == [(2,)]
    assert found.grave


@given(
    st.lists(st.integers(1, 49), min_size=2, max_size=9, unique=True),
    st.lists(st.integers(51, 99), min_size=2, max_size=9, unique=True),
)
def test_a_forest_trained_anew_has_other_trees_and_is_the_same_network(
    levels: list[int], anew: list[int]
) -> None:
    found = beside(forest([n / 100 for n in levels]), forest([n / 100 for n in anew]))
    assert found.suspect == found.reference  # the fingerprints
    assert not found.grave


def test_a_tree_that_was_added_or_changed_is_grave() -> None:
    levels = [0.1, 0.2, 0.3, 0.4]
    added = beside(forest([*levels, 0.9]), forest(levels))
    assert {change.kind for change in added.unexplained} == {Kind.SHAPE}
    changed = beside(forest([0.1, 0.2, 0.3, 0.9]), forest(levels))
    assert {layer.role for layer in changed.standing_out} == {"nodes", "class"}


def test_what_people_chose_is_told_in_words() -> None:
    same, other = ["BRANCH_LEQ", "LEAF", "LEAF"], ["BRANCH_GT", "LEAF", "LEAF"]
    assert only(forest([0.5], nodes_modes=same)).attributes["modes"] == "BRANCH_LEQ, LEAF"
    found = beside(forest([0.5], nodes_modes=other), forest([0.5]))
    assert "modes" in found.unexplained[0].suspect


@pytest.mark.parametrize("counts", [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
def test_how_many_rows_of_a_training_came_by_says_nothing(counts: list[float]) -> None:
    assert not beside(forest([0.5], nodes_hitrates=counts), forest([0.5])).changes


def test_support_vectors_may_be_more_in_another_training() -> None:
    def machine(count: int, value: float) -> onnx.ModelProto:
        return model(
            helper.make_node(
                "SVMClassifier", ["table"], ["label", "scores"], name="svm", domain=ML,
                support_vectors=[value + n for n in range(4 * count)],
                coefficients=[value * n for n in range(1, 2 * count + 1)],
                rho=[value] * 3, vectors_per_class=[count - 2, 1, 1], kernel_type="RBF",
                kernel_params=[0.1, 0.0, 3.0], classlabels_ints=[0, 1, 2],
            )
        )  # fmt: skip

    found = beside(machine(6, 0.5), machine(9, 0.25))
    assert not found.grave
    assert found.weights is Relation.UNRELATED
