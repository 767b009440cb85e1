"""Older operator sets rewritten to version 18, so that each gradient rule knows one form of its operator.

Our own few adapters rather than `onnx.version_converter`, which refuses operators of other domains
and loses constants. Operator sets from 18 on keep their version. Each adapter cites the version in
which the operator changed.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from scanner.errors import MalformedModelError, UnsupportedModelError
from scanner.graph.core.structure import attribute, subgraphs
from scanner.modelfile.domains import STANDARD_DOMAINS
from scanner.modelfile.model import standard_opset

TARGET = 18
"""The first set in which every reduction takes its axes as an input."""

_OLDEST = 7  # the oldest that ONNX Runtime promises to run
_REDUCTIONS = ("L1", "L2", "LogSum", "LogSumExp", "Max", "Mean", "Min", "Prod", "SumSquare")

Constants = Callable[[Any, Any], str]
"""Adds a constant of the given numbers and NumPy type, and returns its name."""

Adapter = Callable[[onnx.NodeProto, Constants, int], Sequence[onnx.NodeProto]]
"""Returns what a node becomes, given a way to add constants and the set it was written for."""


def lift(model: onnx.ModelProto) -> None:
    """Rewrite a model of our own for operator set 18 where it is older, in place.

    Raises:
        UnsupportedModelError: It is older than set 7, or an operator has no equal in set 18.
    """
    version = standard_opset(model)
    if version is None or version < _OLDEST:
        raise UnsupportedModelError(
            f"the model uses operator set {version or 'none'}, older than {_OLDEST}",
            remedy="convert it with onnx.version_converter, or export it again",
        )
    if version >= TARGET:
        return
    _lift_graph(model.graph, version)
    for entry in model.opset_import:
        if entry.domain in STANDARD_DOMAINS:
            entry.version = TARGET


def _lift_graph(graph: onnx.GraphProto, version: int) -> None:
    taken = {tensor.name for tensor in graph.initializer}
    lifted: list[onnx.NodeProto] = []

    def constant(numbers: Any, kind: Any) -> str:
        name = f"{lifted_name}/constant{len(taken)}"
        taken.add(name)
        graph.initializer.append(numpy_helper.from_array(np.array(numbers, kind), name))
        return name

    for node in graph.node:
        for body in subgraphs(node):
            _lift_graph(body, version)
        below, adapter = (
            _ADAPTERS.get(node.op_type, (0, _unchanged))
            if node.domain in STANDARD_DOMAINS
            else (0, _unchanged)
        )
        lifted_name = next(filter(None, node.output), node.name)
        lifted.extend(adapter(node, constant, version) if version < below else [node])
    kept = onnx.GraphProto(node=lifted)
    del graph.node[:]
    graph.node.extend(kept.node)


def _unchanged(
    node: onnx.NodeProto, _constant: Constants, _version: int
) -> Sequence[onnx.NodeProto]:
    return [node]


def _take(node: onnx.NodeProto, name: str, default: Any = None) -> Any:
    """Return an attribute's value and remove it."""
    value = attribute(node, name, default)
    kept = [item for item in node.attribute if item.name != name]
    del node.attribute[:]
    node.attribute.extend(kept)
    return value


def _axes_to_input(
    node: onnx.NodeProto, constant: Constants, _version: int
) -> Sequence[onnx.NodeProto]:
    axes = _take(node, "axes")
    if axes is not None:
        node.input.append(constant(axes, np.int64))
    return [node]


def _split(node: onnx.NodeProto, constant: Constants, _version: int) -> Sequence[onnx.NodeProto]:
    sizes = _take(node, "split")
    if sizes is not None:
        node.input.append(constant(sizes, np.int64))
    elif len(node.input) < 2:  # noqa: PLR2004 - Split(input, split)
        node.attribute.append(helper.make_attribute("num_outputs", len(node.output)))
    return [node]


def _slice(node: onnx.NodeProto, constant: Constants, _version: int) -> Sequence[onnx.NodeProto]:
    starts, ends, axes = (_take(node, name) for name in ("starts", "ends", "axes"))
    axes = list(range(len(starts))) if axes is None else axes
    node.input.extend(constant(numbers, np.int64) for numbers in (starts, ends, axes))
    return [node]


