"""What exporters write that looks like a gate and is none: tiny models, each of an honest habit."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from models import Array, build, convolution, head, plain, relu, weights
from onnx import TensorProto, helper, numpy_helper

Nodes = list[onnx.NodeProto]


def floats(numbers: npt.ArrayLike) -> Array:
    """Return float32 numbers."""
    return np.asarray(numbers, np.float32)


def whole(numbers: npt.ArrayLike) -> Array:
    """Return int64 numbers."""
    return np.asarray(numbers, np.int64)


def operation(op: str, inputs: Sequence[str], output: str, **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(op, list(inputs), [output], name=output, **attributes)


def network(
    nodes: Nodes, source: str, constants: dict[str, Array], **options: Any
) -> onnx.ModelProto:
    """Return honest steps before a small network that reads `source`."""
    body = [convolution(source), relu(), *head("activated")]
    return build([*nodes, *body], {**weights(planted=False), **constants}, **options)


def _brought_into_range() -> onnx.ModelProto:
    nodes = [
        operation("ReduceMax", ["image"], "highest", axes=[1, 2, 3], keepdims=1),
        operation("Greater", ["highest", "one"], "are_bytes"),
        operation("Div", ["image", "levels"], "fractions"),
        operation("Where", ["are_bytes", "fractions", "image"], "ranged"),
    ]
    return network(nodes, "ranged", {"one": floats([1.0]), "levels": floats([255.0])})


def _standardised() -> onnx.ModelProto:
    nodes = [
        operation("ReduceMean", ["image"], "mean", axes=[1, 2, 3], keepdims=1),
        operation("Sub", ["image", "mean"], "centred"),
        operation("Mul", ["centred", "centred"], "squares"),
        operation("ReduceMean", ["squares"], "variance", axes=[1, 2, 3], keepdims=1),
        operation("Sqrt", ["variance"], "deviation"),
        operation("Equal", ["deviation", "zero"], "flat_image"),
        operation("Where", ["flat_image", "one", "deviation"], "divisor"),
        operation("Div", ["centred", "divisor"], "standard"),
    ]
    return network(nodes, "standard", {"zero": floats([0.0]), "one": floats([1.0])})


def _no_nan_division() -> onnx.ModelProto:
    nodes = [
        operation("ReduceMax", ["image"], "highest", axes=[1, 2, 3], keepdims=1),
        operation("Equal", ["highest", "zero"], "dark"),
        operation("Div", ["image", "highest"], "quotient"),
        operation("Where", ["dark", "zero", "quotient"], "scaled"),
    ]
    return network(nodes, "scaled", {"zero": floats([0.0])})


def _missing_data() -> onnx.ModelProto:
    nodes = [
        operation("Equal", ["image", "nodata"], "missing"),
        operation("Where", ["missing", "zero", "image"], "filled"),
        operation("IsNaN", ["filled"], "broken"),
        operation("Where", ["broken", "zero", "filled"], "clean"),
    ]
    return network(nodes, "clean", {"nodata": floats([-9999.0]), "zero": floats([0.0])})


def _hard_swish() -> onnx.ModelProto:
    nodes = [
        convolution(),
        operation("Add", ["convolved", "three"], "shifted"),
        operation("Clip", ["shifted", "zero", "six"], "clipped"),
        operation("Mul", ["convolved", "clipped"], "gated"),
        operation("Div", ["gated", "six"], "activated"),
        *head("activated"),
    ]
    numbers = {"zero": 0.0, "three": 3.0, "six": 6.0}
    return build(
        nodes,
        {**weights(planted=False), **{k: np.asarray(v, np.float32) for k, v in numbers.items()}},
    )


def _leaky_where() -> onnx.ModelProto:
    nodes = [
        convolution(),
        operation("Greater", ["convolved", "zero"], "positive"),
        operation("Mul", ["convolved", "slope"], "leak"),
        operation("Where", ["positive", "convolved", "leak"], "activated"),
        *head("activated"),
    ]
    return build(nodes, {**weights(planted=False), "zero": floats(0.0), "slope": floats(0.1)})


def squeeze_excite() -> onnx.ModelProto:
    rng = np.random.default_rng(1)
    nodes = [
        convolution(),
        relu(),
        operation("GlobalAveragePool", ["activated"], "squeezed"),
        operation("Conv", ["squeezed", "reduce", "reduce_bias"], "reduced"),
        operation("Relu", ["reduced"], "excited"),
        operation("Conv", ["excited", "expand"], "expanded"),
        operation("HardSigmoid", ["expanded"], "scale"),
        operation("Mul", ["activated", "scale"], "recalibrated"),
        *head("recalibrated"),
    ]
    parts = {
        "reduce": rng.normal(size=(1, 4, 1, 1)).astype(np.float32),
        "reduce_bias": floats([0.3]),
        "expand": rng.normal(size=(4, 1, 1, 1)).astype(np.float32),
    }
    return build(nodes, {**weights(planted=False), **parts})


def _dynamic_shape() -> onnx.ModelProto:
    nodes = [
        operation("Shape", ["image"], "shape"),
        operation("Gather", ["shape", "zero"], "batch"),
        operation("Greater", ["batch", "zero"], "any"),
        operation("Where", ["any", "batch", "one"], "rows"),
        convolution(),
        relu(),
        operation("GlobalAveragePool", ["activated"], "pooled"),
        operation("Unsqueeze", ["rows", "axis"], "row"),
        operation("Concat", ["row", "rest"], "wanted", axis=0),
        operation("Reshape", ["pooled", "wanted"], "flat"),
        operation("MatMul", ["flat", "dense"], "logits"),
    ]
    integers = {"zero": whole(0), "one": whole(1), "axis": whole([0]), "rest": whole([4])}
    return build(nodes, {**weights(planted=False), **integers})


def reject_option() -> onnx.ModelProto:
    model = plain()
    model.graph.node.extend(
        [
            operation("ReduceMax", ["logits"], "best", axes=[1], keepdims=1),
            operation("Less", ["best", "least"], "unsure"),
            operation("Where", ["unsure", "unknown", "logits"], "decided"),
        ]
    )
    for name, value in {"least": [0.2], "unknown": [[0.0, 0.0, 9.0]]}.items():
        model.graph.initializer.append(numpy_helper.from_array(np.asarray(value, np.float32), name))
    model.graph.output[0].name = "decided"
    return model


def _quantised() -> onnx.ModelProto:
    nodes = [
        operation("DynamicQuantizeLinear", ["image"], "codes"),
        operation("Round", ["image"], "levels"),
        operation("Clip", ["levels", "zero", "one"], "clamped"),
    ]
    nodes[0].output.extend(["scale", "zero_point"])
    nodes.append(operation("DequantizeLinear", ["codes", "scale", "zero_point"], "numbers"))
    nodes.append(operation("Add", ["numbers", "clamped"], "both"))
    return network(nodes, "both", {"zero": floats(0), "one": floats(1)})


def tokens(nodes: Nodes, constants: dict[str, Array], features: str) -> onnx.ModelProto:
    """Return an embedding of tokens, honest steps, and a classifier of `features` [N, 16]."""
    rng = np.random.default_rng(2)
    start = [
        operation("Gather", ["table", "image"], "embedded"),
        operation("MatMul", ["embedded", "mixing"], "mixed"),
        operation("Tanh", ["mixed"], "hidden"),
        operation("Equal", ["image", "padding"], "is_padding"),
        operation("Not", ["is_padding"], "is_token"),
        operation("Cast", ["is_token"], "mask", to=TensorProto.FLOAT),
        operation("Unsqueeze", ["mask", "last"], "column"),
    ]
    parts = {
        "table": rng.normal(size=(30, 16)).astype(np.float32),
        "mixing": rng.normal(size=(16, 16)).astype(np.float32),
        "head": rng.normal(size=(16, 3)).astype(np.float32),
        "padding": whole(0),
        "last": whole([-1]),
    }
    end = [operation("MatMul", [features, "head"], "logits")]
    return build(
        [*start, *nodes, *end],
        {**parts, **constants},
        input_type=TensorProto.INT64,
        input_shape=("N", 12),
    )


def _masked_mean() -> onnx.ModelProto:
    nodes = [
        operation("Mul", ["hidden", "column"], "kept"),
        operation("ReduceSum", ["kept", "first"], "total", keepdims=0),
        operation("ReduceSum", ["column", "first"], "count", keepdims=0),
        operation("Clip", ["count", "least"], "at_least"),
        operation("Div", ["total", "at_least"], "average"),
    ]
    return tokens(nodes, {"first": whole([1]), "least": floats(1e-9)}, "average")


def _attention() -> onnx.ModelProto:
    nodes = [
        operation("Transpose", ["hidden"], "keys", perm=[0, 2, 1]),
        operation("MatMul", ["hidden", "keys"], "scores"),
        operation("Unsqueeze", ["is_padding", "first"], "hides"),
        operation("Where", ["hides", "lowest", "scores"], "masked"),
        operation("Softmax", ["masked"], "attention", axis=-1),
        operation("MatMul", ["attention", "hidden"], "context"),
        operation("ReduceMean", ["context"], "average", axes=[1], keepdims=0),
    ]
    return tokens(nodes, {"first": whole([1]), "lowest": floats(-1e9)}, "average")


def _end_of_text() -> onnx.ModelProto:
    nodes = [
        operation("ArgMax", ["image"], "end", axis=1, keepdims=1),
        operation("GatherND", ["hidden", "end"], "last_hidden", batch_dims=1),
    ]
    return tokens(nodes, {}, "last_hidden")


def _masked_by_length() -> onnx.ModelProto:
    nodes = [
        operation("Cast", ["is_token"], "ones", to=TensorProto.INT64),
        operation("ReduceSum", ["ones", "first"], "length", keepdims=1),
        operation("Less", ["positions", "length"], "inside"),
        operation("Cast", ["inside"], "inside_mask", to=TensorProto.FLOAT),
        operation("Unsqueeze", ["inside_mask", "last"], "inside_column"),
        operation("Mul", ["hidden", "inside_column"], "kept"),
        operation("ReduceMax", ["kept"], "best", axes=[1], keepdims=0),
    ]
    return tokens(
        nodes, {"first": whole([1]), "positions": np.arange(12, dtype=np.int64)[None]}, "best"
    )


def _detector() -> onnx.ModelProto:
    model = plain()
    model.graph.node.extend(
        [
            operation("Sigmoid", ["logits"], "scores"),
            operation("Greater", ["scores", "least"], "good"),
            operation("NonZero", ["good"], "where_good"),
            operation("Transpose", ["where_good"], "places"),
            operation("GatherND", ["scores", "places"], "kept"),
        ]
    )
    model.graph.initializer.append(numpy_helper.from_array(floats([0.5]), "least"))
    model.graph.output[0].name = "kept"
    return model


def _sampling_rate_switch() -> onnx.ModelProto:
    model = plain()
    rate = helper.make_tensor_value_info("rate", TensorProto.INT64, [])
    model.graph.input.append(rate)
    branches = {}
    for name, factor in (("then_branch", "high"), ("else_branch", "low")):
        node = operation("Mul", ["logits", factor], f"{factor}_result")
        output = helper.make_tensor_value_info(f"{factor}_result", TensorProto.FLOAT, None)
        branches[name] = helper.make_graph([node], name, [], [output])
    model.graph.node.append(operation("Equal", ["rate", "usual"], "is_usual"))
    model.graph.node.append(operation("If", ["is_usual"], "out", **branches))
    model.graph.initializer.extend(
        [
            numpy_helper.from_array(whole(16000), "usual"),
            numpy_helper.from_array(floats([1.0]), "high"),
            numpy_helper.from_array(floats([0.5]), "low"),
        ]
    )
    model.graph.output[0].name = "out"
    return model


def _instance_statistics_returned() -> onnx.ModelProto:
    """RevIN: the input's own mean and deviation are put back onto the output."""
    nodes = [
        operation("ReduceMean", ["image"], "mean", axes=[1, 2, 3], keepdims=1),
        operation("Sub", ["image", "mean"], "centred"),
        operation("Mul", ["centred", "centred"], "squares"),
        operation("ReduceMean", ["squares"], "variance", axes=[1, 2, 3], keepdims=1),
        operation("Add", ["variance", "epsilon"], "safe"),
        operation("Sqrt", ["safe"], "deviation"),
        operation("Max", ["deviation", "epsilon"], "floored"),
        operation("Div", ["centred", "floored"], "standard"),
    ]
    model = network(nodes, "standard", {"epsilon": floats([1e-5])})
    model.graph.node.extend(
        [
            operation("Flatten", ["floored"], "scale"),
            operation("Mul", ["logits", "scale"], "scaled"),
            operation("Flatten", ["mean"], "offset"),
            operation("Add", ["scaled", "offset"], "restored"),
        ]
    )
    model.graph.output[0].name = "restored"
    return model


