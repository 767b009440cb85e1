"""Operators on codes written as operators on floats: the float twin of a quantised network.

An operator such as QLinearConv takes 8-bit codes and gives 8-bit codes. Its twin decodes, computes
in floats and codes again, which is what the operator is defined to do up to the last code, and what
a gradient passes through (`scanner.graph.gradient.vjps.quantisation`). Weights are decoded here,
once. Where codes are made by DynamicQuantizeLinear, the scale of each run is taken as a constant.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper
from onnx.external_data_helper import uses_external_data

from scanner.graph.core.draft import copied
from scanner.graph.core.structure import Uses, attribute, numbers_of
from scanner.modelfile.domains import STANDARD_DOMAINS

_CONTRIB = "com.microsoft"
_OF_CODES = frozenset({"channels_last"})  # attributes that the float operator has not
_BY_AXIS = 13  # the operator set since which a Softmax is over one axis, not over all from it on
_UNARY = {
    "QLinearAveragePool": "AveragePool",
    "QLinearGlobalAveragePool": "GlobalAveragePool",
    "QLinearLeakyRelu": "LeakyRelu",
    "QLinearSigmoid": "Sigmoid",
}
_BINARY = {"QLinearAdd": "Add", "QLinearMul": "Mul"}
_MOVING = frozenset({
    "DepthToSpace", "Expand", "Flatten", "Gather", "Identity", "MaxPool", "Pad", "Reshape", "Slice",
    "SpaceToDepth", "Split", "Squeeze", "Tile", "Transpose", "Unsqueeze",
})  # fmt: skip

Array = npt.NDArray[Any]


def float_twin(proto: onnx.ModelProto) -> onnx.ModelProto:
    """Return the float twin of a model; the model itself where nothing in it computes on codes.

    An operator in a form that is not known here stays as it is.

    Before: the model is flat.
    After: values keep their names. One that held 32-bit sums of codes holds the same numbers as
    floats.

    Raises:
        MalformedModelError: A constant does not hold what its shape and type say.
    """
    if not any(node.output and node.op_type in ON_CODES for node in proto.graph.node):
        return proto
    twin = copied(proto)
    opset = max((o.version for o in proto.opset_import if o.domain in STANDARD_DOMAINS), default=0)
    writer = _Writer(Uses(proto.graph), twin.graph, opset)
    for node in proto.graph.node:
        rule = _rule(node)
        start = len(writer.nodes)
        if node.output and node.output[0] in writer.instead:
            writer.nodes.append(writer.instead[node.output[0]])
        elif rule is None or not _applied(rule, writer, node):
            del writer.nodes[start:]
            writer.nodes.append(node)
    del twin.graph.node[:]
    twin.graph.node.extend(writer.nodes)
    for value in [v for v in twin.graph.value_info if v.name in writer.sums]:
        twin.graph.value_info.remove(value)
    return twin


def _applied(rule: "_Rule", writer: "_Writer", node: onnx.NodeProto) -> bool:
    """Whether a rule could write a node's twin; it cannot where sizes do not fit the operator."""
    try:
        with np.errstate(over="ignore", invalid="ignore"):
            return rule(writer, node)
    except (ArithmeticError, LookupError, TypeError, ValueError):
        return False


