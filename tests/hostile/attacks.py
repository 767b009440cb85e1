"""Models built to hurt their reader; each function is named after its attack."""

from collections.abc import Callable, Sequence
from typing import Any

import models
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

TRILLION = 10**12


def _through(
    nodes: Sequence[onnx.NodeProto], constants: dict[str, Any], output: str, **options: Any
) -> onnx.ModelProto:
    """Return a model whose first ReLU comes after hostile nodes."""
    return models.build(
        [*nodes, helper.make_node("Relu", [output], ["activated"])],
        constants,
        output="activated",
        **options,
    )


def _loop(source: str, output: str, inner: onnx.NodeProto) -> onnx.NodeProto:
    """Return a Loop over a body of one node, from `x` to `y`, that never asks to stop."""
    values = [
        helper.make_tensor_value_info(n, t, s)
        for n, t, s in (("i", 7, []), ("go", 9, []), ("x", 1, None))
    ]
    outputs = [
        helper.make_tensor_value_info(n, t, s) for n, t, s in (("go_on", 9, []), ("y", 1, None))
    ]
    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["go_on"]), inner], "body", values, outputs
    )
    return helper.make_node("Loop", ["trips", "", source], [output], body=body)


def endless_loop(trips: int = TRILLION) -> onnx.ModelProto:
    """A few hundred bytes that run for years."""
    loop = _loop("image", "looped", helper.make_node("Add", ["x", "x"], ["y"]))
    return _through([loop], {"trips": np.array(trips)}, "looped")


def endless_loop_in_disguise() -> onnx.ModelProto:
    """As `endless_loop`, its condition computed, so that nothing can be told before it runs."""
    model = endless_loop(2**62)
    body = model.graph.node[0].attribute[0].g
    body.initializer.append(numpy_helper.from_array(np.array(2**62), "limit"))
    body.node[0].CopyFrom(helper.make_node("Less", ["i", "limit"], ["go_on"]))
    return model


def nested_loops(depth: int = 5, trips: int = 1000) -> onnx.ModelProto:
    """Loops in Loops, each of them harmless alone."""
    node = helper.make_node("Add", ["x", "x"], ["y"])
    for _ in range(depth - 1):
        node = _loop("x", "y", node)
    return _through([_loop("image", "looped", node)], {"trips": np.array(trips)}, "looped")


def function_bomb(levels: int = 30) -> onnx.ModelProto:
    """Functions that each call the next one twice: 2^30 nodes in one kilobyte."""
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("bomb", 1)]

    def level(number: int) -> onnx.FunctionProto:
        if number == levels:
            nodes = [helper.make_node("Add", ["x", "x"], ["y"])]
        else:
            called = f"F{number + 1}"
            nodes = [
                helper.make_node(called, ["x"], ["half"], domain="bomb"),
                helper.make_node(called, ["half"], ["y"], domain="bomb"),
            ]
        return helper.make_function("bomb", f"F{number}", ["x"], ["y"], nodes, opsets)

    call = helper.make_node("F0", ["image"], ["called"], domain="bomb")
    functions = [level(number) for number in range(levels + 1)]
    return _through(
        [call], {}, "called", domains=[helper.make_opsetid("bomb", 1)], functions=functions
    )


def function_chain(length: int = 20_000) -> onnx.ModelProto:
    """Functions that call one another so deep that a recursive reader runs out of stack."""
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("chain", 1)]
    functions = [
        helper.make_function(
            "chain",
            f"F{i}",
            ["x"],
            ["y"],
            [helper.make_node(f"F{i + 1}", ["x"], ["y"], domain="chain")],
            opsets,
        )
        for i in range(length)
    ]
    call = helper.make_node("F0", ["image"], ["called"], domain="chain")
    return _through(
        [call], {}, "called", domains=[helper.make_opsetid("chain", 1)], functions=functions
    )


