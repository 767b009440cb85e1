"""What sparse initialisers say is what is written out, and what does not fit stays."""

from typing import Any

import models
import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper, numpy_helper

from scanner.graph.core import sparse
from scanner.graph.core.draft import copied
from scanner.graph.core.sparse import write_out_sparse, written_out
from scanner.graph.gradient.backward import gradient_model
from scanner.graph.layers.weights import linear_layers

WEIGHTS = np.where(np.arange(24).reshape(6, 4) % 3, 0, np.arange(24).reshape(6, 4) - 11.5).astype(
    np.float32
)


def tensor(weights: models.Array, *, by_axis: bool) -> onnx.SparseTensorProto:
    flat = np.flatnonzero(weights)
    places: Any = np.argwhere(weights) if by_axis else flat
    return helper.make_sparse_tensor(
        numpy_helper.from_array(weights.reshape(-1)[flat], "w"),
        numpy_helper.from_array(places.astype(np.int64), "places"),
        weights.shape,
    )


def model(held: onnx.SparseTensorProto) -> onnx.ModelProto:
    product = helper.make_node("MatMul", ["image", "w"], ["logits"])
    made = models.build([product], {}, input_shape=("N", 6))
    made.graph.sparse_initializer.append(held)
    return made


@pytest.mark.parametrize("by_axis", [False, True])
@pytest.mark.parametrize("kind", [np.float32, np.float16, np.float64])
def test_it_is_written_out(kind: Any, by_axis: bool) -> None:
    made = copied(model(tensor(WEIGHTS.astype(kind), by_axis=by_axis)))
    write_out_sparse(made)
    (dense,) = made.graph.initializer
    assert not made.graph.sparse_initializer
    np.testing.assert_array_equal(numpy_helper.to_array(dense), WEIGHTS.astype(kind))


@pytest.mark.parametrize("by_axis", [False, True])
def test_sparse_weights_are_weights_and_have_a_gradient(by_axis: bool) -> None:
    made = model(tensor(WEIGHTS, by_axis=by_axis))
    (layer,) = linear_layers(made)
    (block,) = layer.weights.blocks()
    np.testing.assert_array_equal(block[..., 0], WEIGHTS.T)
    found = gradient_model(made, of="logits", with_respect_to=["image"])
    session = onnxruntime.InferenceSession(
        found.proto.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    weights, image = np.eye(4, dtype=np.float32), np.ones((4, 6), np.float32)
    (slope,) = session.run([found.gradients["image"]], {"image": image, found.weights: weights})
    np.testing.assert_array_equal(slope, WEIGHTS.T)


@pytest.mark.parametrize("places", [[-1], [24], [0, 1], [[0, 4]], [[6, 0]], [[0, 0, 0]], [[0]]])
def test_what_does_not_hold_what_it_says_stays(places: Any) -> None:
    held = onnx.SparseTensorProto(
        values=numpy_helper.from_array(np.ones(1, np.float32), "w"),
        indices=numpy_helper.from_array(np.array(places, np.int64), "places"),
        dims=[6, 4],
    )
    made = copied(model(held))
    write_out_sparse(made)
    assert [*made.graph.sparse_initializer] == [held]
    assert not made.graph.initializer


def test_a_model_without_any_is_returned_itself() -> None:
    assert written_out(plain := models.plain()) is plain
    sparse_model = model(tensor(WEIGHTS, by_axis=False))
    assert written_out(sparse_model).graph.initializer
    assert not sparse_model.graph.initializer


def test_what_takes_too_much_memory_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sparse, "_MOST_BYTES", WEIGHTS.nbytes - 1)
    made = copied(model(tensor(WEIGHTS, by_axis=False)))
    write_out_sparse(made)
    assert made.graph.sparse_initializer


@pytest.mark.parametrize(
    ("values", "places", "dims", "whole"),
    [
        (np.zeros(0, np.float32), np.zeros(0, np.int64), [6, 4], True),
        (np.zeros(0, np.float32), np.zeros((0, 2), np.int64), [6, 4], True),
        (np.zeros(0, np.float32), np.zeros(0, np.int64), [-6, -4], False),
        (np.ones(1, np.float32), np.zeros(1, np.float32), [6, 4], False),
        (np.ones(1, np.float32), np.int64(0), [6, 4], False),
        (np.array(["a"], object), np.zeros(1, np.int64), [6, 4], False),
    ],
)
def test_odd_ones_are_read_or_stay(
    values: models.Array, places: models.Array, dims: list[int], whole: bool
) -> None:
    held = onnx.SparseTensorProto(
        values=numpy_helper.from_array(np.asarray(values), "w"),
        indices=numpy_helper.from_array(np.asarray(places), "places"),
        dims=dims,
    )
    read = written_out(model(held)).graph
    assert [t.name for t in read.initializer] == (["w"] if whole else [])
    assert len(read.sparse_initializer) == (not whole)
    assert not any(numpy_helper.to_array(t).any() for t in read.initializer)
