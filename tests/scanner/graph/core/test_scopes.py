"""Names are kept apart and defaults kept where one graph is put into another."""

import models
import numpy as np
import onnx
from onnx import helper, numpy_helper

from scanner.graph.core.flatten import flatten
from scanner.graph.core.scopes import own_names, renamed_apart, with_defaults
from scanner.graph.core.structure import attribute


def branch(value: float) -> onnx.GraphProto:
    weight = numpy_helper.from_array(np.array([value], np.float32), "weight")
    node = helper.make_node("Mul", ["image", "weight"], ["out"], name="same")
    output = helper.make_empty_tensor_value_info("out")
    return helper.make_graph([node], "branch", [], [output], [weight])


def leaky(**given: float) -> onnx.ModelProto:
    """A model whose function has a default slope, called with or without a slope of its own."""
    model = models.function_relu()
    node = model.functions[0].node[0]
    node.op_type = "LeakyRelu"
    node.attribute.add(name="alpha", ref_attr_name="slope", type=onnx.AttributeProto.FLOAT)
    model.functions[0].attribute_proto.append(helper.make_attribute("slope", 0.5))
    call = next(node for node in model.graph.node if node.domain == "local")
    call.attribute.extend(helper.make_attribute(name, value) for name, value in given.items())
    return model


def test_branches_that_share_names_are_kept_apart() -> None:
    first = branch(1.0)
    second = renamed_apart(branch(2.0), own_names(first), {"same"}, "second/")
    assert own_names(second) == {"second/weight", "second/out"}
    assert second.output[0].name == "second/out"
    assert list(second.node[0].input) == ["image", "second/weight"]
    assert second.node[0].name == ""


def test_a_body_whose_names_are_free_is_itself() -> None:
    body = branch(1.0)
    assert renamed_apart(body, {"other"}, {"another"}, "x/") is body


def test_a_fresh_name_is_never_taken() -> None:
    taken = {"weight", "x/weight"}
    assert "x/x/weight" in own_names(renamed_apart(branch(1.0), taken, (), "x/"))


def test_a_call_gets_the_defaults_that_it_leaves_out() -> None:
    for given, slope in (({}, 0.5), ({"slope": 0.25}, 0.25)):
        filled = with_defaults(leaky(**given))
        (call,) = (node for node in filled.graph.node if node.domain == "local")
        assert [a.name for a in call.attribute] == ["slope"]
        (expanded,) = (n for n in flatten(leaky(**given)).graph.node if n.op_type == "LeakyRelu")
        assert attribute(expanded, "alpha") == slope


def test_a_model_without_defaults_is_itself() -> None:
    model = models.function_relu()
    assert with_defaults(model) is model
