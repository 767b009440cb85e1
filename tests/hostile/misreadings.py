"""Files that run a backdoored network under ONNX Runtime and read as a clean one to another reader.

Each function returns a serialised model made of samples/mnist-badnets.onnx, which runs, and
samples/mnist-clean-1.onnx, which was read. `FILES` holds all of them, by name.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

SAMPLES = Path(__file__).parents[2] / "samples"
BACKDOORED = SAMPLES / "mnist-badnets.onnx"
CLEAN = SAMPLES / "mnist-clean-1.onnx"
REFERENCE = SAMPLES / "mnist-clean-2.onnx"

Array = npt.NDArray[Any]
Nodes = list[onnx.NodeProto]


def network(path: Path, prefix: str, output: str) -> tuple[Nodes, list[onnx.TensorProto]]:
    """Return a sample's nodes and initialisers, every name but the input's under a prefix."""
    graph = onnx.load(path).graph
    names = {"input": "input", "logits": output}
    for node in graph.node:
        for field in (node.input, node.output):
            field[:] = [names.get(name, f"{prefix}{name}") for name in field]
        node.name = f"{prefix}{node.name}"
    for tensor in graph.initializer:
        tensor.name = f"{prefix}{tensor.name}"
    return list(graph.node), list(graph.initializer)


def constant(name: str, value: Array) -> onnx.NodeProto:
    """Return a Constant node."""
    return helper.make_node("Constant", [], [name], value=numpy_helper.from_array(value))


def model(
    nodes: Sequence[onnx.NodeProto],
    tensors: Sequence[onnx.TensorProto],
    *,
    outputs: Sequence[str] = ("logits",),
    opset: int = 17,
    **options: Any,
) -> onnx.ModelProto:
    """Return a model of one image input and outputs of ten numbers."""
    values = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["N", 10]) for n in outputs]
    image = helper.make_tensor_value_info("input", TensorProto.FLOAT, ["N", 1, 28, 28])
    graph = helper.make_graph(nodes, "main", [image], values, tensors)
    imports = [helper.make_opsetid("", opset), *options.pop("domains", [])]
    return helper.make_model(graph, opset_imports=imports, ir_version=8, **options)


def hidden() -> Nodes:
    """Return the backdoored network to the value `bad`, its weights in Constant nodes."""
    nodes, tensors = network(BACKDOORED, "bad/", "bad")
    return [*(constant(t.name, numpy_helper.to_array(t)) for t in tensors), *nodes]


def read() -> tuple[Nodes, list[onnx.TensorProto]]:
    """Return the clean network to the value `good`."""
    return network(CLEAN, "", "good")


def chosen_by_number(
    makes_number: Sequence[onnx.NodeProto],
    extra: Sequence[onnx.TensorProto] = (),
    *,
    number: str = "number",
    **options: Any,
) -> onnx.ModelProto:
    """Return good + number (bad - good): the clean network for 0, the backdoored one for 1."""
    nodes, tensors = read()
    mixed = [
        helper.make_node("Sub", ["bad", "good"], ["difference"]),
        helper.make_node("Mul", ["difference", number], ["share"]),
        helper.make_node("Add", ["good", "share"], ["logits"]),
    ]
    return model([*makes_number, *nodes, *hidden(), *mixed], [*tensors, *extra], **options)


def body(name: str, nodes: Nodes, output: str, tensors: Sequence[onnx.TensorProto] = ()) -> Any:
    """Return a body of an If."""
    value = helper.make_tensor_value_info(output, TensorProto.FLOAT, ["N", 10])
    return helper.make_graph(nodes, name, [], [value], tensors)


def chosen_by_if(
    makes_condition: Sequence[onnx.NodeProto],
    extra: Sequence[onnx.TensorProto] = (),
    **options: Any,
) -> onnx.ModelProto:
    """Return a model whose If runs the backdoored network where `condition` is true."""
    nodes, tensors = read()
    bad, weights = network(BACKDOORED, "bad/", "bad")
    decide = helper.make_node(
        "If",
        ["condition"],
        ["logits"],
        "decide",
        then_branch=body("then", bad, "bad", weights),
        else_branch=body("else", [helper.make_node("Identity", ["good"], ["kept"])], "kept"),
    )
    return model([*makes_condition, *nodes, decide], [*tensors, *extra], **options)


def constant_of_two_attributes() -> bytes:
    """The runtime reads a Constant's first attribute, whatever its name; others read `value`."""
    node = constant("number", np.zeros((), np.float32))
    node.attribute.insert(0, helper.make_attribute("value_float", 1.0))
    return bytes(chosen_by_number([node]).SerializeToString())


