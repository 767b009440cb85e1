"""A graph without its weights, for shape inference, which would copy them."""

import math
from collections.abc import Iterable

import onnx

FREE_INITIALISERS = 4
"""The first IR version in which an initialiser need not be an input too."""

SMALL = 4096
"""Constants of up to this many elements may be shapes, axes or scales: inference needs them."""


def declare_constants(
    graph: onnx.GraphProto, tensors: Iterable[tuple[str, onnx.TensorProto]], largest: int = SMALL
) -> None:
    """Add constants to a graph, in place: small ones with their numbers, others as typed inputs.

    Args:
        graph: A skeleton of our own.
        tensors: Name and content of each constant. Data in other files counts as large.
        largest: Number of elements up to which a constant is small.
    """
    for name, tensor in tensors:
        outside = tensor.data_location == onnx.TensorProto.EXTERNAL
        if math.prod(tensor.dims) <= largest and not outside:
            graph.initializer.append(tensor)
            graph.initializer[-1].name = name
        else:
            graph.input.append(
                onnx.helper.make_tensor_value_info(name, tensor.data_type, tensor.dims)
            )


def without_weights(proto: onnx.ModelProto) -> onnx.ModelProto:
    """Return a model's nodes, inputs and outputs, its large constants declared as inputs.

    What the file claims of its inner values is left out, and so are its functions.
    """
    # Shape inference passes over initialisers that are no inputs in models of an older version.
    light = onnx.ModelProto(
        ir_version=max(proto.ir_version, FREE_INITIALISERS), opset_import=proto.opset_import
    )
    graph, names = light.graph, {tensor.name for tensor in proto.graph.initializer}
    graph.name = proto.graph.name
    graph.node.extend(proto.graph.node)
    graph.input.extend(value for value in proto.graph.input if value.name not in names)
    graph.output.extend(proto.graph.output)
    declare_constants(graph, ((tensor.name, tensor) for tensor in proto.graph.initializer))
    return light
