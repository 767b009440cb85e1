"""Files whose structure readers may take differently: more of `hostile.misreadings`.

Functions, scopes, versions, sparse and optional values, fields in pieces, and one file that is two.
"""

import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
from hostile.misreadings import (
    BACKDOORED,
    CLEAN,
    Nodes,
    body,
    chosen_by_number,
    constant,
    hidden,
    model,
    network,
    read,
)
from onnx import TensorProto, helper, numpy_helper

from scanner.modelfile.wire_format import write_field

_OPSET = helper.make_opsetid("", 17)
_LOCAL = helper.make_opsetid("local", 1)
_FILLER, _LONG = 99, 6  # a field that ONNX does not have, and the bytes before its content
_GRAPH, _NODE, _ATTRIBUTE, _TENSOR, _RAW = 7, 1, 5, 5, 9  # field numbers, from the outside in
_ROOT = (
    0x808088  # where a FlatBuffer's root lies; its bytes are also a field's number, written long
)


def flat_buffer() -> bytes:
    """The clean sample to a reader of ONNX, the backdoored one in ONNX Runtime's own format.

    A FlatBuffer starts with its root's position and "ORTM". To a reader of protobuf the position
    0x00808088 is the number of field 1, in four bytes; O (0x4F) is its value; R is field 10, and T
    the 84 bytes of it to skip. The clean model follows, and one unknown field that holds the
    FlatBuffer. Its root is written anew where it must lie; all else is moved behind it as it is,
    since positions in a FlatBuffer are relative.
    """
    flat = _in_the_runtimes_format(BACKDOORED)
    start = _ROOT.to_bytes(4, "little") + b"ORTM" + bytes(ord("T") - 1) + CLEAN.read_bytes()
    root = int.from_bytes(flat[:4], "little")
    table = root - int.from_bytes(flat[root : root + 4], "little")  # of its fields' places
    fields = int.from_bytes(flat[table + 2 : table + 4], "little") // 4
    moved = (_ROOT + 4 * fields + 15) // 16 * 16
    place, *targets = np.frombuffer(flat, "<u4", fields, root).tolist()
    written = np.array([place, *(t + root + moved - _ROOT for t in targets)], "<u4").tobytes()
    end = moved + len(flat)
    head = write_field(_FILLER, bytes(end - len(start) - _LONG))[:_LONG]
    room = bytes(_ROOT - place - len(start) - _LONG)
    behind = bytes(moved - _ROOT - len(written))
    return start + head + room + flat[table:root] + written + behind + flat


def _in_the_runtimes_format(path: Path) -> bytes:
    """Return a model in ONNX Runtime's own format, a FlatBuffer."""
    import onnxruntime  # noqa: PLC0415 - a reader of this module may want the files alone

    with tempfile.TemporaryDirectory() as folder:
        options = onnxruntime.SessionOptions()
        options.optimized_model_filepath = str(Path(folder, "model.ort"))
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.add_session_config_entry("session.save_model_format", "ORT")
        onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        return Path(folder, "model.ort").read_bytes()


def function(
    name: str, value: float, *, overload: str = "", domain: str = "local"
) -> onnx.FunctionProto:
    """Return a function of nothing that answers a number."""
    node = helper.make_node("Constant", [], ["y"], value_float=value)
    made = helper.make_function(domain, name, [], ["y"], [node], [_OPSET])
    made.overload = overload
    return made


def overloads() -> bytes:
    """Two functions of one name: an overload, which is called, and a plain one."""
    call = helper.make_node("Pick", [], ["number"], domain="local")
    call.overload = "second"
    functions = [function("Pick", 0.0), function("Pick", 1.0, overload="second")]
    made = chosen_by_number([call], domains=[_LOCAL], functions=functions)
    made.ir_version = 10
    return bytes(made.SerializeToString())


def number_by_version(quarter: float, half: float) -> tuple[Nodes, list[onnx.TensorProto]]:
    """Return what makes `number` by Softmax, which meant something else before opset 13.

    Until 12 it took all axes from the given one on together: a quarter for each of four zeros.
    Since 13 it takes one axis: a half for each of two.

    Args:
        quarter: The number under opset 12.
        half: The number under opset 17.
    """
    nodes = [
        helper.make_node("Softmax", ["zeros"], ["parts"], axis=1),
        helper.make_node("ReduceMax", ["parts"], ["part"], keepdims=0),
        helper.make_node("Mul", ["part", "slope"], ["scaled"]),
        helper.make_node("Add", ["scaled", "offset"], ["number"]),
    ]
    numbers = {
        "zeros": np.zeros((1, 2, 2)),
        "slope": np.array(4 * (half - quarter)),
        "offset": np.array(2 * quarter - half),
    }
    return nodes, [numpy_helper.from_array(v.astype(np.float32), n) for n, v in numbers.items()]


