"""Files of operator sets 5 and 6, read as set 7: the oldest that ONNX Runtime runs.

Until set 6 operands were repeated only where an attribute said so, and from which axis on; set 5
also noted which inputs a node might overwrite, and named types by text. What is measured is the
same network in set 7; onnx's own converter refuses an open batch.
"""

from collections.abc import Sequence

import numpy as np
import onnx
from onnx import helper, numpy_helper

from scanner.errors import MalformedModelError, UnsupportedModelError
from scanner.modelfile.domains import STANDARD_DOMAINS
from scanner.modelfile.inference import infer_shapes
from scanner.modelfile.nested import subgraphs
from scanner.modelfile.skeleton import without_weights

OLDEST, TARGET = 5, 7
_REPEATING = frozenset({
    "Add", "And", "Div", "Equal", "Gemm", "Greater", "Less", "Mul", "Or", "PRelu", "Pow", "Sub",
    "Xor",
})  # fmt: skip
# Operators whose result has the rank of their first input, which onnx does not tell of these sets.
_KEEPING = frozenset({
    "Abs", "BatchNormalization", "Cast", "Ceil", "Clip", "Dropout", "Elu", "Exp", "Floor",
    "HardSigmoid", "Identity", "InstanceNormalization", "LRN", "LeakyRelu", "Log", "Max", "Mean",
    "Min", "Neg", "Not", "Reciprocal", "Relu", "Selu", "Sigmoid", "Softplus", "Softsign", "Sqrt",
    "Sum", "Tanh", "ThresholdedRelu", "Tile", "Upsample",
})  # fmt: skip
# Attributes that set 7 no longer has, and say nothing there.
_GONE = ("broadcast", "axis", "consumed_inputs", "is_test", "output_sequence")
_TYPES = dict(onnx.TensorProto.DataType.items())


def raise_set(proto: onnx.ModelProto) -> bool:
    """Rewrite a model of an older operator set for set 7, in place; return whether it was one.

    Raises:
        UnsupportedModelError: It is older than set 5, trains, or an operator has no equivalent.
        MalformedModelError: The graph's shapes contradict one another.
    """
    imported = [entry for entry in proto.opset_import if entry.domain in STANDARD_DOMAINS]
    version = max((entry.version for entry in imported), default=TARGET)
    if version >= TARGET:
        return False
    if version < OLDEST:
        raise UnsupportedModelError(
            f"the model uses operator set {version}, older than {OLDEST}",
            remedy="export it again with a current exporter",
        )
    if any(subgraphs(node) for node in proto.graph.node):
        raise UnsupportedModelError(
            f"the model uses operator set {version}, and has branches or loops",
            remedy="export it again with a current exporter",
        )
    ranks = _ranks(proto)
    nodes = list[onnx.NodeProto]()
    for node in proto.graph.node:
        try:
            nodes += _raised(node, ranks, proto.graph)
        except (LookupError, TypeError, ValueError) as error:
            raise MalformedModelError(
                f"the inputs or attributes of the {node.op_type} node "
                f"{node.name or list(node.output)!r} do not fit the operator",
                remedy="export the model to ONNX again",
            ) from error
    kept = onnx.GraphProto(node=nodes)
    del proto.graph.node[:]
    proto.graph.node.extend(kept.node)
    for entry in imported:
        entry.version = TARGET
    return True


def _ranks(proto: onnx.ModelProto) -> dict[str, int]:
    """Return the number of dimensions of each value, as far as it is known."""
    skeleton, keeping = without_weights(proto), _KEEPING | (_REPEATING - {"Gemm"})
    ranks = {tensor.name: len(tensor.dims) for tensor in proto.graph.initializer}
    while True:
        known = infer_shapes(skeleton, follow_numbers=False).graph
        for value in (*known.input, *known.output, *known.value_info):
            if value.type.tensor_type.HasField("shape"):
                ranks[value.name] = len(value.type.tensor_type.shape.dim)
        missed = [
            node
            for node in skeleton.graph.node
            if node.op_type in keeping
            and node.input
            and node.input[0] in ranks
            and node.output[0] not in ranks
        ]
        if not missed:
            return ranks
        for node in missed:
            sizes = [None] * ranks[node.input[0]]
            ranks[node.output[0]] = len(sizes)
            skeleton.graph.value_info.append(
                helper.make_tensor_value_info(node.output[0], onnx.TensorProto.FLOAT, sizes)
            )


