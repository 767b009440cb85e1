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


Known = dict[tuple[str, int], int | None]
"""Axes by value and rank, as found by earlier calls; None where no operator defines one."""


def channel_axis(value: str, rank: int, uses: Uses, known: Known | None = None) -> int:
    """Return the axis that holds the channels of a value of rank 2 or more.

    The nearest operator before the value that defines the axis says which it is (1 behind a
    convolution, the last behind a matrix product); elementwise operators and transpositions are
    looked through. Where no operator defines it, it is the last of (N, tokens, channels), and 1
    otherwise.

    Args:
        value: The value.
        rank: How many dimensions it has.
        uses: The graph's index.
        known: What earlier calls for the same graph found, to which this one adds: without it, a
            call for each of n values in a row would take n^2 steps.
    """
    known = {} if known is None else known
    default = rank - 1 if rank == _TOKENS else 1
    passed: list[onnx.NodeProto] = []
    node = uses.producer(value)
    while node is not None and (node.op_type in _KEEPING or node.op_type == "Transpose"):
        if (node.output[0], rank) in known:
            break
        passed.append(node)
        node = _computed(node, uses)
    axis: int | None = None
    if node is not None:
        defined = {**dict.fromkeys(_FIRST, 1), **dict.fromkeys(_LAST, rank - 1)}
        axis = known.get((node.output[0], rank), defined.get(node.op_type))
    for behind in reversed(passed):
        if behind.op_type == "Transpose" and axis is not None:
            permutation = list(attribute(behind, "perm", range(rank)[::-1]))
            axis = permutation.index(axis) if sorted(permutation) == list(range(rank)) else None
        known[behind.output[0], rank] = axis
    return default if axis is None else axis


def _computed(node: onnx.NodeProto, uses: Uses) -> onnx.NodeProto | None:
    """Return the producer of the first argument that is not a constant."""
    return next(
        (p for name in node.input if name not in uses.constants and (p := uses.producer(name))),
        None,
    )