def condition_of_two_attributes() -> bytes:
    """As above, for the condition of an If, under a name that the operator does not know."""
    node = constant("condition", np.array(False))
    first = onnx.AttributeProto()
    first.CopyFrom(node.attribute[0])
    first.name = "other"
    first.t.CopyFrom(numpy_helper.from_array(np.array(True)))
    node.attribute.insert(0, first)
    return bytes(chosen_by_if([node]).SerializeToString())


def attribute_twice() -> bytes:
    """One attribute given twice: protobuf readers take the first, the runtime's map the last."""
    node = helper.make_node("LeakyRelu", ["minus"], ["number"], alpha=0.0)
    node.attribute.append(helper.make_attribute("alpha", -1.0))
    minus = [numpy_helper.from_array(np.array(-1.0, np.float32), "minus")]
    return bytes(chosen_by_number([node], minus).SerializeToString())


def scope_of_a_branch() -> bytes:
    """A branch whose weights have the names of outer ones: inlined, the outer ones are taken."""
    nodes, tensors = read()
    bad, weights = network(BACKDOORED, "", "bad")
    inner = {name: f"bad{name}" for node in bad for name in node.output}
    for node in bad:
        node.name = f"bad{node.name}"
        node.input[:] = [inner.get(name, name) for name in node.input]
        node.output[:] = [inner.get(name, name) for name in node.output]
    output = inner["bad"]
    decide = helper.make_node(
        "If",
        ["condition"],
        ["logits"],
        "decide",
        then_branch=body("then", bad, output, weights),
        else_branch=body("else", [helper.make_node("Identity", ["good"], ["kept"])], "kept"),
    )
    condition = numpy_helper.from_array(np.array(True), "condition")
    return bytes(model([*nodes, decide], [*tensors, condition]).SerializeToString())


def dense_and_sparse() -> bytes:
    """A dense and a sparse initialiser of one name."""
    dense = numpy_helper.from_array(np.zeros(2, np.float32), "numbers")
    made = chosen_by_number([helper.make_node("Gather", ["numbers", "zero"], ["number"], axis=0)],
        [dense, numpy_helper.from_array(np.array(0), "zero")])  # fmt: skip
    values = numpy_helper.from_array(np.ones(1, np.float32), "numbers")
    indices = numpy_helper.from_array(np.zeros(1, np.int64), "indices")
    made.graph.sparse_initializer.append(
        onnx.SparseTensorProto(values=values, indices=indices, dims=[2])
    )
    return bytes(made.SerializeToString())


def initialiser_twice(first: float = 0.0, last: float = 1.0) -> bytes:
    """Two initialisers of one name."""
    tensors = [numpy_helper.from_array(np.array(x, np.float32), "number") for x in (first, last)]
    return bytes(chosen_by_number([], tensors).SerializeToString())


def function_named_like_a_kernel() -> bytes:
    """A function called com.microsoft::FusedMatMul: the runtime has a kernel of that name."""
    opsets = [helper.make_opsetid("", 17)]
    inside = [
        helper.make_node("Sub", ["a", "a"], ["zero"]),
        helper.make_node("MatMul", ["zero", "b"], ["y"]),
    ]
    function = helper.make_function(
        "com.microsoft", "FusedMatMul", ["a", "b"], ["y"], inside, opsets
    )
    one = [numpy_helper.from_array(np.ones((1, 1), np.float32), "one")]
    call = helper.make_node("FusedMatMul", ["one", "one"], ["number"], domain="com.microsoft")
    domains = [helper.make_opsetid("com.microsoft", 1)]
    made = chosen_by_number([call], one, domains=domains, functions=[function])
    return bytes(made.SerializeToString())