def _raised(
    node: onnx.NodeProto, ranks: dict[str, int], graph: onnx.GraphProto
) -> Sequence[onnx.NodeProto]:
    """Return what a node becomes."""
    if node.domain not in STANDARD_DOMAINS:
        return [node]
    old = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    if node.op_type == "BatchNormalization" and not old.get("is_test", 0):
        raise UnsupportedModelError(
            f"the node {node.name or node.output[0]!r} normalises by the batch, as in training",
            remedy="export the model for inference",
        )
    gone = set(_GONE) - ({"axis"} if node.op_type not in _REPEATING else set())
    left = [a for a in node.attribute if a.name not in gone]
    del node.attribute[:]
    node.attribute.extend(left)
    if node.op_type == "Cast" and isinstance(old.get("to"), bytes):
        _replace(node, "to", _TYPES[old["to"].decode().upper()])
    elif node.op_type == "Upsample" and "height_scale" in old:
        scales = [1.0, 1.0, old["height_scale"], old["width_scale"]]
        del node.attribute[:]
        node.attribute.append(helper.make_attribute("mode", old.get("mode", b"nearest")))
        node.attribute.append(helper.make_attribute("scales", scales))
    elif node.op_type == "Tile" and len(node.input) == 3:  # noqa: PLR2004 - data, tiles, axis
        return _tiled(node, ranks, graph)
    elif node.op_type in _REPEATING - {"Gemm"}:
        return _aligned(node, old, ranks)
    return [node]


def _replace(node: onnx.NodeProto, name: str, value: object) -> None:
    left = [a for a in node.attribute if a.name != name]
    del node.attribute[:]
    node.attribute.extend([*left, helper.make_attribute(name, value)])


def _aligned(
    node: onnx.NodeProto, old: dict[str, object], ranks: dict[str, int]
) -> Sequence[onnx.NodeProto]:
    """Return a node whose second operand is repeated by the rule of set 7, from the right."""
    first, second = node.input
    if node.op_type == "PRelu":
        axis = 1  # a slope for each channel
    elif old.get("broadcast") and "axis" in old:
        axis = int(str(old["axis"]))
    else:
        return [node]
    if ranks.get(second) is None or ranks.get(first) is None:
        raise UnsupportedModelError(
            f"how the {node.op_type} node {node.name or node.output[0]!r} repeats "
            f"{second!r} cannot be told: a rank is not known",
            remedy="export the model again with a current exporter",
        )
    axis += ranks[first] if axis < 0 else 0
    missing = ranks[first] - axis - ranks[second]
    if missing <= 0 or not ranks[second]:
        return [node]
    wide = f"{node.output[0]}/aligned"
    axes = list(range(ranks[second], ranks[second] + missing))
    node.input[1] = wide
    return [helper.make_node("Unsqueeze", [second], [wide], axes=axes), node]


def _tiled(
    node: onnx.NodeProto, ranks: dict[str, int], graph: onnx.GraphProto
) -> Sequence[onnx.NodeProto]:
    """Return a Tile of one axis as one that says of each axis how often it is repeated."""
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    rank = ranks.get(node.input[0])
    if rank is None or node.input[1] not in tensors or node.input[2] not in tensors:
        raise UnsupportedModelError(
            f"how the Tile node {node.name or node.output[0]!r} repeats its input cannot be told",
            remedy="export the model again with a current exporter",
        )
    tiles, axis = (
        int(numpy_helper.to_array(tensors[name]).reshape(-1)[0]) for name in node.input[1:]
    )
    repeats = np.ones(rank, np.int64)
    repeats[axis] = tiles
    name = f"{node.output[0]}/repeats"
    constant = helper.make_node("Constant", [], [name], value=numpy_helper.from_array(repeats))
    return [constant, helper.make_node("Tile", [node.input[0], name], node.output, node.name)]
