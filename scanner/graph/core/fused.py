"""What ONNX Runtime's optimisers fuse, written in the operators that it was fused from.

A file that was saved by an optimiser (`SessionOptions.optimized_model_filepath`, level extended;
`onnxruntime.transformers.optimizer`) holds several operators as one of the runtime's own domain,
which no rule for gradients, bounds or weights knows. All of them stand for standard operators; the
runtime's schemas say how they are put together (docs/ContribOperators.md of ONNX Runtime).
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from scanner.graph.core.draft import copied
from scanner.graph.core.structure import attribute
from scanner.modelfile.model import standard_opset

_DOMAIN = "com.microsoft"
_ACTIVATIONS: Mapping[str, tuple[str, ...]] = {
    "Relu": (),
    "Sigmoid": (),
    "Tanh": (),
    "Softplus": (),
    "Softsign": (),
    "LeakyRelu": ("alpha",),
    "Elu": ("alpha",),
    "ThresholdedRelu": ("alpha",),
    "HardSigmoid": ("alpha", "beta"),
    "Selu": ("alpha", "gamma"),
    "Clip": ("min", "max"),
}
"""By activation, its attributes, in the order in which a fused convolution lists them."""
_FRACTIONS = frozenset({
    onnx.TensorProto.BFLOAT16, onnx.TensorProto.DOUBLE, onnx.TensorProto.FLOAT,
    onnx.TensorProto.FLOAT16,
})  # fmt: skip
"""Types of the numbers that are fused; a file may claim any."""
_CLIPPED_BY_INPUTS = 11  # the operator set since which a Clip's limits are inputs
_WITH_EINSUM = 12  # and since which there is an Einsum, which needs no rank
_QUICK = 1.702  # of QuickGelu: x sigmoid(1.702 x), arXiv 1606.08415, section 2
_CUBIC = 0.044715  # of FastGelu, by tanh: the same


def unfused(proto: onnx.ModelProto) -> onnx.ModelProto:
    """Return a model with its fused operators written out; the model itself where there are none.

    A node in a form that is not known here stays as it is, and so do those in bodies.

    After: values keep their names; those that lie inside of what was fused get new ones.
    """
    if not any(_is_fused(node) for node in proto.graph.node):
        return proto
    flat = copied(proto)
    taken = {name for node in proto.graph.node for name in node.output}
    values = _Values(proto)
    del flat.graph.node[:]
    for node in proto.graph.node:
        parts = _Parts(node, values) if _is_fused(node) else None
        if parts is None or not _is_written(node, parts) or parts.new & taken:
            flat.graph.node.append(node)
        else:
            flat.graph.node.extend(parts.nodes)
            flat.graph.initializer.extend(parts.constants)
    return flat


def _is_fused(node: onnx.NodeProto) -> bool:
    return node.domain == _DOMAIN and node.op_type in OPERATORS and any(node.output[:1])


def _is_written(node: onnx.NodeProto, parts: "_Parts") -> bool:
    """Write a fused node's parts; whether its form is known."""
    fewest, write = OPERATORS[node.op_type]
    return len(node.input) >= fewest and write(node, parts)


class _Values:
    """What a model says of its values. A wrong rank makes a graph that does not load."""

    def __init__(self, proto: onnx.ModelProto) -> None:
        self.opset = standard_opset(proto) or 0
        graph = proto.graph
        self.types: dict[str, int] = {}
        self.shapes: dict[str, tuple[int, ...]] = {}  # 0 for an open size
        for value in (*graph.value_info, *graph.input, *graph.output):
            kind = value.type.tensor_type
            self.types[value.name] = kind.elem_type
            if kind.HasField("shape"):
                self.shapes[value.name] = tuple(size.dim_value for size in kind.shape.dim)
        for tensor in graph.initializer:
            self.types[tensor.name] = tensor.data_type
            self.shapes[tensor.name] = tuple(tensor.dims)

    def dtype(self, names: Sequence[str]) -> Any:
        """Return NumPy's type of the first value that is known to hold fractions; else float32."""
        known = (kind for name in names if (kind := self.types.get(name)) in _FRACTIONS)
        return helper.tensor_dtype_to_np_dtype(next(known, onnx.TensorProto.FLOAT))


class _Parts:
    """The nodes and constants that stand for one node."""

    def __init__(self, node: onnx.NodeProto, values: _Values) -> None:
        self.values, self._node = values, node
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self.dtype = values.dtype(node.input)

    @property
    def new(self) -> set[str]:
        """Names that the graph did not have before."""
        made = {name for node in self.nodes for name in node.output} - set(self._node.output)
        return made | {tensor.name for tensor in self.constants}

    def op(self, operator: str, *inputs: str, to: str = "", **attributes: Any) -> str:
        """Append a node with one output, and return the output's name."""
        output = to or self._name(operator)
        self.nodes.append(helper.make_node(operator, inputs, [output], **attributes))
        return output

    def last(self, operator: str, *inputs: str, **attributes: Any) -> bool:
        """Append the node that makes the first output. Returns True: the form is known."""
        self.op(operator, *inputs, to=self._node.output[0], **attributes)
        return True

    def number(self, value: Any, dtype: Any = None, name: str = "") -> str:
        """Add a constant, and return its name."""
        array = np.array(value, dtype or self.dtype)
        name = self._name(name or "constant")
        self.constants.append(numpy_helper.from_array(array, name))
        return name

    def _name(self, what: str) -> str:
        name = f"{self._node.output[0]}/{what}"
        count = sum(taken == name or taken.startswith(f"{name}_") for taken in self.new)
        return f"{name}_{count}" if count else name