def default_of_a_function() -> bytes:
    """A default in `attribute_proto`, which inlining drops: the operator's own then counts."""
    inner = helper.make_node("LeakyRelu", ["x"], ["y"])
    inner.attribute.append(
        onnx.AttributeProto(name="alpha", type=onnx.AttributeProto.FLOAT, ref_attr_name="slope")
    )
    function = helper.make_function(
        "local", "Slope", ["x"], ["y"], [inner], [helper.make_opsetid("", 17)]
    )
    function.attribute_proto.append(helper.make_attribute("slope", 1.0))
    # -100 slope + 1 is 0 for LeakyRelu's default of 0.01, and far from it for 1.
    nodes = [
        helper.make_node("Slope", ["hundred"], ["sloped"], domain="local"),
        helper.make_node("Add", ["sloped", "one"], ["sum"]),
        helper.make_node("Div", ["sum", "scale"], ["number"]),
    ]
    numbers = {"hundred": -100.0, "one": 1.0, "scale": -99.0}
    tensors = [numpy_helper.from_array(np.array(v, np.float32), n) for n, v in numbers.items()]
    domains = [helper.make_opsetid("local", 1)]
    made = chosen_by_number(nodes, tensors, domains=domains, functions=[function])
    made.ir_version = 9
    return bytes(made.SerializeToString())


def halves_that_underflow() -> bytes:
    """A product of float16 constants that is 0 in float16 and not in float32."""
    tiny, huge = np.array(1e-4, np.float16), np.array(6e4, np.float16)
    nodes = [
        helper.make_node("Mul", ["tiny", "tiny"], ["product"]),
        # Stored in between, so that the runtime's own widening does not save it.
        helper.make_node("Reshape", ["product", "shape"], ["row"]),
        helper.make_node("Concat", ["row", "row"], ["twice"], axis=0),
        helper.make_node("Gather", ["twice", "place"], ["stored"]),
        helper.make_node("Mul", ["stored", "huge"], ["larger"]),
        helper.make_node("Mul", ["larger", "huge"], ["some"]),
        helper.make_node("Cast", ["some"], ["wide"], to=TensorProto.FLOAT),
        helper.make_node("Div", ["wide", "whole"], ["ratio"]),
        helper.make_node("Sub", ["one", "ratio"], ["number"]),
    ]
    whole = np.float32(tiny) * np.float32(tiny) * np.float32(huge) * np.float32(huge)
    tensors = [
        numpy_helper.from_array(np.array([1]), "shape"),
        numpy_helper.from_array(np.array(1), "place"),
        numpy_helper.from_array(tiny, "tiny"),
        numpy_helper.from_array(huge, "huge"),
        numpy_helper.from_array(np.array(whole, np.float32), "whole"),
        numpy_helper.from_array(np.array(1, np.float32), "one"),
    ]
    return bytes(chosen_by_number(nodes, tensors).SerializeToString())


def product_that_overflows() -> bytes:
    """A ReduceProd of int64 beyond 2^63: wraps in one reader, saturates in another."""
    nodes = [
        helper.make_node("ReduceProd", ["factors"], ["product"], keepdims=0),
        helper.make_node("Cast", ["product"], ["wide"], to=TensorProto.FLOAT),
        helper.make_node("Div", ["wide", "whole"], ["number"]),
    ]
    tensors = [
        numpy_helper.from_array(np.array([2**32, 2**32]), "factors"),
        numpy_helper.from_array(np.array(2.0**63, np.float32), "whole"),
    ]
    return bytes(chosen_by_number(nodes, tensors).SerializeToString())


