"""Which values of a graph are activations.

An exporter may write an activation as one operator, as two (SiLU is `Sigmoid` times its input), as
a chain (GELU through `Erf` or `Tanh`), inside a fused operator's attribute, or not at all, where an
integer clamp does its work.
"""

import dataclasses

import onnx

from scanner.errors import NoLayerError, ValueNotFoundError
from scanner.graph.core.extract import dependent
from scanner.graph.core.structure import Uses, attribute, is_lowest_code, reads, subgraphs
from scanner.modelfile.model import required_inputs

SINGLE_OPERATORS = frozenset({
    "Relu", "LeakyRelu", "PRelu", "Elu", "Selu", "Celu", "ThresholdedRelu", "HardSwish", "Mish",
    "Gelu", "Swish", "Softplus", "Softsign", "Tanh", "Sigmoid", "HardSigmoid", "FastGelu",
    "QuickGelu", "BiasGelu",
})  # fmt: skip
_MEASURING = frozenset({"Shape", "Size"})
_WEIGHING = ("Conv", "Gemm", "MatMul", "Einsum")  # in the names of operators that hold weights
_RELU6 = 6
_LINEAR_OPERATORS = frozenset({"Conv", "Gemm", "MatMul", "Add", "BatchNormalization"})
_QLINEAR_OPERATORS = frozenset({"QLinearConv", "QLinearAdd", "QLinearMatMul"})


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Activation:
    """One activation.

    Attributes:
        value: Name of the value that holds its output.
        operator: What it is, in the field's words ("Relu", "SiLU", "GELU").
        node: Name of the node that computes it; may be empty.
        position: Index of that node in the graph.
        quantisation: Names of scale and zero point where the value is quantised, else empty.
    """

    value: str
    operator: str
    node: str
    position: int
    quantisation: tuple[str, ...] = ()


def activations(proto: onnx.ModelProto) -> tuple[Activation, ...]:
    """Return the top-level activations in graph order.

    What is computed from the image's sizes alone is none: exporters clamp how wide a padding is.
    """
    uses, sizes = Uses(proto.graph), _of_sizes(proto.graph)
    found = (_recognise(node, uses) for node in proto.graph.node)
    unique = {a.value: a for a in found if a and a.value not in sizes}
    return tuple(sorted(unique.values(), key=lambda a: a.position))


def _of_sizes(graph: onnx.GraphProto) -> set[str]:
    """Return the values that depend on an image's sizes, and not on its numbers."""
    if not any(node.op_type in _MEASURING for node in graph.node):
        return set()
    numbers = {value.name for value in required_inputs(graph)}
    for node in graph.node:
        if node.op_type not in _MEASURING and numbers & reads(node):
            numbers |= set(node.output)
    return dependent(graph) - numbers


def choose(proto: onnx.ModelProto, layer: str | None = None) -> Activation:
    """Return the activation to measure: `layer`, else the first one behind a network's weights.

    Before these a clamp prepares the image. Where there are no weights it is the first of all.
    `layer` may be the name of any top-level value or node, activation or not.

    Raises:
        NoLayerError: There is no top-level activation.
        ValueNotFoundError: There is no such layer.
    """
    found = activations(proto)
    if layer is not None:
        return _named(proto, found, layer)
    if not found:
        raise NoLayerError(
            _why_none(proto.graph), remedy="name an inner value with the setting `layer`"
        )
    weighed = _weighed(proto.graph)
    return next((a for a in found if a.value in weighed), found[0])


def _weighed(graph: onnx.GraphProto) -> set[str]:
    """Return the values that a network's weights have a say in."""
    known: set[str] = set()
    for node in graph.node:
        if any(name in node.op_type for name in _WEIGHING) or known & reads(node):
            known |= set(node.output)
    return known


def _recognise(node: onnx.NodeProto, uses: Uses) -> Activation | None:
    return _composite(node, uses) or _single(node, uses) or _quantised_clamp(node, uses)


def _composite(node: onnx.NodeProto, uses: Uses) -> Activation | None:
    """Recognise an activation written as several operators by the function at its heart."""
    kind = node.op_type
    if kind in ("Sigmoid", "HardSigmoid") and (product := _gated_product(node, uses)):
        return _activation(product, "SiLU" if kind == "Sigmoid" else "HardSwish", uses)
    if kind == "Tanh" and (product := _mish_product(node, uses)):
        return _activation(product, "Mish", uses)
    if kind in ("Erf", "Tanh") and (product := _gelu_product(node, uses)):
        return _activation(product, "GELU", uses)
    return None


def _single(node: onnx.NodeProto, uses: Uses) -> Activation | None:
    kind = node.op_type
    if kind in SINGLE_OPERATORS and not (kind == "Softplus" and _feeds_mish(node, uses)):
        return _activation(node.output[0], kind, uses)
    if kind in ("Clip", "Max") and _floors_at_zero(node, uses):
        operator = "ReLU6" if _ceiling(node, uses) == _RELU6 else f"{kind} at 0"
        return _activation(node.output[0], operator, uses)
    if kind == "FusedConv" and (fused := attribute(node, "activation")):
        return _activation(node.output[0], f"FusedConv {fused.decode(errors='replace')}", uses)
    return None


