"""The part of a graph that a value depends on."""

from collections.abc import Collection

import onnx

from scanner.errors import ValueNotFoundError
from scanner.graph.core.structure import Uses, reads
from scanner.modelfile.model import required_inputs

_FREE_INITIALISERS = 4
"""Before this IR version an initialiser had to be an input too, and shape inference does not see one that is not."""


def upstream(proto: onnx.ModelProto, values: Collection[str]) -> onnx.ModelProto:
    """Return the model cut off behind `values`, which become its outputs, without type or shape.

    ONNX Runtime infers the types, right for float16 and integers too; the checker would refuse the
    result.

    Raises:
        ValueNotFoundError: A value is not in the graph.
    """
    uses = Uses(proto.graph)
    positions, names = _ancestors(values, uses)
    known = names & (set(uses.constants) | {v.name for v in proto.graph.input})
    missing = next((v for v in values if v not in uses.producer_position and v not in known), None)
    if missing is not None:
        raise ValueNotFoundError(missing, uses.producer_position)
    version = max(proto.ir_version, _FREE_INITIALISERS)
    cut = onnx.ModelProto(
        ir_version=version, opset_import=proto.opset_import, functions=proto.functions
    )
    cut.graph.name = proto.graph.name or "graph"
    cut.graph.node.extend(proto.graph.node[position] for position in sorted(positions))
    cut.graph.initializer.extend(t for t in proto.graph.initializer if t.name in names)
    cut.graph.sparse_initializer.extend(
        t for t in proto.graph.sparse_initializer if t.values.name in names
    )
    cut.graph.quantization_annotation.extend(
        q for q in proto.graph.quantization_annotation if q.tensor_name in names
    )
    cut.graph.input.extend(v for v in required_inputs(proto.graph) if v.name in names)
    cut.graph.output.extend(onnx.helper.make_empty_tensor_value_info(value) for value in values)
    return cut


def between(
    proto: onnx.ModelProto, source: onnx.ValueInfoProto, values: Collection[str]
) -> onnx.ModelProto:
    """Return the part of the model that computes `values` from the inner value `source`, which becomes an input.

    Args:
        proto: The model.
        source: Name, element type and shape of the value to feed.
        values: The values to compute.

    Raises:
        ValueNotFoundError: A value is not in the graph.
    """
    opened = onnx.ModelProto()
    opened.CopyFrom(proto)
    for node in opened.graph.node:
        for index, name in enumerate(node.output):
            if name == source.name:
                node.output[index] = f"{name}/as it was computed"
    opened.graph.input.append(source)
    return upstream(opened, values)


def dependent(graph: onnx.GraphProto) -> set[str]:
    """Return the values that depend on a required input."""
    found = {value.name for value in required_inputs(graph)}
    for node in graph.node:
        if found & reads(node):
            found |= set(node.output)
    return found - {""}


def _ancestors(values: Collection[str], uses: Uses) -> tuple[set[int], set[str]]:
    positions: set[int] = set()
    names: set[str] = set()
    waiting = list(values)
    while waiting:
        name = waiting.pop()
        if name in names:
            continue
        names.add(name)
        position = uses.producer_position.get(name)
        if position is not None and position not in positions:
            positions.add(position)
            waiting.extend(reads(uses.graph.node[position]))
    return positions, names