def function_calls_itself() -> onnx.ModelProto:
    """A function without an end."""
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("self", 1)]
    call = helper.make_node("F", ["x"], ["y"], domain="self")
    function = helper.make_function("self", "F", ["x"], ["y"], [call], opsets)
    node = helper.make_node("F", ["image"], ["called"], domain="self")
    return _through(
        [node], {}, "called", domains=[helper.make_opsetid("self", 1)], functions=[function]
    )


def node_flood(count: int = 250_000) -> onnx.ModelProto:
    """So many nodes that a session takes minutes to load."""
    model = models.plain()
    model.graph.node.extend(
        onnx.NodeProto(op_type="Relu", input=["image"], output=[f"flood{i}"]) for i in range(count)
    )
    return model


def doubling_concatenations(times: int = 45) -> onnx.ModelProto:
    """Each Concat joins the last value with itself: 2^45 images."""
    nodes = [
        helper.make_node("Concat", [name, name], [f"doubled{i}"], axis=0)
        for i, name in enumerate(["image", *(f"doubled{i}" for i in range(times - 1))])
    ]
    return _through(nodes, {}, f"doubled{times - 1}", input_shape=(1, 1, models.SIDE, models.SIDE))


def doubling_constants(times: int = 45) -> onnx.ModelProto:
    """The same without the input, so that constant folding explodes while the session loads."""
    nodes = [
        helper.make_node("Concat", [name, name], [f"doubled{i}"], axis=0)
        for i, name in enumerate(["seed", *(f"doubled{i}" for i in range(times - 1))])
    ]
    nodes += [
        helper.make_node("ReduceSum", [f"doubled{times - 1}"], ["total"], keepdims=0),
        helper.make_node("Add", ["image", "total"], ["sum"]),
    ]
    return _through(nodes, {"seed": np.zeros(1, np.float32)}, "sum")


def _expanded(operator: str, size: int, **attributes: Any) -> onnx.ModelProto:
    inputs = {"ConstantOfShape": ["shape"], "Expand": ["one", "shape"]}[operator]
    nodes = [
        helper.make_node(operator, inputs, ["huge"], **attributes),
        helper.make_node("ReduceSum", ["huge"], ["total"], keepdims=0),
        helper.make_node("Add", ["image", "total"], ["sum"]),
    ]
    return _through(nodes, {"shape": np.array([size]), "one": np.zeros(1, np.float32)}, "sum")


def constant_of_shape_1e12() -> onnx.ModelProto:
    """Four terabytes from one number."""
    return _expanded("ConstantOfShape", TRILLION)


def expand_1e12() -> onnx.ModelProto:
    """The same through Expand."""
    return _expanded("Expand", TRILLION)


def pad_1e12() -> onnx.ModelProto:
    """The same through Pad."""
    node = helper.make_node("Pad", ["image", "pads"], ["padded"])
    return _through([node], {"pads": np.array([0, 0, 0, 0, 0, 0, 0, TRILLION])}, "padded")


def resize_1e12() -> onnx.ModelProto:
    """The same through Resize."""
    node = helper.make_node("Resize", ["image", "", "scales"], ["resized"])
    return _through([node], {"scales": np.array([1, 1, 1e6, 1e6], np.float32)}, "resized")


def tile_1e12() -> onnx.ModelProto:
    """The same through Tile."""
    node = helper.make_node("Tile", ["image", "repeats"], ["tiled"])
    return _through([node], {"repeats": np.array([1, 1, 10**6, 10**6])}, "tiled")


def random_uniform_1e12() -> onnx.ModelProto:
    """The same through RandomUniform."""
    nodes = [
        helper.make_node("RandomUniform", [], ["noise"], shape=[TRILLION]),
        helper.make_node("ReduceSum", ["noise"], ["total"], keepdims=0),
        helper.make_node("Add", ["image", "total"], ["sum"]),
    ]
    return _through(nodes, {}, "sum")


