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


def function_bomb_behind_an_overload(levels: int = 30) -> onnx.ModelProto:
    """The same bomb, each function beside a harmless one of the same name."""
    model = function_bomb(levels)
    for function in model.functions:
        function.overload = "second"
    for node in (*model.graph.node, *(n for f in model.functions for n in f.node)):
        node.overload = "second" if node.domain == "bomb" else ""
    harmless = helper.make_node("Identity", ["x"], ["y"])
    opsets = [helper.make_opsetid("", 17)]
    model.functions.extend(
        helper.make_function("bomb", f"F{i}", ["x"], ["y"], [harmless], opsets)
        for i in range(levels + 1)
    )
    return model


def function_bomb_of_16384() -> onnx.ModelProto:
    """A bomb below the limit on nodes, which ONNX Runtime takes minutes to expand."""
    return function_bomb(14)


def function_chain_called_from_its_end(length: int = 200) -> onnx.ModelProto:
    """A chain of calls whose deepest members are met first, so that none looks deep."""
    model = function_chain(length)
    calls = [
        helper.make_node(f"F{i}", ["image"], [f"called{i}"], domain="chain")
        for i in reversed(range(length))
    ]
    nodes = [*calls, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    return model


def function_of_large_constants(levels: int = 16, numbers: int = 2**18) -> onnx.ModelProto:
    """Functions that double each other around a megabyte: few nodes, and 64 GiB of constants."""
    model = function_bomb(levels)
    leaf = model.functions[-1]
    value = numpy_helper.from_array(np.zeros(numbers, np.float32), "weights")
    leaf.node.insert(0, helper.make_node("Constant", [], ["weights"], value=value))
    return model


def endless_loop_by_an_attribute(trips: int = TRILLION) -> onnx.ModelProto:
    """As `endless_loop`, its count in a Constant that holds a plain number."""
    model = endless_loop()
    del model.graph.initializer[:]
    model.graph.node.insert(0, helper.make_node("Constant", [], ["trips"], value_int=trips))
    return model


def open_dimensions(count: int = 100) -> onnx.ModelProto:
    """An output of many open dimensions: two bytes each in the file, a text each in a report."""
    model = models.plain()
    model.graph.output[0].type.tensor_type.elem_type = TensorProto.FLOAT
    model.graph.output[0].type.tensor_type.shape.dim.extend(
        onnx.TensorShapeProto.Dimension() for _ in range(count)
    )
    return model


def outputs_of_one_name(count: int = 5000) -> onnx.ModelProto:
    """One output, listed again and again."""
    model = models.plain()
    model.graph.output.extend([model.graph.output[0]] * count)
    return model


def sparse_1e18() -> onnx.ModelProto:
    """A sparse initialiser of four numbers, which the runtime would make dense."""
    model = models.plain()
    sparse = model.graph.sparse_initializer.add(dims=[10**9, 10**9])
    sparse.values.CopyFrom(numpy_helper.from_array(np.ones(4, np.float32), "sparse"))
    sparse.indices.CopyFrom(numpy_helper.from_array(np.arange(4), "where"))
    return model


def dimensions_beyond_any_number() -> onnx.ModelProto:
    """An input of more bytes than a floating-point number can count."""
    return models.plain(input_shape=[2**62] * 60)


def tensor_in_a_default() -> onnx.ModelProto:
    """A tensor of 10^12 elements as the default of a function's attribute."""
    model = models.plain()
    function = model.functions.add(name="F", domain="own")
    tensor = function.attribute_proto.add(name="weights", type=onnx.AttributeProto.TENSOR).t
    tensor.CopyFrom(numpy_helper.from_array(np.zeros(4, np.float32)))
    tensor.dims[:] = [TRILLION]
    return model


def rank_by_length(elements: int = 2**20) -> onnx.ModelProto:
    """A value of as many dimensions as another has elements: a megabyte for each node behind it."""
    nodes = [
        helper.make_node("ConstantOfShape", ["count"], ["ones"]),
        helper.make_node("Cast", ["ones"], ["sizes"], to=TensorProto.INT64),
        helper.make_node("Expand", ["image", "sizes"], ["ranked0"]),
        *(helper.make_node("Relu", [f"ranked{i}"], [f"ranked{i + 1}"]) for i in range(50)),
    ]
    return _through(nodes, {"count": np.array([elements])}, "ranked50")


def rank_by_gathering(times: int = 40) -> onnx.ModelProto:
    """Each Gather adds the ranks of its two inputs: 2^40 dimensions."""
    nodes = [
        helper.make_node("Gather", [name, name], [f"gathered{i}"])
        for i, name in enumerate(["table", *(f"gathered{i}" for i in range(times - 1))])
    ]
    constants = {"table": np.zeros((1, 1), np.int64)}
    nodes.append(helper.make_node("Cast", [f"gathered{times - 1}"], ["end"], to=TensorProto.FLOAT))
    return _through(nodes, constants, "end")


def doubling_shapes(times: int = 24) -> onnx.ModelProto:
    """Numbers that inference follows, doubled by each Concat, and few enough bytes to pass."""
    nodes = [
        helper.make_node("Concat", [name, name], [f"doubled{i}"], axis=0)
        for i, name in enumerate(["seed", *(f"doubled{i}" for i in range(times - 1))])
    ]
    nodes += [
        helper.make_node("ReduceSum", [f"doubled{times - 1}"], ["total"], keepdims=0),
        helper.make_node("Cast", ["total"], ["number"], to=TensorProto.FLOAT),
        helper.make_node("Add", ["image", "number"], ["sum"]),
    ]
    return _through(nodes, {"seed": np.zeros(1, np.int64)}, "sum")


def long_dimension_name(length: int = 10**6) -> onnx.ModelProto:
    """An open dimension whose name of a megabyte inference would copy to each value."""
    nodes = [
        helper.make_node("Relu", ["image" if not i else f"copied{i}"], [f"copied{i + 1}"])
        for i in range(50)
    ]
    return _through(nodes, {}, "copied50", input_shape=("N" * length, 1, models.SIDE, models.SIDE))


def branch(name: str, nodes: Sequence[onnx.NodeProto], output: str) -> onnx.GraphProto:
    """Return the body of an If."""
    return helper.make_graph(nodes, name, [], [helper.make_empty_tensor_value_info(output)])


def branch_named_like_its_if() -> onnx.ModelProto:
    """A branch whose result has the name of the If's own: joined carelessly, it reads itself."""
    same = branch("same", [helper.make_node("Relu", ["image"], ["chosen"])], "chosen")
    node = helper.make_node("If", ["condition"], ["chosen"], then_branch=same, else_branch=same)
    nodes = [node, models.convolution("chosen"), models.relu(), *models.head("activated")]
    return models.build(nodes, {**models.weights(planted=False), "condition": np.array(True)})


def nested_branches(depth: int = 24, numbers: int = 2**18) -> onnx.ModelProto:
    """Constant Ifs in one another around large weights, which a copy for each level multiplies."""
    value = numpy_helper.from_array(np.zeros(numbers, np.float32), "large")
    inner = [
        helper.make_node("Constant", [], ["large"], value=value),
        helper.make_node("ReduceMax", ["large"], ["peak"], keepdims=0),
        helper.make_node("Add", ["image", "peak"], ["end"]),
    ]
    deeper = branch("leaf", inner, "end")
    other = branch("other", [helper.make_node("Identity", ["image"], ["not_taken"])], "not_taken")
    for level in range(depth):
        node = helper.make_node(
            "If", ["condition"], [f"out{level}"], then_branch=deeper, else_branch=other
        )
        deeper = branch(f"level{level}", [node], f"out{level}")
    return _through(deeper.node, {"condition": np.array(True)}, f"out{depth - 1}")


def many_bodies(count: int = 2000) -> onnx.ModelProto:
    """Ifs beside as many initialisers: each body's walk copies the table of all values."""
    bodies = [
        [
            branch("b", [helper.make_node("Identity", ["image"], [f"{b}{i}"])], f"{b}{i}")
            for b in ("then", "else")
        ]
        for i in range(count)
    ]
    nodes = [
        helper.make_node("ReduceMax", ["image"], ["peak"], keepdims=0),
        helper.make_node("Cast", ["peak"], ["condition"], to=TensorProto.BOOL),
        *(
            helper.make_node("If", ["condition"], [f"if{i}"], then_branch=t, else_branch=e)
            for i, (t, e) in enumerate(bodies)
        ),
    ]
    unused = {f"unused{i}": np.zeros(1, np.float32) for i in range(count)}
    return _through(nodes, unused, f"if{count - 1}")


def activations_in_a_row(count: int = 1000) -> onnx.ModelProto:
    """As many activations as nodes: whoever walks back from each of them walks n^2 steps."""
    nodes = [
        helper.make_node("Relu", [f"row{i}" if i else "convolved"], [f"row{i + 1}"])
        for i in range(count)
    ]
    return models.build(
        [models.convolution(), *nodes, *models.head(f"row{count}")], models.weights(planted=False)
    )


def gates_in_a_row(gates: int = 20, activations: int = 1000) -> onnx.ModelProto:
    """Gates in a large graph: each is confirmed by runs, and each run loads the graph."""
    network = [models.convolution(), models.relu(), *models.head("activated")]
    network[-1].output[0] = "answer0"
    nodes = [*network, helper.make_node("ReduceMax", ["image"], ["peak"], keepdims=0)]
    for i in range(gates):
        nodes += [
            helper.make_node("Greater", ["peak", f"level{i}"], [f"test{i}"]),
            helper.make_node("Where", [f"test{i}", "row", f"answer{i}"], [f"answer{i + 1}"]),
        ]
    last = f"answer{gates}"
    for i in range(activations):
        nodes.append(helper.make_node("Relu", [last], [f"row{i}"]))
        last = f"row{i}"
    nodes.append(helper.make_node("Identity", [last], ["logits"]))
    levels = {f"level{i}": np.array(0.9 + i / 1e4, np.float32) for i in range(gates)}
    row = np.eye(models.CLASSES, dtype=np.float32)[:1]
    return models.build(nodes, models.weights(planted=False) | levels | {"row": row})


def namesakes() -> onnx.ModelProto:
    """Operators of another domain with the names of known ones, and without inputs."""
    model = models.plain()
    model.opset_import.append(helper.make_opsetid("acme", 1))
    for operator in ("QuantizeLinear", "Constant", "Relu", "Clip", "Identity", "Cast"):
        model.graph.node.append(helper.make_node(operator, [], [operator], domain="acme"))
    return model


def bad_groups() -> onnx.ModelProto:
    """A convolution of four channels in three groups."""
    model = models.plain()
    model.graph.node[0].attribute.append(helper.make_attribute("group", 3))
    return model


def constant_of_no_type() -> onnx.ModelProto:
    """A Constant whose attribute is of no type that holds anything."""
    model = models.plain()
    node = model.graph.node.add(op_type="Constant", output=["nothing"], name="empty")
    node.attribute.add(name="value_float")
    return model


def loop_counted_by_infinity() -> onnx.ModelProto:
    """A Loop whose trips are no whole number."""
    model = endless_loop()
    model.graph.initializer[0].CopyFrom(numpy_helper.from_array(np.array(np.inf), "trips"))
    return model


def quantised_to_floats() -> onnx.ModelProto:
    """Quantisation to an eight-bit floating-point type, whose codes are no whole numbers."""
    nodes = [
        helper.make_node("QuantizeLinear", ["image", "scale", "zero"], ["codes"]),
        helper.make_node("DequantizeLinear", ["codes", "scale"], ["back"]),
        models.convolution("back"),
        models.relu(),
        *models.head("activated"),
    ]
    constants = {**models.weights(planted=False), "scale": np.array(0.1, np.float32)}
    model = models.build(nodes, constants, opset=19, ir_version=9)
    zero = onnx.TensorProto(name="zero", data_type=TensorProto.FLOAT8E4M3FN, raw_data=b"\0")
    model.graph.initializer.append(zero)
    return model


def empty_kernel() -> onnx.ModelProto:
    """A convolution without weights."""
    model = models.plain()
    kernel = np.zeros((0, 1, 3, 3), np.float32)
    model.graph.initializer[0].CopyFrom(numpy_helper.from_array(kernel, "kernel"))
    return model


def split_into_more_pieces_than_it_says() -> onnx.ModelProto:
    """A Split of three outputs that is said to have two: onnx's inference writes out of bounds."""
    nodes = [
        helper.make_node("Split", ["image"], ["a", "b", "c"], axis=2, num_outputs=2),
        helper.make_node("Relu", ["c"], ["logits"]),
    ]
    return models.build(nodes, {}, opset=18)


def equation_without_an_end() -> onnx.ModelProto:
    """An Einsum whose equation holds other characters: onnx's inference reads it for ever."""
    nodes = [
        helper.make_node("Einsum", ["image", "image"], ["product"], equation="x"),
        helper.make_node("Relu", ["product"], ["logits"]),
    ]
    nodes[0].attribute[0].s = bytes.fromhex("c21be110efd801b2ed5489116866948a")
    return models.build(nodes, {})


def slice_of_a_negative_size() -> onnx.ModelProto:
    """An input of negative size, sliced: onnx's inference aborts the process."""
    nodes = [
        helper.make_node("Slice", ["image", "start", "end", "axis"], ["part"]),
        helper.make_node("Relu", ["part"], ["logits"]),
    ]
    constants = {name: np.array([i], np.int64) for i, name in enumerate(("axis", "start", "end"))}
    return models.build(nodes, constants, input_shape=("N", 1, -3, -(2**63)))


def text_that_is_no_text() -> onnx.ModelProto:
    """A Resize whose mode is not UTF-8."""
    model = models.plain()
    model.graph.node[2].attribute.add(name="auto_pad", s=b"\xff", type=onnx.AttributeProto.STRING)
    model.graph.node[2].op_type = "AveragePool"
    model.graph.node[2].attribute.add(
        name="kernel_shape", ints=[8, 8], type=onnx.AttributeProto.INTS
    )
    return model


def reference_outside_a_function() -> onnx.ModelProto:
    """A node of the main graph that takes its attribute from the caller of a function."""
    model = models.plain()
    model.graph.node[0].attribute[0].ref_attr_name = "pads"
    return model


def node_without_output() -> onnx.ModelProto:
    """A node of another domain that makes nothing."""
    model = models.plain(domains=[helper.make_opsetid("com.microsoft", 1)])
    model.graph.node.append(
        helper.make_node("QuantizeLinear", ["image"], [], domain="com.microsoft")
    )
    return model


def constant_that_is_computed() -> onnx.ModelProto:
    """A constant that a node makes as well: which of the two is followed, readers differ on."""
    model = models.plain()
    value = numpy_helper.from_array(np.zeros((1, 4, 8, 8), np.float32), "activated")
    model.graph.initializer.append(value)
    return model


def input_twice() -> onnx.ModelProto:
    """An input that is declared twice."""
    model = models.plain()
    model.graph.input.append(model.graph.input[0])
    return model


def tensor_in_no_file() -> onnx.ModelProto:
    """A tensor that lies in another file, of which the name is missing."""
    model = models.plain()
    model.graph.initializer[0].data_location = onnx.TensorProto.EXTERNAL
    return model


def tensor_in_segments() -> onnx.ModelProto:
    """A tensor in segments, which no runtime reads."""
    model = models.plain()
    model.graph.initializer[0].segment.begin = 1
    return model


REFUSED: dict[str, Callable[[], onnx.ModelProto]] = {
    f.__name__: f
    for f in (
        endless_loop, nested_loops, function_bomb, function_chain, function_calls_itself,
        node_flood, doubling_concatenations, doubling_constants, constant_of_shape_1e12,
        expand_1e12, pad_1e12, resize_1e12, tile_1e12, random_uniform_1e12,
        input_of_100000_by_100000, function_bomb_behind_an_overload,
        function_bomb_of_16384, function_chain_called_from_its_end, function_of_large_constants,
        endless_loop_by_an_attribute, open_dimensions, outputs_of_one_name, sparse_1e18,
        dimensions_beyond_any_number,
    )
}  # fmt: skip
"""Attacks that a guard sees before anything runs."""

MALFORMED: dict[str, Callable[[], onnx.ModelProto]] = {
    f.__name__: f
    for f in (
        constant_that_is_computed, input_twice, tensor_in_no_file, tensor_in_segments,
        split_into_more_pieces_than_it_says, equation_without_an_end,
        dims_beyond_the_data, negative_dims, cycle, produced_twice, deep_subgraphs,
        tensor_in_a_default,
    )
}  # fmt: skip
"""Files that no runtime could load."""

BOUNDED: dict[str, Callable[[], onnx.ModelProto]] = {
    f.__name__: f
    for f in (
        rank_by_length, rank_by_gathering, doubling_shapes, long_dimension_name,
        branch_named_like_its_if, nested_branches, many_bodies, activations_in_a_row,
    )
}  # fmt: skip
"""Files that pass the guards, and that no pass may multiply."""

TYPED: dict[str, Callable[[], onnx.ModelProto]] = {
    f.__name__: f
    for f in (
        slice_of_a_negative_size, text_that_is_no_text, reference_outside_a_function,
        node_without_output,
        bad_groups, constant_of_no_type, loop_counted_by_infinity, quantised_to_floats,
        empty_kernel, namesakes,
    )
}  # fmt: skip
"""Files in which something is of the wrong kind: the answer is an error, never a crash."""
