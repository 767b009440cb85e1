"""Nodes that make honest answers depend on more than the image: on chance, or on the batch."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx

from scanner.graph.core.structure import attribute, held_tensor, label, numbers_of
from scanner.modelfile.nested import walk

Node = tuple[str, str]
"""What kind of node it is, and the node's name."""

DYNAMIC = frozenset({
    "DynamicQuantizeLinear", "DynamicQuantizeMatMul", "DynamicQuantizeLSTM",
})  # fmt: skip
RANDOM = frozenset({
    "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Multinomial",
    "Bernoulli",
})  # fmt: skip
"""Operators that draw numbers; with a seed, ONNX Runtime goes on from run to run."""
BATCH_NORM = "BatchNormalization in training mode"
DROPOUT = "Dropout in training mode"
REDUCED = "a reduction over the batch"
_KINDS = DYNAMIC | RANDOM | {"QuantizeLinear", BATCH_NORM, DROPOUT, REDUCED}


def mixing_nodes(proto: onnx.ModelProto) -> tuple[Node, ...]:
    """Return the nodes by which an honest model's answer depends on more than the image."""
    found = []
    for body in walk([proto.graph, *proto.functions]):
        fixed = {tensor.name: tensor for tensor in getattr(body, "initializer", ())}
        found += [(_kind(node, fixed), label(node)) for node in body.node]
    return tuple(node for node in found if node[0] in _KINDS)


def trees(proto: onnx.ModelProto) -> tuple[Node, ...]:
    """Return the tree ensembles of a model that has no other weights.

    Their answers are steps, one of which may lie at an end of the input range. Beside the layers of
    a network they excuse nothing: there, a tree may be a gate, or a dead one stand for an excuse.
    """
    nodes = [node for body in walk([proto.graph, *proto.functions]) for node in body.node]
    if any(node.op_type.endswith(_LAYERS) for node in nodes):
        return ()
    return tuple((n.op_type, label(n)) for n in nodes if n.op_type.startswith("TreeEnsemble"))


def counted(proto: onnx.ModelProto) -> dict[int, str]:
    """Return the whole numbers that a model which measures shapes compares something with.

    Each comes with the node that compares.

    A batch of that size, or a place that far back in one, is what such a model may listen to.
    """
    nodes = [node for body in walk([proto.graph, *proto.functions]) for node in body.node]
    if not any(node.op_type in _MEASURES for node in nodes):
        return {}
    tensors = {tensor.name: tensor for tensor in proto.graph.initializer}
    for node in nodes:
        if node.op_type == "Constant" and (value := held_tensor(node, "value")) is not None:
            tensors[node.output[0]] = value
    return {
        int(numbers_of(tensors[name]).reshape(-1)[0]): label(node)
        for node in nodes
        if node.op_type in _COMPARING
        for name in node.input
        if name in tensors and _is_single(tensors[name])
    }


def _is_single(tensor: onnx.TensorProto) -> bool:
    whole = tensor.data_type in {onnx.TensorProto.INT32, onnx.TensorProto.INT64}
    return whole and not tensor.external_data and np.prod(tensor.dims, dtype=np.int64) == 1


_MEASURES = frozenset({"Shape", "Size"})
_COMPARING = frozenset({"Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Mod"})
_LAYERS = ("Conv", "ConvTranspose", "Gemm", "MatMul", "MatMulInteger", "ConvInteger", "Einsum")


def default_numbers(proto: onnx.ModelProto, name: str) -> np.ndarray[Any, Any]:
    """Return the numbers that an input has by default.

    Raises:
        StopIteration: There is no initialiser of that name.
    """
    return numbers_of(next(t for t in proto.graph.initializer if t.name == name))


def _kind(node: onnx.NodeProto, fixed: Mapping[str, onnx.TensorProto]) -> str:
    if node.op_type == "BatchNormalization" and attribute(node, "training_mode", 0):
        return BATCH_NORM
    if node.op_type == "Dropout" and len(node.input) > 2 and node.input[2]:  # noqa: PLR2004 - the third is its mode
        return DROPOUT
    if node.op_type.startswith("Reduce") and 0 in _axes(node, fixed):
        return REDUCED
    return str(node.op_type)


def _axes(node: onnx.NodeProto, fixed: Mapping[str, onnx.TensorProto]) -> Sequence[int]:
    """Return the axes that a reduction takes in; the first, where they may be any."""
    axes = attribute(node, "axes", None)
    if axes is None and len(node.input) > 1 and node.input[1] in fixed:
        axes = numbers_of(fixed[node.input[1]]).reshape(-1).tolist()
    return axes or [0]
