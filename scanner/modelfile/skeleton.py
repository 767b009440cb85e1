"""A graph without its weights, for shape inference, which would copy them."""

import math
from collections.abc import Iterable

import onnx

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