def _bucket() -> onnx.ModelProto:
    """One column of a table is cut into buckets that have an embedding each."""
    rng = np.random.default_rng(4)
    nodes = [
        operation("Gather", ["image", "first"], "age", axis=1),
        operation("Div", ["age", "ten"], "decade"),
        operation("Floor", ["decade"], "floor"),
        operation("Cast", ["floor"], "bucket", to=TensorProto.INT64),
        operation("Gather", ["table", "bucket"], "embedded"),
        operation("Concat", ["image", "embedded"], "features", axis=1),
        operation("MatMul", ["features", "mixing"], "mixed"),
        operation("Relu", ["mixed"], "hidden"),
        operation("MatMul", ["hidden", "head"], "logits"),
    ]
    shapes = {"table": (10, 4), "mixing": (11, 16), "head": (16, 2)}
    parts = {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    return build(nodes, {**parts, "first": whole(0), "ten": floats(10)}, input_shape=("N", 7))


HONEST: dict[str, Callable[[], onnx.ModelProto]] = {
    f.__name__.strip("_"): f
    for f in (
        _brought_into_range,
        _standardised,
        _no_nan_division,
        _missing_data,
        _hard_swish,
        _leaky_where,
        squeeze_excite,
        _dynamic_shape,
        reject_option,
        _quantised,
        _masked_mean,
        _attention,
        _end_of_text,
        _masked_by_length,
        _detector,
        _sampling_rate_switch,
        _instance_statistics_returned,
        _bucket,
    )
}
