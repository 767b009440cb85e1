"""One score that decides between two classes answers like the two that are made of it."""

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from onnx import TensorProto, helper

from scanner.graph.layers.logits import find_logits
from scanner.graph.layers.two_scores import BOTH, both, scored, single


def detector(shape: list[str | int], kind: int = TensorProto.FLOAT) -> onnx.ModelProto:
    """Return a model that squashes its input, one number for each image."""
    graph = helper.make_graph(
        [helper.make_node("Relu", ["x"], ["z"]), helper.make_node("Sigmoid", ["z"], ["p"])],
        "detector",
        [helper.make_tensor_value_info("x", kind, shape)],
        [helper.make_tensor_value_info("p", kind, shape)],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


SHAPES: list[list[str | int]] = [["N"], ["N", 1], ["N", 1, 1, 1]]


@pytest.mark.parametrize("shape", SHAPES)
def test_one_score_is_found(shape: list[str | int]) -> None:
    found = find_logits(detector(shape))
    assert (found.value, found.classes, found.single) == ("z", 2, len(shape))
    assert find_logits(detector(["N", 3])).single is None


def test_a_score_that_nothing_squashes_decides_nothing_unless_the_user_says_so() -> None:
    open_ended = detector(["N", 1])
    open_ended.graph.output[0].name = "z"
    assert find_logits(open_ended).single is None
    assert find_logits(open_ended, "z").single == 2


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("kind", [TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE])
def test_the_graph_makes_both(shape: list[str | int], kind: int) -> None:
    proto = detector(shape, kind)
    made, name = scored(proto, find_logits(proto))
    assert name == BOTH
    assert len(proto.graph.node) == 2, "the model itself stays as it is"
    made.graph.output.add().name = BOTH
    session = onnxruntime.InferenceSession(
        made.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    images = np.array([0.5, 0.0, 3.0], helper.tensor_dtype_to_np_dtype(kind))
    squashed, scores = session.run(None, {"x": images.reshape(3, *(1,) * (len(shape) - 1))})
    assert scores.dtype == images.dtype
    np.testing.assert_array_equal(scores, both(images))
    probability = np.exp(scores[:, 1]) / np.exp(scores).sum(axis=1)
    np.testing.assert_allclose(probability, squashed.reshape(-1), rtol=5e-3)


@given(arrays(np.float32, st.integers(1, 5), elements=st.integers(-(2**20), 2**20)))
def test_both_hold_the_one(score: npt.NDArray[np.float32]) -> None:
    np.testing.assert_array_equal(single(both(score), 1), score)
    assert single(both(score), 3).shape == (len(score), 1, 1)
    np.testing.assert_array_equal(both(score).argmax(axis=1) == 1, score > 0)


def test_scores_per_class_stay_as_they_are() -> None:
    proto = detector(["N", 3])
    assert scored(proto, find_logits(proto)) == (proto, "z")
