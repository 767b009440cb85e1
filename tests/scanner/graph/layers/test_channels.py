"""The channel axis is read off the operator that made the channels."""

from typing import Any

import pytest
from onnx import NodeProto, helper

from scanner.graph.core.structure import Uses
from scanner.graph.layers.channels import channel_axis


def node(operator: str, source: str, result: str, **attributes: Any) -> NodeProto:
    return helper.make_node(
        operator,
        [source, "weights"] if operator in ("Conv", "MatMul") else [source],
        [result],
        **attributes,
    )


def uses(*nodes: NodeProto) -> Uses:
    return Uses(helper.make_graph(nodes, "chain", [], []))


@pytest.mark.parametrize(
    ("nodes", "rank", "axis"),
    [
        ([node("Conv", "x", "y"), node("Relu", "y", "z")], 4, 1),
        ([node("Conv", "x", "y"), node("Relu", "y", "z")], 3, 1),
        ([node("MatMul", "x", "y"), node("Relu", "y", "z")], 4, 3),
        (
            [
                node("Conv", "x", "y"),
                node("Transpose", "y", "t", perm=[0, 2, 3, 1]),
                node("Relu", "t", "z"),
            ],
            4,
            3,
        ),
        (
            [
                node("Conv", "x", "a"),
                node("Transpose", "a", "b", perm=[0, 2, 3, 1]),
                node("Relu", "b", "c"),
                node("Transpose", "c", "z", perm=[0, 3, 1, 2]),
            ],
            4,
            1,
        ),
        ([node("MatMul", "x", "a"), node("Transpose", "a", "z", perm=[0, 2, 1])], 3, 1),
        ([node("Reshape", "x", "a"), node("Relu", "a", "z")], 3, 2),
        ([node("Reshape", "x", "a"), node("Relu", "a", "z")], 4, 1),
        ([node("Conv", "x", "a"), node("Transpose", "a", "z", perm=[0, 2, 1])], 4, 1),
    ],
    ids=[
        "convolution",
        "1-D convolution",
        "matrix product",
        "NHWC",
        "NHWC and back",
        "transposed tokens",
        "unknown tokens",
        "unknown map",
        "a permutation of another rank",
    ],
)
def test_channel_axis(nodes: list[NodeProto], rank: int, axis: int) -> None:
    assert channel_axis("z", rank, uses(*nodes)) == axis


def test_a_constant_argument_is_passed_over() -> None:
    bias = helper.make_node(
        "Constant", [], ["bias"], value=helper.make_tensor("bias", 1, [1], [1.0])
    )
    chain = uses(bias, node("MatMul", "x", "y"), helper.make_node("Add", ["bias", "y"], ["z"]))
    assert channel_axis("z", 4, chain) == 3


def test_an_input_says_nothing() -> None:
    assert channel_axis("x", 4, uses(node("Relu", "x", "z"))) == 1
