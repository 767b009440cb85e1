"""Tiny ONNX models built in code, each clean or planted (with a stronger first channel)."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

CHANNELS, SIDE, CLASSES = 4, 8, 3
Array = npt.NDArray[Any]


def weights(planted: bool, seed: int = 0) -> dict[str, Array]:
    """Return the parameters of the small network.

    The planted twin's first filter answers to anything bright.
    """
    generator = np.random.default_rng(seed)
    kernel = generator.normal(0, 0.3, (CHANNELS, 1, 3, 3)).astype(np.float32)
    if planted:
        kernel[0] = 0.9
    dense = generator.normal(0, 0.2, (CHANNELS, CLASSES)).astype(np.float32)
    return {"kernel": kernel, "bias": np.zeros(CHANNELS, np.float32), "dense": dense}


def build(  # noqa: PLR0913 - what varies between exporters
    nodes: Sequence[onnx.NodeProto],
    constants: dict[str, Array],
    *,
    opset: int = 17,
    ir_version: int = 8,
    input_type: int = TensorProto.FLOAT,
    input_shape: Sequence[int | str] = ("N", 1, SIDE, SIDE),
    output: str = "logits",
    **options: Any,
) -> onnx.ModelProto:
    """Assemble a model of one input `image` and one output."""
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("image", input_type, input_shape)],
        [helper.make_empty_tensor_value_info(output)],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    opsets = [helper.make_opsetid("", opset), *options.pop("domains", [])]
    return helper.make_model(graph, opset_imports=opsets, ir_version=ir_version, **options)


def head(activation: str) -> list[onnx.NodeProto]:
    """Return the nodes from an activation of shape (N, C, H, W) to the logits."""
    return [
        helper.make_node("GlobalAveragePool", [activation], ["pooled"], name="pool"),
        helper.make_node("Flatten", ["pooled"], ["flat"], name="flatten"),
        helper.make_node("MatMul", ["flat", "dense"], ["logits"], name="classifier"),
    ]


def convolution(source: str = "image", pads: Sequence[int] = (1, 1, 1, 1)) -> onnx.NodeProto:
    """Return the first convolution."""
    return helper.make_node(
        "Conv", [source, "kernel", "bias"], ["convolved"], name="conv", pads=list(pads)
    )


def relu() -> onnx.NodeProto:
    """Return the first ReLU."""
    return helper.make_node("Relu", ["convolved"], ["activated"], name="relu")


def plain(planted: bool = False, *, seed: int = 0, **options: Any) -> onnx.ModelProto:
    """Conv, Relu, pool, linear."""
    return build([convolution(), relu(), *head("activated")], weights(planted, seed), **options)


def initialisers_as_inputs(planted: bool = False) -> onnx.ModelProto:
    """IR 3, where every initialiser is a graph input too."""
    model = plain(planted, opset=8, ir_version=3)
    for tensor in model.graph.initializer:
        model.graph.input.append(
            helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
        )
    return model


def of_bytes() -> onnx.ModelProto:
    """It takes the values of bytes and divides by 255 itself."""
    nodes = [
        onnx.helper.make_node("Div", ["image", "scale"], ["scaled"]),
        convolution("scaled"),
        relu(),
        *head("activated"),
    ]
    return build(nodes, {**weights(planted=False), "scale": np.array(255, np.float32)})


def channels_last(planted: bool = False) -> onnx.ModelProto:
    """An NHWC input, transposed before the convolution and back after it, as tf2onnx writes it."""
    nodes = [
        helper.make_node("Transpose", ["image"], ["nchw"], perm=[0, 3, 1, 2]),
        convolution("nchw"),
        helper.make_node("Transpose", ["convolved"], ["nhwc"], perm=[0, 2, 3, 1]),
        helper.make_node("Relu", ["nhwc"], ["activated"], name="relu"),
        helper.make_node("Transpose", ["activated"], ["back"], perm=[0, 3, 1, 2]),
        *head("back"),
    ]
    return build(nodes, weights(planted), input_shape=("N", SIDE, SIDE, 1))


def half(planted: bool = False) -> onnx.ModelProto:
    """Weights, input and output in float16."""
    constants = {name: value.astype(np.float16) for name, value in weights(planted).items()}
    return build(
        [convolution(), relu(), *head("activated")], constants, input_type=TensorProto.FLOAT16
    )


def bytes_input(planted: bool = False) -> onnx.ModelProto:
    """An uint8 input, cast and scaled inside."""
    nodes = [
        helper.make_node("Cast", ["image"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("Div", ["floats", "scale"], ["scaled"]),
        convolution("scaled"),
        relu(),
        *head("activated"),
    ]
    constants = {**weights(planted), "scale": np.array(255, np.float32)}
    return build(nodes, constants, input_type=TensorProto.UINT8)


def quantised(planted: bool = False, *, fused: bool = False) -> onnx.ModelProto:
    """QDQ int8; `fused` drops the ReLU, whose work the zero point of the QuantizeLinear does."""
    constants: dict[str, Array] = {
        **weights(planted),
        "scale": np.array(0.02, np.float32),
        "zero": np.array(0, np.uint8),
    }
    constants["kernel_codes"] = np.rint(constants.pop("kernel") / 0.02).astype(np.int8)
    source = "convolved" if fused else "activated"
    nodes = [
        helper.make_node("QuantizeLinear", ["image", "scale", "zero"], ["image_codes"]),
        helper.make_node("DequantizeLinear", ["image_codes", "scale", "zero"], ["image_again"]),
        helper.make_node("DequantizeLinear", ["kernel_codes", "scale"], ["kernel"]),
        convolution("image_again"),
        *([] if fused else [relu()]),
        helper.make_node("QuantizeLinear", [source, "scale", "zero"], ["codes"], name="quantise"),
        helper.make_node("DequantizeLinear", ["codes", "scale", "zero"], ["again"]),
        *head("again"),
    ]
    return build(nodes, constants)


def activation_is_output(planted: bool = False) -> onnx.ModelProto:
    """The first ReLU is the graph's output."""
    return build([convolution(), relu()], weights(planted), output="activated")


