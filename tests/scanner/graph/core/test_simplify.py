"""Simplification leaves the function as it was."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
import onnx.reference
import onnxruntime as ort
import pytest
from finite_differences import Array, Function, node
from hypothesis import given
from hypothesis import strategies as st
from onnx import helper, numpy_helper

from scanner.graph.core.draft import Draft
from scanner.graph.core.simplify import (
    fold_batch_normalisation,
    fold_constants,
    pool_before_relu,
)

RNG = np.random.default_rng(1)
X = RNG.standard_normal((2, 3, 5, 5))


def normalised(*extra: onnx.NodeProto) -> Draft:
    """Return a convolution with a bias, then its batch normalisation."""
    constants = {
        "w": RNG.standard_normal((4, 3, 3, 3)),
        "b": RNG.standard_normal(4),
        "scale": RNG.standard_normal(4),
        "shift": RNG.standard_normal(4),
        "mean": RNG.standard_normal(4),
        "variance": RNG.uniform(0.5, 2, 4),
    }
    nodes = [
        helper.make_node("Conv", ["x", "w", "b"], ["c"]),
        helper.make_node(
            "BatchNormalization", ["c", "scale", "shift", "mean", "variance"], ["n"], epsilon=1e-3
        ),
        *extra,
    ]
    return Draft(Function(nodes, {"x": X}, constants).model(np.float32))


def value(model: onnx.ModelProto) -> Array:
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(["y"], {"x": X.astype(np.float32)})[0])


def test_batch_normalisation_is_folded_into_its_convolution() -> None:
    model = normalised(node("Relu", "n"))
    before = value(model)
    fold_batch_normalisation(model, {"y"})
    assert [item.op_type for item in model.graph.node] == ["Conv", "Relu"]
    np.testing.assert_allclose(value(model), before, rtol=1e-4, atol=1e-5)


def test_convolution_that_is_read_elsewhere_is_left() -> None:
    model = normalised(node("Add", "n c"))
    fold_batch_normalisation(model, {"y"})
    assert [item.op_type for item in model.graph.node] == ["Conv", "BatchNormalization", "Add"]


def test_convolution_that_is_asked_for_is_left() -> None:
    model = normalised(node("Relu", "n"))
    fold_batch_normalisation(model, {"y", "c"})
    assert [item.op_type for item in model.graph.node] == ["Conv", "BatchNormalization", "Relu"]


def test_pool_comes_before_the_relu_that_only_it_reads() -> None:
    model = pooled()
    before = value(model)
    pool_before_relu(model, {"y"})
    assert [item.op_type for item in model.graph.node] == ["MaxPool", "Relu"]
    np.testing.assert_array_equal(value(model), before)


def test_relu_that_is_read_elsewhere_stays_before_its_pool() -> None:
    model = pooled(helper.make_node("ReduceMax", ["r"], ["m"]))
    pool_before_relu(model, {"y"})
    assert [item.op_type for item in model.graph.node] == ["Relu", "MaxPool", "ReduceMax"]


def test_relu_that_is_asked_for_stays_before_its_pool() -> None:
    model = pooled()
    pool_before_relu(model, {"y", "r"})
    assert [item.op_type for item in model.graph.node] == ["Relu", "MaxPool"]


def test_relu_stays_before_a_pool_that_tells_places() -> None:
    model = pooled()
    model.graph.node[1].output.append("places")
    pool_before_relu(model, {"y"})
    assert [item.op_type for item in model.graph.node] == ["Relu", "MaxPool"]


def pooled(*extra: onnx.NodeProto) -> Draft:
    """Return a rectifier, and a pool of its values."""
    nodes = [
        helper.make_node("Relu", ["x"], ["r"]),
        node("MaxPool", "r", kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]),
        *extra,
    ]
    return Draft(Function(nodes, {"x": X}).model(np.float32))


def test_constants_larger_than_the_budget_are_left() -> None:
    nodes = [
        helper.make_node("ConstantOfShape", ["sizes"], ["huge"]),
        helper.make_node("ReduceMax", ["huge"], ["top"], keepdims=0),
        node("Add", "x top"),
    ]
    sizes = {"sizes": np.array([2**20, 2**20], np.int64)}
    model = Draft(Function(nodes, {"x": X}, sizes).model(np.float32))
    fold_constants(model, {"y"})
    assert [item.op_type for item in model.graph.node] == ["ConstantOfShape", "ReduceMax", "Add"]


def test_a_constant_of_nothing_is_left() -> None:
    nodes = [helper.make_node("Transpose", [""], ["t"]), node("Mul", "x t")]
    model = Draft(Function(nodes, {"x": X}).model(np.float32))
    fold_constants(model, {"y"})
    assert [item.op_type for item in model.graph.node] == ["Transpose", "Mul"]


def test_chain_of_constants_becomes_one() -> None:
    nodes = [
        helper.make_node("Constant", [], ["two"], value_float=2.0),
        helper.make_node("Exp", ["two"], ["e"]),
        helper.make_node("Neg", ["e"], ["n"]),
        node("Mul", "x n"),
    ]
    model = Draft(Function(nodes, {"x": X}).model(np.float32))
    fold_constants(model, {"y"})
    assert [item.op_type for item in model.graph.node] == ["Mul"]
    np.testing.assert_allclose(value(model), -np.exp(2) * X, rtol=1e-5)


def test_what_is_folded_leaves_no_hold_on_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """An evaluator is a ring of Python objects; a node in it holds all weights beside it."""
    held, plain = list[onnx.NodeProto](), onnx.reference.ReferenceEvaluator

    def noted(proto: onnx.NodeProto, **options: Any) -> Any:
        held.append(proto)
        return plain(proto, **options)

    monkeypatch.setattr(onnx.reference, "ReferenceEvaluator", noted)
    draft = normalised(
        helper.make_node("Neg", ["b"], ["folded"], name="computed"),
        helper.make_node("Add", ["n", "n"], ["y"]),
    )
    nodes = list(draft.graph.node)
    fold_constants(draft, {"y"})
    assert [proto.name for proto in held] == ["computed"]
    held[0].name = "another"
    assert "another" not in {own.name for own in nodes}


@pytest.mark.parametrize(
    ("places", "expected"), [([1, -1], [3, 5]), (2, 5), ([[1], [2]], [[3], [5]]), ([0], None)]
)
def test_fixed_sizes_that_are_taken_of_an_open_shape_are_numbers(
    places: Any, expected: Any
) -> None:
    """The batch's is none, and a node that takes it too stays."""
    graph = helper.make_graph(
        [
            helper.make_node("Shape", ["x"], ["shape"]),
            helper.make_node("Gather", ["shape", "places"], ["sizes"]),
            helper.make_node("Identity", ["sizes"], ["y"]),
        ],
        "g",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["N", 3, 5])],
        [helper.make_empty_tensor_value_info("y")],
        [numpy_helper.from_array(np.array(places), "places")],
    )
    model = Draft(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]))
    fold_constants(model, keep=["y"])
    found = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    if expected is None:
        assert [item.op_type for item in model.graph.node] == ["Shape", "Gather", "Identity"]
    else:
        np.testing.assert_array_equal(found["sizes"], expected)
        assert found["sizes"].dtype == np.int64