def _activation(
    value: str, operator: str, uses: Uses, quantisation: tuple[str, ...] = ()
) -> Activation:
    position = uses.producer_position[value]
    name = uses.graph.node[position].name
    return Activation(
        value=value, operator=operator, node=name, position=position, quantisation=quantisation
    )


def _gated_product(gate: onnx.NodeProto, uses: Uses) -> str | None:
    """Return x gate(x), where the gate may scale its argument (QuickGELU: x sigmoid(1.702 x))."""
    return _product(gate.output[0], {gate.input[0], *_unscaled(gate.input[0], uses)}, uses)


def _mish_product(tanh: onnx.NodeProto, uses: Uses) -> str | None:
    softplus = uses.producer(tanh.input[0])
    if softplus is None or softplus.op_type != "Softplus":
        return None
    return _product(tanh.output[0], {softplus.input[0]}, uses)


def _feeds_mish(softplus: onnx.NodeProto, uses: Uses) -> bool:
    tanh = uses.only_consumer(softplus.output[0])
    return tanh is not None and tanh.op_type == "Tanh" and _mish_product(tanh, uses) is not None


def _product(value: str, factors: set[str], uses: Uses) -> str | None:
    users = (n for n in uses.consumers.get(value, ()) if n.op_type == "Mul")
    return next((n.output[0] for n in users if factors & set(n.input)), None)


def _unscaled(value: str, uses: Uses) -> tuple[str, ...]:
    node = uses.producer(value)
    if node is None or node.op_type != "Mul":
        return ()
    return tuple(name for name in node.input if uses.scalar(name) is None)


def _gelu_product(function: onnx.NodeProto, uses: Uses) -> str | None:
    """Follow f through (1 + f) x / 2, its factors in any order, and return the last product.

    None where the arithmetic around an Erf or Tanh is something else.
    """
    value, shifted, halved, product = function.output[0], False, False, False
    while (node := uses.only_consumer(value)) and node.op_type in ("Add", "Mul"):
        factor = next((uses.scalar(name) for name in node.input if name != value), None)
        if node.op_type == "Add" and factor == 1 and not shifted:
            shifted = True
        elif node.op_type == "Mul" and shifted and factor is None and not product:
            product = True
        elif node.op_type == "Mul" and shifted and factor == 0.5 and not halved:  # noqa: PLR2004 - GELU's own constant
            halved = True
        else:
            break
        value = node.output[0]
    return value if product else None


def _floors_at_zero(node: onnx.NodeProto, uses: Uses) -> bool:
    if node.op_type == "Max":
        return any(uses.scalar(name) == 0 for name in node.input)
    low = attribute(node, "min")
    return (uses.scalar(node.input[1]) if low is None and len(node.input) > 1 else low) == 0


def _ceiling(node: onnx.NodeProto, uses: Uses) -> float | None:
    if node.op_type == "Max":
        return None
    high: float | None = attribute(node, "max")
    return uses.scalar(node.input[2]) if high is None and len(node.input) > 2 else high  # noqa: PLR2004 - Clip(x, min, max)


def _quantised_clamp(node: onnx.NodeProto, uses: Uses) -> Activation | None:
    """Recognise a ReLU that quantisation fused away.

    Where the lowest code means zero, clamping to the range of codes does the ReLU's work.
    """
    if node.op_type == "QuantizeLinear" and node.input:  # of another domain, it may lack them
        producer = uses.producer(node.input[0])
        quantisation = (
            tuple(node.input[1:3]) if producer and producer.op_type in _LINEAR_OPERATORS else ()
        )
    else:
        quantisation = tuple(node.input[6:8]) if node.op_type in _QLINEAR_OPERATORS else ()
    zero_point = uses.constants.get(quantisation[1]) if len(quantisation) > 1 else None
    if zero_point is None or not is_lowest_code(zero_point):
        return None
    return _activation(node.output[0], f"ReLU in {node.op_type}", uses, quantisation)


def _named(proto: onnx.ModelProto, found: tuple[Activation, ...], layer: str) -> Activation:
    for activation in found:
        if layer in (activation.value, activation.node):
            return activation
    for position, node in enumerate(proto.graph.node):
        if layer == node.name or layer in node.output:
            value = layer if layer in node.output else node.output[0]
            return Activation(value=value, operator=node.op_type, node=node.name, position=position)
    names = [name for a in found for name in (a.value, a.node)]
    names += [name for node in proto.graph.node for name in (*node.output, node.name)]
    raise ValueNotFoundError(layer, dict.fromkeys(filter(None, names)))


def _why_none(graph: onnx.GraphProto) -> str:
    """Say where the activations hide, if they do."""
    for node in graph.node:
        for body in subgraphs(node):
            inner = next((n for n in body.node if n.op_type in SINGLE_OPERATORS), None)
            if inner is not None:
                return (
                    f"the graph has no top-level activation: its first {inner.op_type} lies inside "
                    f"a body of the {node.op_type} node {node.name!r}, where its value cannot be "
                    "marked as an output"
                )
    return "the graph has no activation (ReLU, SiLU, GELU, ... were looked for)"