def _layer(node: onnx.NodeProto, parts: _Parts) -> bool:
    """Write a layer, what is added to it, and its activation."""
    activation = attribute(node, "activation", b"").decode(errors="replace")
    parameters = _parameters(node, activation)
    if parameters is None:
        return False
    operator = node.op_type.removeprefix("Fused")
    added = node.input[3] if operator == "Conv" and len(node.input) > 3 else ""  # noqa: PLR2004 - after the bias
    stages = [operator, *(["Add"] if added else []), *([activation] if activation else [])]
    own = {"activation", "activation_params"} | {
        f"activation_{name}" for name in ("alpha", "beta", "gamma")
    }
    kept = [held for held in node.attribute if held.name not in own]
    value = parts.op(operator, *node.input[:3], to=node.output[0] if len(stages) == 1 else "")
    parts.nodes[-1].attribute.extend(kept)
    parts.nodes[-1].name = node.name
    if added:
        value = parts.op("Add", value, added, to="" if activation else node.output[0])
    if activation == "Clip" and parts.values.opset >= _CLIPPED_BY_INPUTS:
        limits = [parts.number(limit, name=name) for name, limit in parameters.items()]
        return parts.last("Clip", value, *limits)
    return not activation or parts.last(activation, value, **parameters)


def _parameters(node: onnx.NodeProto, activation: str) -> dict[str, float] | None:
    """Return the parameters of a fused activation, by name; None where they are not all known."""
    wanted: Sequence[str] = _ACTIVATIONS.get(activation, ()) if activation else ()
    if activation and activation not in _ACTIVATIONS:
        return None
    if node.op_type == "FusedConv":
        given = list(attribute(node, "activation_params", []))
        return dict(zip(wanted, given, strict=True)) if len(given) == len(wanted) else None
    found = {name: attribute(node, f"activation_{name}", None) for name in wanted}
    return found if None not in found.values() else None


def _gelu(node: onnx.NodeProto, parts: _Parts) -> bool:
    """Write x (1 + erf(x / sqrt 2)) / 2, of the sum with a bias where there is one."""
    value = _biased(node, parts)
    inner = parts.op("Erf", parts.op("Div", value, parts.number(math.sqrt(2))))
    gate = parts.op("Add", inner, parts.number(1))
    return parts.last("Mul", parts.op("Mul", value, gate), parts.number(0.5))


def _fast_gelu(node: onnx.NodeProto, parts: _Parts) -> bool:
    """Write x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) / 2."""
    value = _biased(node, parts)
    cube = parts.op("Mul", parts.op("Mul", value, value), value)
    bent = parts.op("Add", value, parts.op("Mul", cube, parts.number(_CUBIC)))
    inner = parts.op("Tanh", parts.op("Mul", bent, parts.number(math.sqrt(2 / math.pi))))
    gate = parts.op("Add", inner, parts.number(1))
    return parts.last("Mul", parts.op("Mul", value, gate), parts.number(0.5))


def _quick_gelu(node: onnx.NodeProto, parts: _Parts) -> bool:
    value, slope = node.input[0], attribute(node, "alpha", _QUICK)
    gate = parts.op("Sigmoid", parts.op("Mul", value, parts.number(slope)))
    return parts.last("Mul", value, gate)


def _biased(node: onnx.NodeProto, parts: _Parts) -> str:
    return parts.op("Add", *node.input) if len(node.input) > 1 and node.input[1] else node.input[0]


def _product(node: onnx.NodeProto, parts: _Parts) -> bool:
    """Write alpha A' B', where ' may transpose the last two axes."""
    turned = [attribute(node, name, 0) for name in ("transA", "transB")]
    named = zip(node.input, turned, strict=False)
    factors = [_turned(parts, name) if turn else name for name, turn in named]
    if attribute(node, "transBatchA", 0) or attribute(node, "transBatchB", 0) or not all(factors):
        return False
    alpha = attribute(node, "alpha", 1.0)
    if alpha == 1:
        return parts.last("MatMul", *factors)
    return parts.last("Mul", parts.op("MatMul", *factors), parts.number(alpha))


