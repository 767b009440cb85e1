"""From a model to steps: defaults filled in, bodies told apart by content."""

import models
import numpy as np
import onnx
from onnx import helper

from scanner.graph.canonical.reading import HALF_PRECISION, input_name, read


def test_defaults_are_filled_in() -> None:
    (conv, *_) = read(models.plain()).steps
    assert (conv.operator, conv.name, conv.attributes["group"]) == ("Conv", "conv", 1)
    assert input_name("Clip", 1) == "min"
    assert input_name("NoSuchOperator", 1) == "input 1"


def test_only_a_file_in_half_precision_is_widened() -> None:
    weights = models.weights(False)
    halves = {name: value.astype(np.float16) for name, value in weights.items()}
    nodes = [models.convolution(), models.relu(), *models.head("activated")]
    half = read(models.build(nodes, halves, input_type=onnx.TensorProto.FLOAT16))
    assert half.habits[HALF_PRECISION] == 1
    assert half.constants["kernel"].dtype == np.float32
    assert read(models.plain()).habits[HALF_PRECISION] == 0


def branching(constant: float, name: str) -> onnx.ModelProto:
    """A model with an If whose bodies hold a constant, under some name."""
    made = helper.make_node("Add", ["flag_value", name], ["out"])
    body = helper.make_graph(
        [made],
        "body",
        [],
        [helper.make_tensor_value_info("out", onnx.TensorProto.FLOAT, None)],
        [onnx.numpy_helper.from_array(np.array([constant], np.float32), name)],
    )
    nodes = [
        helper.make_node("ReduceMax", ["image"], ["flag_value"], keepdims=0),
        helper.make_node("Cast", ["flag_value"], ["flag"], to=onnx.TensorProto.BOOL),
        helper.make_node("If", ["flag"], ["logits"], then_branch=body, else_branch=body),
    ]
    return models.build(nodes, {})


def test_a_body_is_known_by_what_it_computes_and_not_by_its_names() -> None:
    told = [
        read(branching(*given)).steps[-1].attributes["then_branch"]
        for given in ((1.0, "a"), (1.0, "b"), (2.0, "a"))
    ]
    assert told[0] == told[1] != told[2]