@dataclasses.dataclass
class _Writer:
    """Nodes of the twin, as they are written."""

    uses: Uses
    graph: onnx.GraphProto
    opset: int
    nodes: list[onnx.NodeProto] = dataclasses.field(default_factory=list)
    sums: set[str] = dataclasses.field(default_factory=set)  # values that held 32-bit integers
    # Of codes, by value: their scale and zero point.
    scales: dict[str, list[str]] = dataclasses.field(default_factory=dict)
    # Of a later node, by its output: what takes its place.
    instead: dict[str, onnx.NodeProto] = dataclasses.field(default_factory=dict)

    def add(
        self,
        operator: str,
        inputs: Sequence[str],
        output: str,
        like: onnx.NodeProto | None = None,
        **own: Any,
    ) -> str:
        """Add a node, with attributes of its own or another's, and return its output's name."""
        node = helper.make_node(operator, inputs, [output], **own)
        kept = like.attribute if like is not None else ()
        node.attribute.extend(a for a in kept if a.name not in _OF_CODES)
        self.nodes.append(node)
        return output

    def constant(self, numbers: Array, name: str) -> str:
        """Add a constant and return its name."""
        self.graph.initializer.append(numpy_helper.from_array(numbers.astype(np.float32), name))
        return name

    def numbers(self, value: str) -> Array | None:
        """Return the numbers of a constant; None of what is computed, or lies elsewhere."""
        tensor = self.uses.constants.get(value)
        return None if tensor is None or uses_external_data(tensor) else numbers_of(tensor)

    def decode(
        self, code: Sequence[str], name: str, *, axis: int = 0, dimensions: int = 0
    ) -> str | None:
        """Return the floats that codes stand for.

        Args:
            code: Names of the codes, their scale and their zero point.
            name: Of the result.
            axis: Of a constant's scales, where it has several.
            dimensions: At least so many has the constant, for a scale on each of that axis.

        Returns:
            Their name; None where the form is not known here.
        """
        value, scale, zero = (*code, "", "")[:3]
        scales = self.numbers(scale)
        if scales is None or scales.dtype != np.float32:
            return None
        codes = self.numbers(value)
        if codes is not None:
            zeros = self.numbers(zero) if zero else np.zeros(1)
            if zeros is None or codes.ndim < dimensions:
                return None
            return self.constant(_decoded(codes, scales, zeros, axis), name)
        if scales.size != 1:
            return None
        return self.add("DequantizeLinear", [value, scale, *([zero] if zero else [])], name)

    def encode(self, value: str, node: onnx.NodeProto, scale: int) -> bool:
        """Code floats again, as the node's output; `scale` is the place of its scale."""
        code = [name for name in node.input[scale : scale + 2] if name]
        self.add("QuantizeLinear", [value, *code], node.output[0])
        self.scales[node.output[0]] = code
        return bool(code)


def _decoded(codes: Array, scales: Array, zeros: Array, axis: int) -> Array:
    """Return (code - zero point) scale, with one of each along an axis, or one for all."""

    def along(values: Array) -> Array:
        if values.size == 1:
            return values.reshape(()).astype(np.float64)
        shape = [1] * codes.ndim
        shape[axis] = -1
        return values.reshape(shape).astype(np.float64)

    return np.asarray((codes.astype(np.float64) - along(zeros)) * along(scales))


def _convolution(writer: _Writer, node: onnx.NodeProto) -> bool:
    output = node.output[0]
    image = writer.decode(node.input[:3], f"{output}/x")
    weights = writer.decode(node.input[3:6], f"{output}/w", dimensions=1)
    inputs = [image, weights]
    if len(node.input) > 8 and node.input[8]:  # noqa: PLR2004 - the bias
        inputs.append(_bias(writer, node, node.input[8], 1.0))
    if None in inputs or writer.numbers(node.input[3]) is None:
        return False
    return writer.encode(writer.add("Conv", _all(inputs), f"{output}/y", node), node, 6)


def _bias(writer: _Writer, node: onnx.NodeProto, value: str, factor: float) -> str | None:
    """Return a bias of 32-bit codes, whose scale is the product of those of both factors."""
    codes, one, other = (writer.numbers(name) for name in (value, node.input[1], node.input[4]))
    if codes is None or one is None or other is None:
        return None
    scales = one.reshape(-1).astype(np.float64) * other.reshape(-1) * factor
    return writer.constant(codes * scales, f"{node.output[0]}/b")


def _product(writer: _Writer, node: onnx.NodeProto) -> bool:
    output = node.output[0]
    factors = [
        writer.decode(node.input[:3], f"{output}/a", axis=-2, dimensions=2),
        writer.decode(node.input[3:6], f"{output}/b", axis=-1, dimensions=2),
    ]
    if None in factors:
        return False
    return writer.encode(writer.add("MatMul", _all(factors), f"{output}/y"), node, 6)


