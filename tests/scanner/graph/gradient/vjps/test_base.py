"""What a VJP may ask of the node that it differentiates."""

import models
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from scanner.errors import NoGradientError
from scanner.graph.core.facts import infer
from scanner.graph.gradient.tape import Tape
from scanner.graph.gradient.vjps.base import Op


def asked(node: onnx.NodeProto, cotangents: int = 1) -> Op:
    constants = {"ints": np.array([2, 3], np.int64)}
    tape = Tape(infer(models.build([node], constants)), set())
    values = [tape.value(name) for name in node.output]
    entering = [value if i < cotangents else None for i, value in enumerate(values)]
    return Op(node, entering, frozenset({0}), tape, 18)


def test_inputs_and_attributes() -> None:
    node = helper.make_node("Softmax", ["image", "", "ints"], ["logits"], axis=-1, mode="text")
    op = asked(node)
    assert (op.has(0), op.has(1), op.has(2), op.has(3)) == (True, False, True, False)
    assert op.axis(0) == 3
    assert op.axis(1, name="other") == 1
    assert op.attribute("mode") == "text"
    assert op.constant_ints(2) == [2, 3]


def test_a_number_that_is_computed_is_refused() -> None:
    op = asked(helper.make_node("Tile", ["image", "image"], ["logits"], name="here"))
    with pytest.raises(NoGradientError, match=r"Tile \(node 'here'\).*'image' is not a constant"):
        op.constant_ints(1)


def test_the_gradient_must_enter_through_the_first_output() -> None:
    node = helper.make_node("Split", ["image"], ["logits", "more"], axis=2, num_outputs=2)
    with pytest.raises(NoGradientError, match="another output than the first"):
        _ = asked(node, cotangents=2).dy


def test_an_output_that_the_model_did_not_ask_for_can_be_requested() -> None:
    node = helper.make_node("MaxPool", ["image"], ["logits"], kernel_shape=[2, 2])
    places = asked(node).request_output(1, TensorProto.INT64)
    assert list(node.output) == ["logits", places.name]
    assert places.dtype == TensorProto.INT64
