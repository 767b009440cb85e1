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


def sparse(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a model with its tensors as sparse ones."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    del copy.graph.initializer[:]
    for tensor in model.graph.initializer:
        held = onnx.numpy_helper.to_array(tensor)
        places = np.flatnonzero(held)
        values = onnx.numpy_helper.from_array(held.reshape(-1)[places], tensor.name)
        indices = onnx.numpy_helper.from_array(places.astype(np.int64), "places")
        copy.graph.sparse_initializer.append(helper.make_sparse_tensor(values, indices, held.shape))
    return copy


def test_sparse_weights_are_weights() -> None:
    one, other = (read(model) for model in (models.plain(), sparse(models.plain())))
    assert one.constants.keys() == other.constants.keys()
    for name, held in one.constants.items():
        np.testing.assert_array_equal(held, other.constants[name])


def test_both_names_of_the_standard_domain_are_one() -> None:
    model = models.plain(opset=12)
    model.graph.node.add().CopyFrom(helper.make_node("Softmax", ["logits"], ["shares"]))
    model.graph.output[0].name = "shares"
    steps = read(model).steps
    model.opset_import[0].domain = "ai.onnx"
    assert read(model).steps == steps


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


def test_sparse_weights_of_a_body_are_weights() -> None:
    bodies = []
    for number in (1.0, 2.0):
        model = branching(1, "b")
        for node in model.graph.node:
            for attribute in node.attribute:
                if attribute.HasField("g"):
                    attribute.g.sparse_initializer.extend(
                        sparse(models.plain(seed=int(number))).graph.sparse_initializer
                    )
        bodies.append(next(step.attributes for step in read(model).steps if step.operator == "If"))
    assert bodies[0] != bodies[1]


def test_a_body_is_known_by_what_it_computes_and_not_by_its_names() -> None:
    told = [
        read(branching(*given)).steps[-1].attributes["then_branch"]
        for given in ((1.0, "a"), (1.0, "b"), (2.0, "a"))
    ]
    assert told[0] == told[1] != told[2]
