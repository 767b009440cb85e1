"""Small models cut out around a gate: to look at, to open the gate with, and to hold it closed."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx

from scanner.graph.core import flatten
from scanner.graph.core.ancestors import ancestors
from scanner.graph.core.draft import copied
from scanner.graph.core.extract import upstream
from scanner.graph.core.structure import Uses, label, reads, subgraphs

_MOST_NODES = 400
_MOST_WEIGHTS = 1 << 16


def excerpt(proto: onnx.ModelProto, details: Mapping[str, Any]) -> onnx.ModelProto:
    """Return the tests, the gates and all between them as a model of its own.

    Before: `details` come from an observation of this model.
    After: what is gated has become an input, and so have weights of more than 65,536 numbers: the
    model is for looking at.

    Args:
        proto: The model.
        details: Of an `input-gate` observation (see `scanner.graph.logic.gates.observe`).
    """
    flat = flatten.flatten(proto)
    names = {entry.partition(" ")[2] for entry in details["path"]}
    before = _before(flat, details["decision"])
    nodes = [n for i, n in enumerate(flat.graph.node) if i in before or _is_named(n, names)]
    cut = onnx.ModelProto(
        ir_version=flat.ir_version, opset_import=flat.opset_import, producer_name="excerpt"
    )
    cut.graph.name = "excerpt"
    cut.graph.node.extend(nodes)
    made = {name for node in nodes for name in node.output}
    used = {name for node in nodes for name in reads(node)}
    small = [t for t in flat.graph.initializer if t.name in used and _is_small(t)]
    cut.graph.initializer.extend(small)
    known = {v.name: v for v in (*flat.graph.input, *flat.graph.value_info, *flat.graph.output)}
    types = {t.name: t for t in flat.graph.initializer}
    for name in sorted(used - made - {t.name for t in small}):
        cut.graph.input.append(known.get(name) or _declared(name, types.get(name)))
    last = made - {name for node in nodes for name in reads(node)}
    cut.graph.output.extend(
        known.get(n) or onnx.helper.make_empty_tensor_value_info(n) for n in sorted(last - {""})
    )
    return cut


def openable(proto: onnx.ModelProto, switch: str) -> onnx.ModelProto | None:
    """Return the model up to `switch`, with every value on the way to it as an output.

    None where `switch` is inside a body.
    """
    flat = flatten.flatten(proto)
    if switch not in Uses(flat.graph).producer_position:
        return None
    cut = upstream(flat, [switch])
    inner = [name for node in cut.graph.node for name in node.output if name and name != switch]
    cut.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in inner)
    return cut


def held(proto: onnx.ModelProto, switch: str, elem_type: int) -> onnx.ModelProto:
    """Return the model with `switch` as a further input.

    So the same image can be run with the gate open and with the gate closed.

    Args:
        proto: The model.
        switch: The value that decides.
        elem_type: Its `onnx.TensorProto.DataType`.
    """
    flat = copied(flatten.flatten(proto))
    for node in flat.graph.node:
        node.output[:] = [f"{name}_measured" if name == switch else name for name in node.output]
    flat.graph.input.append(onnx.helper.make_tensor_value_info(switch, elem_type, None))
    return flat


def _is_named(node: onnx.NodeProto, names: set[str]) -> bool:
    """Whether a node is on the path, itself or by something in its bodies."""
    own = label(node)
    return own in names or (
        bool(subgraphs(node)) and any(name.startswith(f"{own}/") for name in names)
    )


def _is_small(tensor: onnx.TensorProto) -> bool:
    return not tensor.external_data and math.prod(tensor.dims) <= _MOST_WEIGHTS


def _before(flat: onnx.ModelProto, decision: str) -> set[int]:
    """Return the nodes that a decision derives from, unless they are most of a network."""
    uses = Uses(flat.graph)
    places = uses.producer_position
    found = {places[name] for name in ancestors([decision], uses.sources) if name in places}
    return found if len(found) <= _MOST_NODES else set()


def _declared(name: str, tensor: onnx.TensorProto | None) -> onnx.ValueInfoProto:
    if tensor is None:
        return onnx.helper.make_empty_tensor_value_info(name)
    return onnx.helper.make_tensor_value_info(name, tensor.data_type, tensor.dims)


def element_type(array: np.ndarray[Any, Any]) -> int:
    """Return ONNX's number for an array's dtype."""
    return int(onnx.helper.np_dtype_to_tensor_dtype(array.dtype))