def _turned(parts: _Parts, name: str) -> str:
    """Transpose the last two axes of a value, and return the result's name; empty if impossible."""
    rank = len(parts.values.shapes.get(name, ()))
    if rank == 1:
        return name  # a vector has nothing to transpose
    if rank:
        order = [*range(rank - 2), rank - 1, rank - 2]
        return parts.op("Transpose", name, perm=order)
    if parts.values.opset < _WITH_EINSUM:
        return ""
    return parts.op("Einsum", name, equation="...ij->...ji")


def _skip_norm(node: onnx.NodeProto, parts: _Parts) -> bool:
    """Write the layer normalisation of a sum: input, skip, scale, shift and bias, in this order."""
    data, skip, scale, *rest = node.input
    shift, bias = (*rest, "", "")[:2]
    if any(node.output[1:3]):
        return False
    whole = node.output[3] if len(node.output) > 3 else ""  # noqa: PLR2004 - the sum, for what follows
    value = parts.op("Add", data, skip, to="" if bias else whole)
    if bias:
        value = parts.op("Add", value, bias, to=whole)
    inputs = (value, scale, shift) if shift else (value, scale)
    return parts.last(
        "LayerNormalization", *inputs, axis=-1, epsilon=attribute(node, "epsilon", 1e-12)
    )


def _attention(node: onnx.NodeProto, parts: _Parts) -> bool:
    """Write self-attention, whose queries, keys and values come from one product."""
    weights = parts.values.shapes.get(node.input[1], ())
    heads = attribute(node, "num_heads", 0)
    features = weights[-1] // 3 // heads if weights and heads > 0 else 0
    if features < 1 or any(node.input[3:]) or not _is_plain(node):
        return False
    value = parts.op("MatMul", *node.input[:2])
    if any(node.input[2:]):
        value = parts.op("Add", value, node.input[2])
    value = parts.op("Reshape", value, parts.number((0, 0, 3, heads, features), np.int64))
    value = parts.op("Transpose", value, perm=[2, 0, 3, 1, 4])
    thirds = [_row(parts, value, third) for third in range(3)]
    return _attended(node, parts, thirds, features)


def _multi_head_attention(node: onnx.NodeProto, parts: _Parts) -> bool:
    """Write attention of queries, keys and values, each of (batch, length, features)."""
    named, bias = node.input[:3], (*node.input, "", "")[3]
    shapes = [parts.values.shapes.get(name, ()) for name in named]
    heads = attribute(node, "num_heads", 0)
    whole = {shape[-1] for shape in shapes if len(shape) == 3}  # noqa: PLR2004 - see above
    if len(whole) != 1 or any(node.input[4:]) or not _is_plain(node) or heads < 1:
        return False
    features = whole.pop() // heads
    if features < 1 or any(len(shape) != 3 for shape in shapes):  # noqa: PLR2004 - see above
        return False
    added = bias and parts.op("Reshape", bias, parts.number((3, -1), np.int64))
    thirds = []
    for third, name in enumerate(named):
        value = parts.op("Add", name, _row(parts, added, third)) if added else name
        value = parts.op("Reshape", value, parts.number((0, 0, heads, features), np.int64))
        thirds.append(parts.op("Transpose", value, perm=[0, 2, 1, 3]))
    return _attended(node, parts, thirds, features)


def _row(parts: _Parts, value: str, index: int) -> str:
    return parts.op("Gather", value, parts.number(index, np.int64), axis=0)


def _is_plain(node: onnx.NodeProto) -> bool:
    """Whether attention looks at everything, and tells its result alone."""
    told = {"num_heads", "scale", "mask_filter_value"}
    return not any(node.output[1:]) and not any(
        helper.get_attribute_value(held) for held in node.attribute if held.name not in told
    )


def _attended(node: onnx.NodeProto, parts: _Parts, thirds: Sequence[str], features: int) -> bool:
    """Write softmax(scale Q K^T) V for (batch, heads, length, features); arXiv 1706.03762, (1)."""
    queries, keys, values = thirds
    scale = attribute(node, "scale", 0.0) or features**-0.5
    keys = parts.op("Transpose", keys, perm=[0, 1, 3, 2])
    scores = parts.op("Mul", parts.op("MatMul", queries, keys), parts.number(scale))
    mixed = parts.op("MatMul", parts.op("Softmax", scores, axis=3), values)
    mixed = parts.op("Transpose", mixed, perm=[0, 2, 1, 3])
    return parts.last("Reshape", mixed, parts.number((0, 0, -1), np.int64))


OPERATORS: Mapping[str, tuple[int, Callable[[onnx.NodeProto, _Parts], bool]]] = {
    "Attention": (2, _attention),
    "BiasGelu": (2, _gelu),
    "FastGelu": (1, _fast_gelu),
    "FusedConv": (2, _layer),
    "FusedGemm": (2, _layer),
    "FusedMatMul": (2, _product),
    "Gelu": (1, _gelu),
    "MultiHeadAttention": (3, _multi_head_attention),
    "QuickGelu": (1, _quick_gelu),
    "SkipLayerNormalization": (3, _skip_norm),
}
"""By fused operator, its fewest inputs and what writes it out; that returns False for a form that
is not known."""
