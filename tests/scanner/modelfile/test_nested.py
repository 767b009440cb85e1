"""All graphs within a graph are found, and none deeper than allowed."""

import onnx
import pytest

from scanner.errors import UnsafeModelError
from scanner.modelfile.nested import subgraphs, walk


def graph(name: str, *inner: onnx.GraphProto) -> onnx.GraphProto:
    made = onnx.GraphProto(name=name)
    for body in inner:
        made.node.add(op_type="Loop").attribute.add(
            name="body", type=onnx.AttributeProto.GRAPH, g=body
        )
    return made


def test_bodies_are_found_in_single_and_repeated_attributes() -> None:
    node = onnx.NodeProto(op_type="If")
    node.attribute.add(name="then_branch", type=onnx.AttributeProto.GRAPH, g=graph("one"))
    node.attribute.add(name="axis", type=onnx.AttributeProto.INT, i=1)
    node.attribute.add(
        name="more", type=onnx.AttributeProto.GRAPHS, graphs=[graph("two"), graph("three")]
    )
    assert [body.name for body in subgraphs(node)] == ["one", "two", "three"]


def test_a_walk_yields_each_graph_before_those_in_it() -> None:
    root = graph("a", graph("b", graph("c")), graph("d"))
    assert [body.name for body in walk([graph("first"), root])] == ["a", "d", "b", "c", "first"]


def test_functions_are_walked_too() -> None:
    function = onnx.FunctionProto(name="f", node=graph("g", graph("h")).node)
    assert [body.name for body in walk([function])] == ["f", "h"]


def test_a_walk_ends_at_the_depth_allowed() -> None:
    nested = graph("0", graph("1", graph("2")))
    assert len(list(walk([nested], 2))) == len(list(walk([nested]))) == 3
    with pytest.raises(UnsafeModelError, match="raise the setting `depth`"):
        list(walk([nested], 1))