def _gemm(writer: _Writer, node: onnx.NodeProto) -> bool:
    output, alpha = node.output[0], attribute(node, "alpha", 1.0)
    axis = 0 if attribute(node, "transB", 0) else -1
    inputs = [
        writer.decode(node.input[:3], f"{output}/x"),
        writer.decode(node.input[3:6], f"{output}/w", axis=axis, dimensions=1),
    ]
    rest = [*node.input[6:], "", "", ""][:3]
    if rest[0]:
        inputs.append(_bias(writer, node, rest[0], alpha))
    if None in inputs:
        return False
    if not rest[1]:
        writer.add("Gemm", _all(inputs), output, node)
        return True
    return writer.encode(writer.add("Gemm", _all(inputs), f"{output}/y", node), node, 7)


def _unary(writer: _Writer, node: onnx.NodeProto) -> bool:
    value = writer.decode(node.input[:3], f"{node.output[0]}/x")
    if value is None or attribute(node, "channels_last", 0):
        return False
    made = writer.add(_UNARY[node.op_type], [value], f"{node.output[0]}/y", node)
    return writer.encode(made, node, 3)


def _softmax(writer: _Writer, node: onnx.NodeProto) -> bool:
    """A Softmax of the operator set that the node names, whichever the model is in."""
    output, axis = node.output[0], attribute(node, "axis", -1)
    value = writer.decode(node.input[:3], f"{output}/x")
    if value is None:
        return False
    over_several = attribute(node, "opset", _BY_AXIS) < _BY_AXIS
    if axis == -1 or over_several == (writer.opset < _BY_AXIS):
        return writer.encode(writer.add("Softmax", [value], f"{output}/y", axis=axis), node, 3)
    if not over_several:
        return False
    flat = writer.add("Flatten", [value], f"{output}/flat", axis=axis)
    shares = writer.add("Softmax", [flat], f"{output}/shares", axis=-1)
    shape = writer.add("Shape", [value], f"{output}/shape")
    return writer.encode(writer.add("Reshape", [shares, shape], f"{output}/y"), node, 3)


def _binary(writer: _Writer, node: onnx.NodeProto) -> bool:
    terms = [
        writer.decode(node.input[:3], f"{node.output[0]}/a"),
        writer.decode(node.input[3:6], f"{node.output[0]}/b"),
    ]
    if None in terms:
        return False
    return writer.encode(
        writer.add(_BINARY[node.op_type], _all(terms), f"{node.output[0]}/y"), node, 6
    )


def _concatenation(writer: _Writer, node: onnx.NodeProto) -> bool:
    starts = range(2, len(node.input), 3)
    parts = [
        writer.decode(node.input[start : start + 3], f"{node.output[0]}/{start}")
        for start in starts
    ]
    if None in parts:
        return False
    made = writer.add("Concat", _all(parts), f"{node.output[0]}/y", node)
    return writer.encode(made, node, 0)


def _noted(writer: _Writer, node: onnx.NodeProto) -> bool:
    """QuantizeLinear stays as it is; how it codes is needed by what moves its codes."""
    writer.scales[node.output[0]] = [name for name in node.input[1:3] if name]
    return False


def _moved(writer: _Writer, node: onnx.NodeProto) -> bool:
    """What moves codes, or picks the largest, does the same with the floats that they stand for."""
    code = writer.scales.get(node.input[0]) if node.input else None
    if code is None:
        return False
    rest = list(node.input[1:])
    if node.op_type == "Pad":
        if not _fills_with_zero(writer, node, code):
            return False
        rest[1:2] = [""]
    value = writer.decode([node.input[0], *code], f"{node.output[0]}/x")
    if value is None:
        return False
    outputs = node.output if node.op_type == "Split" else node.output[:1]
    made = helper.make_node(node.op_type, [value, *rest], [f"{output}/y" for output in outputs])
    made.attribute.extend(node.attribute)
    writer.nodes.append(made)
    for output, part in zip(outputs, made.output, strict=True):
        writer.add("QuantizeLinear", [part, *code], output)
        writer.scales[output] = code
    return True


def _fills_with_zero(writer: _Writer, node: onnx.NodeProto, code: Sequence[str]) -> bool:
    """Whether a Pad adds nothing but zeros, as codes, or repeats what is there."""
    if attribute(node, "mode", b"constant") != b"constant":
        return True
    names = [*code, ""][1], [*node.input, "", ""][2]
    zero, filling = (writer.numbers(name) if name else np.zeros(1) for name in names)
    return zero is not None and filling is not None and zero.item() == filling.item()


