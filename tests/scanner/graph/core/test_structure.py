"""Who makes and who uses each value, bodies included."""

from typing import Any

import models
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from scanner.graph.core.structure import (
    Uses,
    attribute,
    captures,
    integers,
    is_lowest_code,
    label,
    reads,
    subgraphs,
)


def test_an_attribute_has_a_value_or_the_default() -> None:
    node = helper.make_node("Elu", ["x"], ["y"], alpha=0.5)
    assert attribute(node, "alpha") == 0.5
    assert attribute(node, "beta", 7) == 7


def test_an_attribute_that_a_caller_gives_has_the_default() -> None:
    node = helper.make_node("Gemm", ["a", "b"], ["y"], beta=2.0)
    node.attribute[0].ref_attr_name = "outer"
    assert attribute(node, "beta", 1.0) == 1.0


def test_a_branch_reads_what_its_bodies_capture() -> None:
    node = models.branch_relu().graph.node[1]
    assert {body.name for body in subgraphs(node)} == {"then", "else"}
    assert reads(node) == {"condition", "convolved"}
    assert reads(models.convolution()) == {"image", "kernel", "bias"}


def test_a_body_captures_what_it_does_not_make() -> None:
    nodes = [
        helper.make_node("Add", ["given", "own"], ["a"]),
        helper.make_node("Mul", ["a", "outer"], ["b"]),
    ]
    given = helper.make_empty_tensor_value_info("given")
    results = [helper.make_empty_tensor_value_info(name) for name in ("b", "passed_on")]
    own = numpy_helper.from_array(np.zeros(1, np.float32), "own")
    body = helper.make_graph(nodes, "body", [given], results, [own])
    assert captures(body) == {"outer", "passed_on"}


def test_producers_consumers_and_constants() -> None:
    uses = Uses(models.quantised().graph)
    producer = uses.producer("convolved")
    assert producer is not None
    assert producer.op_type == "Conv"
    assert uses.producer("image") is None
    assert uses.sources("convolved") == {"image_again", "kernel", "bias"}
    assert uses.sources("image") == set()
    assert uses.scalar("zero") == 0
    assert uses.scalar("kernel_codes") is None
    assert "kernel_codes" in uses.constants


def test_an_output_without_a_name_is_made_by_nobody() -> None:
    node = helper.make_node("Dropout", ["x"], ["y", ""])
    assert Uses(helper.make_graph([node], "g", [], [])).producer("") is None


def test_a_constant_that_nobody_can_read_is_none() -> None:
    value = numpy_helper.from_array(np.zeros(3))
    node = helper.make_node("Constant", [], [], value=value)
    assert Uses(onnx.GraphProto(node=[node])).constants == {}


def test_a_value_that_leaves_the_graph_has_no_only_consumer() -> None:
    graph = models.plain().graph
    consumer = Uses(graph).only_consumer("convolved")
    assert consumer is not None
    assert consumer.op_type == "Relu"
    graph.output.append(helper.make_empty_tensor_value_info("convolved"))
    assert Uses(graph).only_consumer("convolved") is None


def test_a_node_is_called_by_its_name_else_by_operator_and_output() -> None:
    assert label(models.relu()) == "relu"
    assert label(helper.make_node("Relu", ["x"], ["y"]), "body") == "body/Relu(y)"


@pytest.mark.parametrize(
    ("code", "kind", "is_lowest"),
    [(0, np.uint8, True), (1, np.uint8, False), (-128, np.int8, True), (0, np.int8, False)],
)
def test_the_lowest_code(code: int, kind: type, is_lowest: bool) -> None:
    assert is_lowest_code(numpy_helper.from_array(np.array(code, kind))) == is_lowest


def test_a_zero_point_outside_the_file_says_nothing() -> None:
    tensor = onnx.TensorProto(data_type=TensorProto.UINT8, data_location=TensorProto.EXTERNAL)
    assert not is_lowest_code(tensor)


@pytest.mark.parametrize(
    ("held", "default", "expected"),
    [
        (3, 0, 3),
        (0.5, 1, 0.5),
        ([1, 2], 0, 0),
        ("text", 1.0, 1.0),
        ("text", b"NOTSET", b"text"),
        ([2, 1], range(2), [2, 1]),
        (3, (), ()),
        ([1, 2], None, [1, 2]),
    ],
)
def test_an_attribute_of_another_kind_counts_as_missing(
    held: Any, default: Any, expected: Any
) -> None:
    node = helper.make_node("Any", ["x"], ["y"], given=held)
    assert attribute(node, "given", default) == expected
    assert attribute(node, "missing", default) == default


def test_integers() -> None:
    node = helper.make_node("Any", ["x"], ["y"], given=[1, 2], other=1)
    assert integers(node, "given") == [1, 2]
    assert integers(node, "other", [5]) is None
    assert integers(node, "missing") is None
    assert integers(node, "missing", [5]) == [5]
