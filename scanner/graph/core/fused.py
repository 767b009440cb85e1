"""What ONNX Runtime's optimiser fuses, written in the operators that it was fused from.

A file that was saved by the optimiser (`SessionOptions.optimized_model_filepath`, level extended)
holds a layer and its activation as one operator of the runtime's own domain, which no rule for
gradients, bounds or weights knows. Both are standard operators; the runtime's schemas say how they
are put together (docs/ContribOperators.md of ONNX Runtime, FusedConv and FusedGemm).
"""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import onnx
from onnx import helper, numpy_helper

from scanner.graph.core.draft import copied
from scanner.graph.core.structure import attribute
from scanner.modelfile.model import standard_opset

_DOMAIN = "com.microsoft"
OPERATORS = {"FusedConv": "Conv", "FusedGemm": "Gemm"}
"""What each fused layer is without its activation."""
_OWN = ("activation", "activation_params")
_OWN_OF_GEMM = ("activation_alpha", "activation_beta", "activation_gamma")
_PARAMETERS: Mapping[str, tuple[str, ...]] = {
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
_BY_INPUTS = 11  # the operator set since which a Clip's limits are inputs
_WITH_SUM = 4  # inputs of a convolution to whose result a value is added


def unfused(proto: onnx.ModelProto) -> onnx.ModelProto:
    """Return a model with its fused layers written out; the model itself where there are none.

    A node in a form that is not known here stays as it is, and so do those in bodies.

    After: values keep their names; what lies between a layer and its activation gets a new one.
    """
    if not any(_is_fused(node) for node in proto.graph.node):
        return proto
    flat = copied(proto)
    taken = {name for node in proto.graph.node for name in node.output}
    types = {tensor.name: tensor.data_type for tensor in proto.graph.initializer}
    opset = standard_opset(proto) or 0
    del flat.graph.node[:]
    for node in proto.graph.node:
        parts = list(_parts(node, types, flat.graph, opset)) if _is_fused(node) else []
        new = {part.output[0] for part in parts[:-1]}
        flat.graph.node.extend([node] if new & taken or not parts else parts)
    return flat


def _is_fused(node: onnx.NodeProto) -> bool:
    return node.domain == _DOMAIN and node.op_type in OPERATORS and len(node.input) > 1


def _parts(
    node: onnx.NodeProto, types: Mapping[str, int], graph: onnx.GraphProto, opset: int
) -> Iterator[onnx.NodeProto]:
    """Yield the nodes that a fused one stands for; none where its form is not known."""
    activation = attribute(node, "activation", b"").decode(errors="replace")
    parameters = _parameters(node, activation)
    if parameters is None:
        return
    output, operator = node.output[0], OPERATORS[node.op_type]
    added = node.input[3] if operator == "Conv" and len(node.input) >= _WITH_SUM else ""
    stages = [operator, *(["Add"] if added else []), *([activation] if activation else [])]
    names = [f"{output}/{stage}" for stage in stages[:-1]] + [output]
    layer = helper.make_node(operator, node.input[:3], names[:1], node.name)
    layer.attribute.extend(a for a in node.attribute if a.name not in {*_OWN, *_OWN_OF_GEMM})
    yield layer
    if added:
        yield helper.make_node("Add", [names[0], added], [names[1]])
    if activation == "Clip" and opset < _BY_INPUTS:
        yield _with(helper.make_node("Clip", [names[-2]], [output]), parameters)
    elif activation == "Clip":
        limits = [f"{output}/{name}" for name in parameters]
        kind = helper.tensor_dtype_to_np_dtype(types.get(node.input[1], onnx.TensorProto.FLOAT))
        graph.initializer.extend(
            numpy_helper.from_array(np.array(value, kind), name)
            for name, value in zip(limits, parameters.values(), strict=True)
        )
        yield helper.make_node("Clip", [names[-2], *limits], [output])
    elif activation:
        yield _with(helper.make_node(activation, [names[-2]], [output]), parameters)


def _with(node: onnx.NodeProto, parameters: Mapping[str, float]) -> onnx.NodeProto:
    """Return a node with attributes added."""
    node.attribute.extend(helper.make_attribute(name, value) for name, value in parameters.items())
    return node


def _parameters(node: onnx.NodeProto, activation: str) -> dict[str, float] | None:
    """Return the parameters of a fused activation, by name; None where they are not all known."""
    wanted: Sequence[str] = _PARAMETERS.get(activation, ()) if activation else ()
    if activation and activation not in _PARAMETERS:
        return None
    if node.op_type == "FusedConv":
        given = list(attribute(node, "activation_params", []))
        return dict(zip(wanted, given, strict=True)) if len(given) == len(wanted) else None
    found = {name: attribute(node, f"activation_{name}", None) for name in wanted}
    return found if None not in found.values() else None