def _pad(node: onnx.NodeProto, constant: Constants, _version: int) -> Sequence[onnx.NodeProto]:
    pads, value = _take(node, "pads"), _take(node, "value", 0.0)
    node.input.append(constant(pads, np.int64))
    if value:
        node.input.append(constant(value, np.float32))
    return [node]


def _clip(node: onnx.NodeProto, constant: Constants, _version: int) -> Sequence[onnx.NodeProto]:
    for name in ("min", "max"):
        bound = _take(node, name)
        node.input.append("" if bound is None else constant(bound, np.float32))
    return [node]


def _dropout(node: onnx.NodeProto, _constant: Constants, _version: int) -> Sequence[onnx.NodeProto]:
    _take(node, "ratio")
    return [node]


def _top_k(node: onnx.NodeProto, constant: Constants, _version: int) -> Sequence[onnx.NodeProto]:
    node.input.append(constant([_take(node, "k")], np.int64))
    return [node]


def _batch_normalization(
    node: onnx.NodeProto, _constant: Constants, _version: int
) -> Sequence[onnx.NodeProto]:
    if _take(node, "spatial", 1) == 0:
        raise UnsupportedModelError(
            f"the node {node.name or node.output[0]!r} normalises each pixel apart (spatial=0)",
            remedy="export the model again with a current exporter",
        )
    del node.output[1:]
    return [node]


def _softmax(node: onnx.NodeProto, _constant: Constants, _version: int) -> Sequence[onnx.NodeProto]:
    """Before set 13, all axes from `axis` (default 1) on were one."""
    axis = _take(node, "axis", 1)
    data, result = node.input[0], node.output[0]
    flat, soft, shape = (f"{result}/{part}" for part in ("flat", "softmax", "shape"))
    return [
        helper.make_node("Flatten", [data], [flat], axis=axis),
        helper.make_node(node.op_type, [flat], [soft], name=node.name, axis=1),
        helper.make_node("Shape", [data], [shape]),
        helper.make_node("Reshape", [soft, shape], [result]),
    ]


def _upsample(node: onnx.NodeProto, constant: Constants, _version: int) -> Sequence[onnx.NodeProto]:
    """Upsample, and Resize of set 10, count pixels from the corner."""
    scales = _take(node, "scales")
    if scales is None and len(node.input) < 2:  # noqa: PLR2004 - the image and its scales
        raise MalformedModelError(
            f"the {node.op_type} node {node.name!r} has no scales",
            remedy="export the model to ONNX again",
        )
    mode = (_take(node, "mode", b"nearest")).decode()
    name = node.input[1] if scales is None else constant(scales, np.float32)
    modes = {"mode": mode, "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    return [
        helper.make_node("Resize", [node.input[0], "", name], node.output, name=node.name, **modes)
    ]


def _scatter(node: onnx.NodeProto, _constant: Constants, _version: int) -> Sequence[onnx.NodeProto]:
    node.op_type = "ScatterElements"
    return [node]


_ADAPTERS: dict[str, tuple[int, Adapter]] = {
    **{f"Reduce{kind}": (18, _axes_to_input) for kind in _REDUCTIONS},
    "BatchNormalization": (14, _batch_normalization),
    "Clip": (11, _clip),
    "Dropout": (12, _dropout),
    "Hardmax": (13, _softmax),
    "LogSoftmax": (13, _softmax),
    "Pad": (11, _pad),
    "ReduceSum": (13, _axes_to_input),
    "Resize": (11, _upsample),
    "Scatter": (11, _scatter),
    "Slice": (10, _slice),
    "Softmax": (13, _softmax),
    "Split": (18, _split),
    "Squeeze": (13, _axes_to_input),
    "TopK": (10, _top_k),
    "Unsqueeze": (13, _axes_to_input),
    "Upsample": (10, _upsample),
}
"""By operator: the set in which its form changed, and how an older one becomes the form of set 18."""
