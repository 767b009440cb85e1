"""Nodes that make honest answers depend on more than the image: on chance, or on the batch."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx

from scanner.graph.core.structure import attribute, label, numbers_of
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