def memory_at_run_time(size: int = 2 * 10**9) -> onnx.ModelProto:
    """A size that is computed from the pixels, so that nothing can be told before it runs."""
    nodes = [
        helper.make_node("ReduceMax", ["image"], ["peak"], keepdims=0),
        helper.make_node("Ceil", ["peak"], ["ceiling"]),
        helper.make_node("Cast", ["ceiling"], ["one"], to=TensorProto.INT64),
        helper.make_node("Mul", ["one", "size"], ["shape"]),
        helper.make_node("ConstantOfShape", ["shape"], ["huge"]),
        helper.make_node("ReduceSum", ["huge"], ["total"], keepdims=0),
        helper.make_node("Add", ["image", "total"], ["sum"]),
    ]
    return _through(nodes, {"size": np.array([size])}, "sum")


def input_of_100000_by_100000() -> onnx.ModelProto:
    """113 GB of noise, asked for by a declaration."""
    return models.plain(input_shape=("N", 3, 100_000, 100_000))


def dims_beyond_the_data() -> onnx.ModelProto:
    """A tensor of 10^12 elements in a file of 432 bytes."""
    model = models.plain()
    model.graph.initializer[0].dims[:] = [TRILLION]
    return model


def negative_dims() -> onnx.ModelProto:
    """A tensor of a negative size."""
    model = models.plain()
    model.graph.initializer[0].dims[:] = [-4, 1, 3, -3]
    return model


def cycle() -> onnx.ModelProto:
    """A graph that is no order of anything."""
    nodes = [
        helper.make_node("Add", ["image", "b"], ["a"], name="first"),
        helper.make_node("Relu", ["a"], ["b"], name="second"),
    ]
    return models.build(nodes, {}, output="b")


def produced_twice() -> onnx.ModelProto:
    """One name, two values: readers disagree."""
    model = models.plain()
    model.graph.node.append(helper.make_node("Relu", ["convolved"], ["activated"]))
    return model


def deep_subgraphs(depth: int = 33) -> onnx.ModelProto:
    """If in If in If: recursive readers run out of stack. Protobuf itself ends near 33."""

    def branch(name: str, nodes: list[onnx.NodeProto], output: str) -> onnx.GraphProto:
        return helper.make_graph(nodes, name, [], [helper.make_empty_tensor_value_info(output)])

    leaf = branch("leaf", [helper.make_node("Identity", ["image"], ["end"])], "end")
    deeper = leaf
    for level in range(depth):
        node = helper.make_node(
            "If", ["condition"], [f"out{level}"], then_branch=deeper, else_branch=leaf
        )
        deeper = branch(f"level{level}", [node], f"out{level}")
    return _through(deeper.node, {"condition": np.array(True)}, f"out{depth - 1}")


def hostile_names() -> onnx.ModelProto:
    """Names that paint, clear and re-title a terminal, reverse the text and break markup."""
    evil = (
        "\x1b]0;owned\x07\x1b[2J\x1b[31mverdict clean\u202e\u2066[/bold][link=file:///x]\r\n"
        + "A" * 5000
    )
    model = models.plain()
    model.producer_name = evil
    for node in model.graph.node:
        node.name = evil + node.name
        for names in (node.input, node.output):
            names[:] = [evil if name == "activated" else name for name in names]
    return model


def custom_operator() -> onnx.ModelProto:
    """An operator that only somebody's plug-in knows."""
    node = helper.make_node("RunShell", ["image"], ["ran"], domain="com.evil", command="id")
    return _through([node], {}, "ran", domains=[helper.make_opsetid("com.evil", 1)])


REFUSED: dict[str, Callable[[], onnx.ModelProto]] = {
    f.__name__: f
    for f in (
        endless_loop, nested_loops, function_bomb, function_chain, function_calls_itself,
        node_flood, doubling_concatenations, doubling_constants, constant_of_shape_1e12,
        expand_1e12, pad_1e12, resize_1e12, tile_1e12, random_uniform_1e12,
        input_of_100000_by_100000,
    )
}  # fmt: skip
"""Attacks that a guard sees before anything runs."""

MALFORMED: dict[str, Callable[[], onnx.ModelProto]] = {
    f.__name__: f
    for f in (dims_beyond_the_data, negative_dims, cycle, produced_twice, deep_subgraphs)
}
"""Files that no runtime could load."""