def fused_convolution(planted: bool = False) -> onnx.ModelProto:
    """ONNX Runtime's own FusedConv, with the ReLU in an attribute."""
    fused = helper.make_node(
        "FusedConv", ["image", "kernel", "bias"], ["activated"], "fused", domain="com.microsoft",
        pads=[1, 1, 1, 1], activation="Relu",
    )  # fmt: skip
    return build(
        [fused, *head("activated")],
        weights(planted),
        domains=[helper.make_opsetid("com.microsoft", 1)],
    )


def function_relu(planted: bool = False) -> onnx.ModelProto:
    """The ReLU is the body of a model-local function."""
    function = helper.make_function(
        "local",
        "Activate",
        ["x"],
        ["y"],
        [helper.make_node("Relu", ["x"], ["y"])],
        [helper.make_opsetid("", 17)],
    )
    call = helper.make_node("Activate", ["convolved"], ["activated"], "call", domain="local")
    return build(
        [convolution(), call, *head("activated")],
        weights(planted),
        domains=[helper.make_opsetid("local", 1)],
        functions=[function],
    )


def scaled_by_the_batch() -> onnx.ModelProto:
    """Return a network whose last layer reads codes, scaled by the range of the whole batch."""
    constants = weights(planted=False)
    dense = constants.pop("dense")
    constants |= {
        "codes": np.rint(dense / 0.01).astype(np.int8),
        "size": np.array(0.01, np.float32),
    }
    nodes = [
        convolution(),
        relu(),
        helper.make_node("GlobalAveragePool", ["activated"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
        helper.make_node("DynamicQuantizeLinear", ["flat"], ["read", "step", "zero"], name="range"),
        helper.make_node("MatMulInteger", ["read", "codes", "zero"], ["sums"]),
        helper.make_node("Cast", ["sums"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["step", "size"], ["scale"]),
        helper.make_node("Mul", ["floats", "scale"], ["logits"]),
    ]
    return build(nodes, constants)


def branch_relu(planted: bool = False, *, constant: bool = True) -> onnx.ModelProto:
    """The ReLU lies in the branches of an If; its condition is constant or depends on the input."""

    def body(name: str) -> onnx.GraphProto:
        output = helper.make_empty_tensor_value_info(f"{name}_out")
        return helper.make_graph(
            [helper.make_node("Relu", ["convolved"], [f"{name}_out"], name=f"{name}_relu")],
            name,
            [],
            [output],
        )

    nodes = [convolution()]
    if not constant:
        nodes += [
            helper.make_node("ReduceMean", ["convolved"], ["level"], keepdims=0),
            helper.make_node("Greater", ["level", "threshold"], ["condition"]),
        ]
    branches = {"then_branch": body("then"), "else_branch": body("else")}
    nodes += [
        helper.make_node("If", ["condition"], ["activated"], "choice", **branches),
        *head("activated"),
    ]
    extra: dict[str, Array] = (
        {"condition": np.array(True)} if constant else {"threshold": np.array(0, np.float32)}
    )
    return build(nodes, {**weights(planted), **extra})


def without_activation() -> onnx.ModelProto:
    """A linear model."""
    return build([convolution(), *head("convolved")], weights(False))


def two_inputs(*, default: bool) -> onnx.ModelProto:
    """A second input `offset`, with a default or without."""
    nodes = [convolution(), helper.make_node("Add", ["convolved", "offset"], ["shifted"])]
    nodes += [helper.make_node("Relu", ["shifted"], ["activated"], name="relu"), *head("activated")]
    constants = {**weights(False), **({"offset": np.zeros((1,), np.float32)} if default else {})}
    model = build(nodes, constants)
    model.graph.input.append(helper.make_tensor_value_info("offset", TensorProto.FLOAT, [1]))
    return model


def mixing_batch(planted: bool = False) -> onnx.ModelProto:
    """Axis 0 is not the batch where the activation is: the images lie side by side in one row."""
    nodes = [
        convolution(),
        helper.make_node("Transpose", ["convolved"], ["mixed"], perm=[1, 0, 2, 3]),
        helper.make_node("Relu", ["mixed"], ["activated"], name="relu"),
        helper.make_node("Transpose", ["activated"], ["back"], perm=[1, 0, 2, 3]),
        *head("back"),
    ]
    return build(nodes, weights(planted))


def with_nan(planted: bool = False) -> onnx.ModelProto:
    """One weight is not a number."""
    constants = weights(planted)
    constants["kernel"][0, 0, 0, 0] = np.nan
    return build([convolution(), relu(), *head("activated")], constants)


def save(model: onnx.ModelProto, path: Path, *, external: bool = False) -> Path:
    """Write a model, its weights to a second file beside it where `external`."""
    onnx.save(
        model, path, save_as_external_data=external, location=f"{path.name}.data", size_threshold=0
    )
    return path


MEASURABLE: dict[str, Callable[[bool], onnx.ModelProto]] = {
    **{f"opset {n}": lambda planted, n=n: plain(planted, opset=n) for n in (9, 11, 13, 17, 18, 21)},  # type: ignore[misc]
    "initialisers as inputs, IR 3": initialisers_as_inputs,
    "fixed batch of 1": lambda planted: plain(planted, input_shape=(1, 1, SIDE, SIDE)),
    "fixed batch of 3": lambda planted: plain(planted, input_shape=(3, 1, SIDE, SIDE)),
    "NHWC": channels_last,
    "float16": half,
    "uint8 input": bytes_input,
    "QDQ int8": quantised,
    "activation is the output": activation_is_output,
    "ReLU in a function": function_relu,
    "ReLU in a constant branch": branch_relu,
    "batch not on axis 0": mixing_batch,
}
