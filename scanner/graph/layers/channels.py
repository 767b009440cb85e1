"""Which axis of a value holds its channels."""

import onnx

from scanner.graph.core.structure import Uses, attribute
from scanner.graph.layers.activations import SINGLE_OPERATORS

_FIRST = frozenset({
    "Conv", "ConvTranspose", "FusedConv", "QLinearConv", "ConvInteger", "BatchNormalization",
    "InstanceNormalization", "GroupNormalization", "MaxPool", "AveragePool", "GlobalMaxPool",
    "GlobalAveragePool", "LRN",
})  # fmt: skip
_LAST = frozenset({"MatMul", "Gemm", "MatMulInteger", "QLinearMatMul", "LayerNormalization"})
_KEEPING = SINGLE_OPERATORS | {
    "Add", "Sub", "Mul", "Div", "Max", "Min", "Clip", "Pow", "Erf", "Cast", "Identity", "Dropout",
    "QuantizeLinear", "DequantizeLinear", "QLinearAdd",
}  # fmt: skip
_TOKENS = 3  # (N, tokens, channels), where nothing says otherwise


def channel_axis(value: str, rank: int, uses: Uses) -> int:
    """Return the axis that holds the channels of a value of rank 2 or more.

    The nearest operator before the value that defines the axis says which it is (1 behind a
    convolution, the last behind a matrix product); elementwise operators and transpositions are
    looked through. Where no operator defines it, it is the last of (N, tokens, channels), and 1
    otherwise.
    """
    default = rank - 1 if rank == _TOKENS else 1
    # origin[i] is the axis that becomes axis i of `value` through the transpositions passed so far.
    origin = list(range(rank))
    node = uses.producer(value)
    while node is not None and (node.op_type in _KEEPING or node.op_type == "Transpose"):
        if node.op_type == "Transpose":
            permutation = list(attribute(node, "perm", range(rank)[::-1]))
            if len(permutation) != rank:
                return default
            origin = [permutation[axis] for axis in origin]
        node = _computed(node, uses)
    if node is None or node.op_type not in _FIRST | _LAST:
        return default
    return origin.index(1 if node.op_type in _FIRST else rank - 1)


def _computed(node: onnx.NodeProto, uses: Uses) -> onnx.NodeProto | None:
    """Return the producer of the first argument that is not a constant."""
    return next(
        (p for name in node.input if name not in uses.constants and (p := uses.producer(name))),
        None,
    )
