"""What the writer of bounds does by itself, whatever the rules are."""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from scanner.graph.dormancy.bounding import Interval, Writer


def graph(*nodes: onnx.NodeProto) -> onnx.ModelProto:
    """Return a model of these nodes, which read the image `x` and the constant `place`."""
    made = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3])],
        [helper.make_empty_tensor_value_info(nodes[-1].output[0])],
        [numpy_helper.from_array(np.array([0]), "place")],
    )
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def written(model: onnx.ModelProto) -> Writer:
    writer = Writer(model, {"Relu": lambda writer, node: writer.monotone(node)})
    for node in model.graph.node:
        writer.add(node)
    return writer


def test_a_rule_is_a_proof_and_what_has_none_an_estimate() -> None:
    writer = written(
        graph(helper.make_node("Relu", ["x"], ["y"]), helper.make_node("Tan", ["y"], ["z"]))
    )
    assert writer.estimated == {"z"}
    assert writer.pair("x") == Interval("x/low", "x/high")
    assert writer.pair("place") == Interval("place", "place")


def test_a_shape_is_a_constant_and_one_that_numbers_decide_is_not() -> None:
    known = written(graph(helper.make_node("Shape", ["x"], ["sizes"])))
    assert "sizes" not in known.intervals
    assert known.nodes[-1].input[0] == "x/low"
    decided = written(
        graph(
            helper.make_node("NonZero", ["x"], ["places"]),
            helper.make_node("Shape", ["places"], ["sizes"]),
        )
    )
    assert {"places", "sizes"} <= decided.estimated
