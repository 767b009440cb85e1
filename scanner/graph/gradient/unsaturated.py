"""Quantised activations without their ceiling: what the network computed before it was quantised.

Quantisation rounds, and cuts off whatever exceeds the range that a few calibration images filled.
How far a logit can be driven then tells how that range was chosen, not what the network has
learnt.
"""

import onnx
from onnx import numpy_helper
from onnx.external_data_helper import uses_external_data

from scanner.graph.core.draft import copied
from scanner.graph.core.structure import Uses, attribute, is_lowest_code


def unsaturated(proto: onnx.ModelProto) -> onnx.ModelProto:
    """Return the model without the pairs of QuantizeLinear and DequantizeLinear around its values.

    Where the lowest code means zero, the lower bound stays: it is the ReLU that quantisation fused
    away. Quantised constants stay as they are.

    Before: the model is flat.
    After: no computed value is quantised only to be dequantised at once. A model of which that
    holds is returned itself.
    """
    uses = Uses(proto.graph)
    pairs = {
        node.output[0]: "Relu" if _floors_at_zero(node, uses) else "Identity"
        for node in proto.graph.node
        if node.op_type == "QuantizeLinear"
        and _is_complete(node)
        and node.input[0] not in uses.constants
        and _undone_at_once(node, uses)
    }
    if not pairs:
        return proto
    relaxed = copied(proto)
    for node in relaxed.graph.node:
        if node.op_type == "QuantizeLinear" and node.output[0] in pairs:
            node.CopyFrom(
                onnx.helper.make_node(pairs[node.output[0]], node.input[:1], node.output, node.name)
            )
        elif node.op_type == "DequantizeLinear" and pairs.keys() & set(node.input[:1]):
            node.CopyFrom(onnx.helper.make_node("Identity", node.input[:1], node.output, node.name))
    del relaxed.graph.value_info[:]  # the codes are no longer integers
    relaxed.graph.value_info.extend(
        value for value in proto.graph.value_info if value.name not in pairs
    )
    return relaxed


def _is_complete(quantise: onnx.NodeProto) -> bool:
    """Whether a node has its inputs and output; only those of standard operators were checked."""
    return len(quantise.input) > 1 and len(quantise.output) > 0


def _undone_at_once(quantise: onnx.NodeProto, uses: Uses) -> bool:
    """Whether every reader dequantises the codes again, by the same scale and zero point.

    A negative scale would turn the range around, and one that is not known might.
    """
    scale = uses.constants.get(quantise.input[1])
    if scale is None or uses_external_data(scale):
        return False
    try:
        positive = bool((numpy_helper.to_array(scale) > 0).all())
    except (TypeError, ValueError):  # its data is not of its type
        return False
    if not positive:
        return False
    outputs = {value.name for value in uses.graph.output}
    readers = uses.consumers.get(quantise.output[0], ())
    same = all(
        n.op_type == "DequantizeLinear" and list(n.input[1:]) == list(quantise.input[1:])
        for n in readers
    )
    return bool(readers) and same and quantise.output[0] not in outputs


def _floors_at_zero(quantise: onnx.NodeProto, uses: Uses) -> bool:
    """Whether nothing negative passes; without a zero point the codes are uint8 and 0 is zero."""
    zero = quantise.input[2] if len(quantise.input) > 2 else ""  # noqa: PLR2004 - x, scale, zero point
    if not zero:
        return not attribute(quantise, "output_dtype", 0)
    zero_point = uses.constants.get(zero)
    return zero_point is not None and is_lowest_code(zero_point)