def function_of_another_opset() -> bytes:
    """A function that imports opset 12: the runtime expands it into a model of opset 17."""
    nodes, tensors = number_by_version(quarter=0, half=1)
    constants = [helper.make_node("Constant", [], [t.name], value=t) for t in tensors]
    old = helper.make_function(
        "local", "Old", [], ["number"], [*constants, *nodes], [helper.make_opsetid("", 12)]
    )
    call = helper.make_node("Old", [], ["number"], domain="local")
    return bytes(chosen_by_number([call], domains=[_LOCAL], functions=[old]).SerializeToString())


def opset_twice(domain: str = "") -> bytes:
    """Two versions of the standard operators are imported; the runtime takes the last."""
    made = chosen_by_number(*number_by_version(quarter=1, half=0))
    made.opset_import.append(helper.make_opsetid(domain, 12))
    return bytes(made.SerializeToString())


def opset_by_two_names() -> bytes:
    """As above, one of them under the domain's other name."""
    return opset_twice("ai.onnx")


def defaults_of_nested_functions() -> bytes:
    """A default handed down to a function that has another default for it."""
    inner_node = helper.make_node("LeakyRelu", ["x"], ["y"])
    inner_node.attribute.append(
        onnx.AttributeProto(name="alpha", type=onnx.AttributeProto.FLOAT, ref_attr_name="slope")
    )
    inner = helper.make_function("local", "Inner", ["x"], ["y"], [inner_node], [_OPSET])
    inner.attribute_proto.append(helper.make_attribute("slope", 0.0))
    call = helper.make_node("Inner", ["x"], ["y"], domain="local")
    call.attribute.append(
        onnx.AttributeProto(name="slope", type=onnx.AttributeProto.FLOAT, ref_attr_name="slope")
    )
    outer = helper.make_function("local", "Outer", ["x"], ["y"], [call], [_OPSET, _LOCAL])
    outer.attribute_proto.append(helper.make_attribute("slope", -1.0))
    minus = [numpy_helper.from_array(np.array(-1.0, np.float32), "minus")]
    made = chosen_by_number(
        [helper.make_node("Outer", ["minus"], ["number"], domain="local")],
        minus,
        domains=[_LOCAL],
        functions=[inner, outer],
    )
    made.ir_version = 9
    return bytes(made.SerializeToString())


def function_named_like_an_operator() -> bytes:
    """A function called Sign in the standard domain; the runtime has its own."""
    nodes = [helper.make_node("Sub", ["x", "x"], ["y"])]
    mine = helper.make_function("", "Sign", ["x"], ["y"], nodes, [_OPSET])
    five = [numpy_helper.from_array(np.array(5, np.float32), "five")]
    call = helper.make_node("Sign", ["five"], ["number"])
    return bytes(chosen_by_number([call], five, functions=[mine]).SerializeToString())


def nested_branches() -> bytes:
    """Ifs in an If, whose conditions and results are names of the graphs around them.

    The conditions are computed from the image, and hold for whatever lies in the range.
    """
    nodes, tensors = read()
    bad, weights = network(BACKDOORED, "bad/", "bad")
    tests = [
        helper.make_node("ReduceMax", ["input"], ["brightest"], keepdims=0),
        helper.make_node("Greater", ["brightest", "below"], ["positive"]),
        helper.make_node("Less", ["brightest", "above"], ["bounded"]),
    ]
    keep = [helper.make_node("Identity", ["good"], ["kept"])]
    inner = helper.make_node(
        "If", ["bounded"], ["inner"], "inner",
        then_branch=body("yes", [helper.make_node("Identity", ["bad"], ["taken"])], "taken"),
        else_branch=body("no", [helper.make_node("Identity", ["good"], ["left"])], "left"),
    )  # fmt: skip
    outer = helper.make_node(
        "If", ["positive"], ["logits"], "outer",
        then_branch=body("then", [*bad, inner], "inner", weights),
        else_branch=body("else", keep, "kept"),
    )  # fmt: skip
    bounds = [
        numpy_helper.from_array(np.array(value, np.float32), name)
        for name, value in (("below", -1e6), ("above", 1e6))
    ]
    return bytes(model([*tests, *nodes, outer], [*tensors, *bounds]).SerializeToString())


def sparse_number() -> bytes:
    """A number out of a sparse initialiser whose places are not in order."""
    zero = numpy_helper.from_array(np.array(2), "place")
    made = chosen_by_number(
        [helper.make_node("Gather", ["sparse", "place"], ["number"], axis=0)], [zero]
    )
    made.graph.sparse_initializer.append(
        onnx.SparseTensorProto(
            values=numpy_helper.from_array(np.array([1, 7], np.float32), "sparse"),
            indices=numpy_helper.from_array(np.array([2, 0]), "sparse/indices"),
            dims=[4],
        )
    )
    return bytes(made.SerializeToString())


def sparse_constant() -> bytes:
    """The same in a Constant's `sparse_value`, its places as rows of two."""
    sparse = onnx.SparseTensorProto(
        values=numpy_helper.from_array(np.array([1.0], np.float32), "values"),
        indices=numpy_helper.from_array(np.array([[1, 0]]), "indices"),
        dims=[2, 2],
    )
    nodes = [
        helper.make_node("Constant", [], ["matrix"], sparse_value=sparse),
        helper.make_node("ReduceSum", ["matrix"], ["number"], keepdims=0),
    ]
    return bytes(chosen_by_number(nodes).SerializeToString())


