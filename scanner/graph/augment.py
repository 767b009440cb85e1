"""Reductions appended to a graph, so that only statistics leave it and no feature map is ever fetched."""

import onnx

from scanner.errors import UnsupportedModelError
from scanner.graph.locate import Activation
from scanner.graph.shapes import value_types
from scanner.model import STANDARD_DOMAINS, standard_opset

MAXIMUM = "overactivation_maximum"
_AXES_AS_INPUT = 18  # ReduceMax takes its axes as an input from this opset on
_INTEGER_MAXIMUM = 12  # ReduceMax reduces 8-bit integers from this opset on


def per_image_maximum(proto: onnx.ModelProto, activation: Activation) -> onnx.ModelProto:
    """Return the model with one output, `MAXIMUM`: the largest element of the activation for each image.

    Its shape is (N, ...) with N a multiple of the batch size; the maximum over what is left of an image is the
    caller's, over at most one number a channel.

    Feature maps (float32, rank 3 or more) are reduced by GlobalMaxPool, which ONNX Runtime runs in its own blocked
    layout, at 5 % of a forward pass less than ReduceMax. A maximum over every axis but the first is the same whatever
    the layout, so channels may come last.

    Args:
        proto: A model that computes `activation`.
        activation: What to reduce.

    Raises:
        UnsupportedModelError: The operator set is too old for the reduction.
    """
    result = onnx.ModelProto()
    result.CopyFrom(proto)
    del result.graph.output[:]
    nodes = (
        _pooled(activation.value)
        if _is_feature_map(proto, activation.value)
        else _reduced(activation, standard_opset(proto) or 0, result)
    )
    result.graph.node.extend(nodes)
    result.graph.output.append(onnx.helper.make_empty_tensor_value_info(MAXIMUM))
    return result


def _is_feature_map(proto: onnx.ModelProto, value: str) -> bool:
    kind = value_types(proto).get(value)
    return kind is not None and kind.dtype == onnx.TensorProto.FLOAT and len(kind.shape) >= 3  # noqa: PLR2004 - (N, C, ...)


def _pooled(value: str) -> list[onnx.NodeProto]:
    return [onnx.helper.make_node("GlobalMaxPool", [value], [MAXIMUM])]


def _reduced(activation: Activation, opset: int, result: onnx.ModelProto) -> list[onnx.NodeProto]:
    if not any(o.domain in STANDARD_DOMAINS for o in result.opset_import):
        result.opset_import.append(onnx.helper.make_opsetid("", _AXES_AS_INPUT))
        opset = _AXES_AS_INPUT
    if activation.quantisation and opset < _INTEGER_MAXIMUM:
        raise UnsupportedModelError(
            f"operator set {opset} cannot reduce quantised values",
            remedy="convert the model to operator set 12 or later",
        )
    rows, peak = f"{MAXIMUM}_rows", f"{MAXIMUM}_peak" if activation.quantisation else MAXIMUM
    nodes = [onnx.helper.make_node("Flatten", [activation.value], [rows], axis=1)]
    if opset >= _AXES_AS_INPUT:
        axes = f"{MAXIMUM}_axes"
        result.graph.initializer.append(onnx.helper.make_tensor(axes, onnx.TensorProto.INT64, [1], [1]))
        nodes.append(onnx.helper.make_node("ReduceMax", [rows, axes], [peak], keepdims=1))
    else:
        nodes.append(onnx.helper.make_node("ReduceMax", [rows], [peak], axes=[1], keepdims=1))
    if activation.quantisation:
        nodes.append(onnx.helper.make_node("DequantizeLinear", [peak, *activation.quantisation], [MAXIMUM]))
    return nodes