def answers(model: onnx.ModelProto, feeds: Mapping[str, Array]) -> list[Array]:
    session = ort.InferenceSession(model.SerializeToString())
    found: list[Array] = session.run(None, feeds)
    return found


@given(
    start=st.integers(-5, 5),
    end=st.integers(-5, 5),
    step=st.sampled_from([-2, -1, 1, 2]),
    cut=st.tuples(st.integers(0, 2), st.integers(2, 4)),
)
def test_slices_of_a_shape_are_those_of_onnxruntime(
    start: int, end: int, step: int, cut: tuple[int, int]
) -> None:
    graph = helper.make_graph(
        [
            helper.make_node("Shape", ["x"], ["shape"], start=cut[0], end=cut[1]),
            helper.make_node("Slice", ["shape", "start", "end", "axis", "step"], ["sizes"]),
            helper.make_node("Identity", ["sizes"], ["y"]),
        ],
        "g",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["N", 3, 5, 7])],
        [helper.make_tensor_value_info("y", onnx.TensorProto.INT64, [None])],
        [
            numpy_helper.from_array(np.array([number]), name)
            for name, number in zip(
                ("start", "end", "axis", "step"), (start, end, 0, step), strict=True
            )
        ],
    )
    model = Draft(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    )
    image = {"x": np.zeros((2, 3, 5, 7), np.float32)}
    (before,) = answers(model, image)
    fold_constants(model, keep=["y"])
    (after,) = answers(model, image)
    np.testing.assert_array_equal(after, before)
    if cut[0] > 0 and (step > 0 or start >= cut[0] - cut[1]):
        assert [item.op_type for item in model.graph.node] == ["Identity"]