def optional_input() -> bytes:
    """A function's input that is left out, and asked for."""
    nodes = [
        helper.make_node("OptionalHasElement", ["x"], ["given"]),
        helper.make_node("Not", ["given"], ["left_out"]),
        helper.make_node("Cast", ["left_out"], ["y"], to=TensorProto.FLOAT),
    ]
    opset = helper.make_opsetid("", 18)
    asks = helper.make_function("local", "Asks", ["x"], ["y"], nodes, [opset])
    call = helper.make_node("Asks", [""], ["number"], domain="local")
    made = chosen_by_number([call], domains=[_LOCAL], functions=[asks], opset=18)
    return bytes(made.SerializeToString())


def from_a_sequence() -> bytes:
    """The last of a sequence of both networks' scores."""
    nodes, tensors = read()
    pick = [
        helper.make_node("SequenceConstruct", ["good", "bad"], ["both"]),
        helper.make_node("SequenceAt", ["both", "last"], ["logits"]),
    ]
    last = numpy_helper.from_array(np.array(-1), "last")
    return bytes(model([*nodes, *hidden(), *pick], [*tensors, last]).SerializeToString())


def from_an_optional() -> bytes:
    """The backdoored network's scores, wrapped as an optional value and unwrapped again."""
    nodes, tensors = read()
    wrap = [
        helper.make_node("Optional", ["bad"], ["maybe"]),
        helper.make_node("OptionalGetElement", ["maybe"], ["logits"]),
    ]
    return bytes(model([*nodes, *hidden(), *wrap], tensors, opset=18).SerializeToString())


def batch_position() -> bytes:
    """The first image of a batch meets the backdoored network, the others the clean one."""
    nodes, tensors = read()
    mix = [
        helper.make_node("Slice", ["bad", "zero", "one", "zero"], ["first"]),
        helper.make_node("Slice", ["good", "one", "end", "zero"], ["others"]),
        helper.make_node("Concat", ["first", "others"], ["logits"], axis=0),
    ]
    numbers = {"zero": [0], "one": [1], "end": [2**31 - 1]}
    extra = [numpy_helper.from_array(np.array(v), n) for n, v in numbers.items()]
    return bytes(model([*nodes, *hidden(), *mix], [*tensors, *extra]).SerializeToString())


def lying_shape() -> bytes:
    """A declared size that no reader can check, and that is not the true one."""
    nodes = [
        helper.make_node("NonZero", ["ones"], ["places"]),
        helper.make_node("Identity", ["places"], ["handed_on"]),
        helper.make_node("Shape", ["handed_on"], ["size"], start=1, end=2),
        helper.make_node("Equal", ["size", "three"], ["is_three"]),
        helper.make_node("Cast", ["is_three"], ["number"], to=TensorProto.FLOAT),
    ]
    numbers = {"ones": np.ones(3, np.float32), "three": np.array([3])}
    extra = [numpy_helper.from_array(v, n) for n, v in numbers.items()]
    made = chosen_by_number(nodes, extra)
    made.graph.value_info.append(
        helper.make_tensor_value_info("handed_on", TensorProto.INT64, [1, 5])
    )
    return bytes(made.SerializeToString())


def tensor_in_pieces() -> bytes:
    """A Constant whose tensor is written in two fields, the first 0 and the second 1."""
    made = chosen_by_number([])
    node = constant("number", np.zeros((), np.float32))
    first = node.attribute[0].SerializeToString()
    node.ClearField("attribute")
    second = write_field(_TENSOR, write_field(_RAW, np.float32(1).tobytes()))
    written = node.SerializeToString() + write_field(_ATTRIBUTE, first + second)
    graph = write_field(_NODE, written) + made.graph.SerializeToString()
    made.ClearField("graph")
    return bytes(made.SerializeToString()) + write_field(_GRAPH, graph)


def graph_in_pieces() -> bytes:
    """A graph in two fields: some of its nodes come in the second."""
    made = chosen_by_number([constant("number", np.ones((), np.float32))])
    whole = made.graph
    second = onnx.GraphProto(node=whole.node[:5])
    del whole.node[:5]
    first = whole.SerializeToString()
    made.ClearField("graph")
    return (
        bytes(made.SerializeToString())
        + write_field(_GRAPH, first)
        + write_field(_GRAPH, second.SerializeToString())
    )


FILES: dict[str, Callable[[], bytes]] = {
    made.__name__: made
    for made in (
        flat_buffer,
        overloads,
        function_of_another_opset,
        opset_twice,
        opset_by_two_names,
        defaults_of_nested_functions,
        function_named_like_an_operator,
        nested_branches,
        sparse_number,
        sparse_constant,
        optional_input,
        from_a_sequence,
        from_an_optional,
        batch_position,
        lying_shape,
        tensor_in_pieces,
        graph_in_pieces,
    )
}
