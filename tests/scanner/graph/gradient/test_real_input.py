"""Integer inputs made real: the same function, differentiable."""

import models
import numpy as np
import onnx
import pytest
import triggered
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

from scanner.errors import NoGradientError
from scanner.graph.gradient.real_input import real_input


@pytest.mark.parametrize(
    "kind", [TensorProto.UINT8, TensorProto.INT8, TensorProto.INT32, TensorProto.INT64]
)
def test_the_function_stays_the_same(kind: int) -> None:
    model = triggered.classifier(kind=kind)
    dtype = helper.tensor_dtype_to_np_dtype(kind)
    images = np.random.default_rng(0).integers(0, 100, (3, 1, 8, 8)).astype(dtype)
    relaxed = real_input(model)
    assert relaxed.graph.input[0].type.tensor_type.elem_type == TensorProto.FLOAT
    (expected,) = ReferenceEvaluator(model).run(None, {"image": images})
    (found,) = ReferenceEvaluator(relaxed).run(None, {"image": images.astype(np.float32)})
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("kind", [TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE])
def test_a_real_input_is_left_alone(kind: int) -> None:
    model = triggered.classifier(kind=kind)
    assert real_input(model) is model


def test_the_argument_is_not_touched() -> None:
    model = triggered.classifier(kind=TensorProto.UINT8)
    before = model.SerializeToString()
    real_input(model)
    assert model.SerializeToString() == before


def other_use(operator: str) -> onnx.ModelProto:
    """The integer image also goes elsewhere than into the cast."""
    model = triggered.classifier(kind=TensorProto.UINT8)
    model.graph.node.append(helper.make_node(operator, ["image"], ["elsewhere"]))
    return model


def two_casts() -> onnx.ModelProto:
    model = triggered.classifier(kind=TensorProto.UINT8)
    model.graph.node.append(
        helper.make_node("Cast", ["image"], ["elsewhere"], to=TensorProto.DOUBLE)
    )
    return model


def quantised_input() -> onnx.ModelProto:
    """Codes come in, and are only dequantised."""
    model = triggered.classifier(kind=TensorProto.UINT8)
    model.graph.node[0].CopyFrom(
        helper.make_node("DequantizeLinear", ["image", "scale"], ["floats"])
    )
    return model


@pytest.mark.parametrize("model", [other_use("BitwiseNot"), two_casts(), quantised_input()])
def test_an_integer_that_is_not_simply_cast_is_refused(model: onnx.ModelProto) -> None:
    with pytest.raises(NoGradientError, match="'image' is an integer that the graph does not cast"):
        real_input(model)


def test_the_shape_may_be_asked_for() -> None:
    assert [n.op_type for n in real_input(other_use("Shape")).graph.node][0::4] == [
        "Identity",
        "Add",
    ]


def test_several_casts_to_one_type_are_all_replaced() -> None:
    model = models.bytes_input()
    model.graph.node.insert(0, helper.make_node("Cast", ["image"], ["again"], to=TensorProto.FLOAT))
    assert [n.op_type for n in real_input(model).graph.node[:2]] == ["Identity", "Identity"]