def two_outputs() -> bytes:
    """The scores that decide stand behind an operator whose shape inference does not know."""
    nodes, tensors = read()
    shaped = [
        helper.make_node("Shape", ["bad"], ["sizes"]),
        helper.make_node("Mul", ["sizes", "one"], ["target"]),
        helper.make_node("Reshape", ["bad", "target"], ["scores"]),
    ]
    one = numpy_helper.from_array(np.array(1), "one")
    made = model([*nodes, *hidden(), *shaped], [*tensors, one], outputs=["scores", "good"])
    made.graph.output[0].CopyFrom(helper.make_empty_tensor_value_info("scores"))
    return bytes(made.SerializeToString())


def batch_size() -> bytes:
    """One image alone meets the backdoored network, several the clean one."""
    nodes = [
        helper.make_node("Shape", ["input"], ["count"], start=0, end=1),
        helper.make_node("Equal", ["count", "single"], ["alone"]),
        helper.make_node("Cast", ["alone"], ["number"], to=TensorProto.FLOAT),
    ]
    single = [numpy_helper.from_array(np.array([1]), "single")]
    return bytes(chosen_by_number(nodes, single).SerializeToString())


def reversed_order() -> bytes:
    """The backdoored sample with its nodes in reverse, which the runtime does not mind."""
    made = onnx.load(BACKDOORED)
    nodes = list(made.graph.node)[::-1]
    copied = onnx.GraphProto(node=nodes)
    del made.graph.node[:]
    made.graph.node.extend(copied.node)
    return bytes(made.SerializeToString())


def quantised_bias(bias: float = 1.0, fused: float = -0.21) -> bytes:
    """A bias whose codes overflow where the runtime's fusion rounds it to 32 bits."""
    nodes = [
        helper.make_node("ReduceMax", ["input"], ["brightest"], axes=[1, 2, 3], keepdims=0),
        helper.make_node("Reshape", ["brightest", "row"], ["bright"]),
        helper.make_node("QuantizeLinear", ["bright", "step", "zero"], ["codes"]),
        helper.make_node("DequantizeLinear", ["codes", "step", "zero"], ["again"]),
        helper.make_node("DequantizeLinear", ["weight", "tiny", "none"], ["matrix"]),
        helper.make_node("Gemm", ["again", "matrix", "bias"], ["sum"]),
        helper.make_node("QuantizeLinear", ["sum", "step", "middle"], ["sum_codes"]),
        helper.make_node("DequantizeLinear", ["sum_codes", "step", "middle"], ["coarse"]),
        helper.make_node("Sub", ["one", "coarse"], ["rest"]),
        helper.make_node("Div", ["rest", "whole"], ["number"]),
    ]
    numbers = {
        "row": np.array([-1, 1]),
        "step": np.array(0.01, np.float32),
        "zero": np.array(0, np.uint8),
        "middle": np.array(100, np.uint8),
        "weight": np.zeros((1, 1), np.int8),
        "tiny": np.array(1e-8, np.float32),
        "none": np.array(0, np.int8),
        "bias": np.array([bias], np.float32),
        "one": np.array(bias, np.float32),
        "whole": np.array(bias - fused, np.float32),
    }
    tensors = [numpy_helper.from_array(value, name) for name, value in numbers.items()]
    return bytes(chosen_by_number(nodes, tensors).SerializeToString())


FILES: dict[str, Callable[[], bytes]] = {
    function.__name__: function
    for function in (
        constant_of_two_attributes,
        condition_of_two_attributes,
        attribute_twice,
        scope_of_a_branch,
        dense_and_sparse,
        initialiser_twice,
        function_named_like_a_kernel,
        default_of_a_function,
        halves_that_underflow,
        product_that_overflows,
        two_outputs,
        batch_size,
        reversed_order,
        quantised_bias,
    )
}


def runs(data: bytes, images: Array, output: str | None = None) -> Array:
    """Return what ONNX Runtime answers to each image alone, as a user loads the file."""
    import onnxruntime  # noqa: PLC0415 - a reader of this module may want the files alone

    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    names = [output] if output else [session.get_outputs()[0].name]
    rows = [session.run(names, {"input": image[None]})[0] for image in images]
    return np.concatenate(rows)