def _sum_of_codes(writer: _Writer, node: onnx.NodeProto) -> bool:
    """MatMulInteger or ConvInteger: sums of products of codes, less their zero points."""
    is_product = node.op_type == "MatMulInteger"
    code, weights, zero, weights_zero = [*node.input, "", ""][:4]
    numbers = writer.numbers(weights)
    zeros = writer.numbers(weights_zero) if weights_zero else np.zeros(1)
    made = _coded_by(writer, code)
    if numbers is None or zeros is None or made is None or made[2] != zero:
        return False
    if numbers.ndim < 2:  # noqa: PLR2004 - a matrix, or a kernel
        return False
    output = node.output[0]
    again = writer.add("QuantizeLinear", [name for name in made if name], f"{output}/codes")
    floats = writer.add("DequantizeLinear", [again, *filter(None, made[1:])], f"{output}/floats")
    if not _scaled_here(writer, output, made[1]):
        floats = writer.add("Div", [floats, made[1]], f"{output}/whole")
    factor = _decoded(numbers, np.ones(1), zeros, -1 if is_product else 0)
    writer.add(
        "MatMul" if is_product else "Conv",
        [floats, writer.constant(factor, f"{output}/w")],
        output,
        node,
    )
    writer.sums.add(output)
    return True


def _scaled_here(writer: _Writer, output: str, scale: str) -> bool:
    """Whether sums need not be divided by the scale of the codes, only to be multiplied by it.

    That is so where they are cast and multiplied by that scale times a constant, as quantisers
    write it; then they are multiplied by the constant alone, and a linear layer remains one.
    """
    cast = writer.uses.only_consumer(output)
    product = writer.uses.only_consumer(cast.output[0]) if cast is not None else None
    if cast is None or product is None or (cast.op_type, product.op_type) != ("Cast", "Mul"):
        return False
    factors = [name for name in product.input if name != cast.output[0]]
    both = writer.uses.producer(factors[0]) if len(factors) == 1 else None
    if both is None or both.op_type != "Mul" or scale not in both.input:
        return False
    rest = [name for name in both.input if name != scale]
    if len(rest) != 1 or writer.numbers(rest[0]) is None:
        return False
    writer.instead[product.output[0]] = helper.make_node(
        "Mul", [cast.output[0], rest[0]], product.output, product.name
    )
    return True


def _coded_by(writer: _Writer, code: str) -> tuple[str, str, str] | None:
    """Return the floats that became codes, their scale and their zero point."""
    node = writer.uses.producer(code)
    if node is None or node.domain not in STANDARD_DOMAINS or node.output[0] != code:
        return None
    if node.op_type == "DynamicQuantizeLinear" and len(node.output) > 2:  # noqa: PLR2004 - codes, scale, zero
        return node.input[0], node.output[1], node.output[2]
    if node.op_type == "QuantizeLinear":
        value, scale, zero = (*node.input, "")[:3]
        return value, scale, zero
    return None


def _all(names: Sequence[str | None]) -> list[str]:
    return [name for name in names if name is not None]


_Rule = Callable[[_Writer, onnx.NodeProto], bool]
_STANDARD: dict[str, _Rule] = {
    "QLinearConv": _convolution,
    "QLinearMatMul": _product,
    "MatMulInteger": _sum_of_codes,
    "ConvInteger": _sum_of_codes,
    "QuantizeLinear": _noted,
    **dict.fromkeys(_MOVING, _moved),
}
_OF_ONNX_RUNTIME: dict[str, _Rule] = {
    "QGemm": _gemm,
    "QLinearConcat": _concatenation,
    "QLinearSoftmax": _softmax,
    **dict.fromkeys(_UNARY, _unary),
    **dict.fromkeys(_BINARY, _binary),
}


ON_CODES = {*_STANDARD, *_OF_ONNX_RUNTIME} - {"QuantizeLinear", *_MOVING}
"""Operators that have a twin."""


def _rule(node: onnx.NodeProto) -> _Rule | None:
    if not node.output:
        return None
    if node.domain in STANDARD_DOMAINS:
        return _STANDARD.get(node.op_type)
    return _OF_ONNX_RUNTIME.get(node.op_type) if node.domain == _CONTRIB else None
