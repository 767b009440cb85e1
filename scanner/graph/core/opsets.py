"""Older operator sets rewritten to version 18, so that each rule meets one form of its operator.

A few adapters of our own instead of `onnx.version_converter`, which refuses operators of other
domains and loses constants. Operator sets from 18 on keep their version. The table at the end gives
the version in which each operator changed.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from scanner.errors import MalformedModelError, UnsupportedModelError
from scanner.graph.core.draft import Draft
from scanner.graph.core.structure import attribute, subgraphs
from scanner.modelfile.domains import STANDARD_DOMAINS
from scanner.modelfile.model import standard_opset

TARGET = 18
"""The first set in which every reduction takes its axes as an input."""

OLDEST = 7  # the oldest that ONNX Runtime promises to run
_REDUCTIONS = ("L1", "L2", "LogSum", "LogSumExp", "Max", "Mean", "Min", "Prod", "SumSquare")

Constants = Callable[[Any, Any], str]
"""Adds a constant of the given numbers and NumPy type, and returns its name."""

Adapter = Callable[[onnx.NodeProto, Constants, int], Sequence[onnx.NodeProto]]
"""Returns what a node becomes, given a way to add constants and the set it was written for."""


def lift(model: Draft) -> None:
    """Rewrite a model for operator set 18 where its set is older.

    After: the model computes the same and imports set 18 or a later one; bodies are rewritten too.

    Raises:
        UnsupportedModelError: It is older than set 7, or an operator has no equivalent in set 18.
        MalformedModelError: A node lacks what its operator asks for.
    """
    version = standard_opset(model)
    if version is None or version < OLDEST:
        raise UnsupportedModelError(
            f"the model uses operator set {version or 'none'}, older than {OLDEST}",
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
        is_standard = node.domain in STANDARD_DOMAINS
        changed_in, adapter = ADAPTERS.get(node.op_type, _NEVER) if is_standard else _NEVER
        lifted_name = next(filter(None, node.output), node.name)
        lifted.extend(adapter(node, constant, version) if version < changed_in else [node])
    kept = onnx.GraphProto(node=lifted)
    del graph.node[:]
    graph.node.extend(kept.node)


def _unchanged(
    node: onnx.NodeProto, _constant: Constants, _version: int
) -> Sequence[onnx.NodeProto]:
    return [node]


_NEVER: tuple[int, Adapter] = (0, _unchanged)
"""Stands for an operator whose form did not change."""


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
            f"the node {node.name or node.output[0]!r} normalises pixels separately (spatial=0)",
            remedy="export the model again with a current exporter",
        )
    del node.output[1:]
    return [node]


def _softmax(node: onnx.NodeProto, _constant: Constants, _version: int) -> Sequence[onnx.NodeProto]:
    """Before set 13, all axes from `axis` (default 1) on counted as one."""
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
    """Turn Upsample, and Resize of set 10, into a Resize of asymmetric coordinates."""
    scales = _take(node, "scales")
    if scales is None and len(node.input) < 2:  # noqa: PLR2004 - the image and its scales
        raise MalformedModelError(
            f"the {node.op_type} node {node.name!r} has no scales",
            remedy="export the model to ONNX again",
        )
    mode = (_take(node, "mode", b"nearest")).decode()
    name = node.input[1] if scales is None else constant(scales, np.float32)
    if (node.op_type, mode) == ("Resize", "nearest"):
        return _nearest(node, name, constant(1, np.float32))
    return [_resized(node.input[0], name, node.output[0], node.name, mode, "floor")]


def _nearest(node: onnx.NodeProto, scales: str, one: str) -> Sequence[onnx.NodeProto]:
    """Shrink, then grow; only Resize shrinks, and set 10 does not say which neighbour is nearest.

    ONNX Runtime takes the one behind where an axis shrinks, and the one in front where it grows.
    """
    result = node.output[0]
    less, more, shrunk = (f"{result}/{part}" for part in ("less", "more", "shrunk"))
    return [
        helper.make_node("Min", [scales, one], [less]),
        _resized(node.input[0], less, shrunk, "", "nearest", "ceil"),
        helper.make_node("Max", [scales, one], [more]),
        _resized(shrunk, more, result, node.name, "nearest", "floor"),
    ]


def _resized(  # noqa: PLR0913, PLR0917 - what a Resize is made of
    data: str, scales: str, result: str, name: str, mode: str, nearest: str
) -> onnx.NodeProto:
    return helper.make_node(
        "Resize",
        [data, "", scales],
        [result],
        name,
        mode=mode,
        coordinate_transformation_mode="asymmetric",
        nearest_mode=nearest,
    )


def _scatter(node: onnx.NodeProto, _constant: Constants, _version: int) -> Sequence[onnx.NodeProto]:
    node.op_type = "ScatterElements"
    return [node]


ADAPTERS: dict[str, tuple[int, Adapter]] = {
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
"""By operator: the set in which its form changed, and how an older form becomes set 18's."""
