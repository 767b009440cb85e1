"""The part of a graph that a value depends on."""

from collections.abc import Collection

import onnx

from scanner.errors import ValueNotFoundError
from scanner.graph.core.ancestors import ancestors
from scanner.graph.core.draft import Draft, copied
from scanner.graph.core.structure import Uses, reads
from scanner.modelfile.model import required_inputs
from scanner.modelfile.skeleton import FREE_INITIALISERS


def upstream(proto: onnx.ModelProto, values: Collection[str]) -> Draft:
    """Return the model cut off behind `values`, which become its outputs.

    Before: nodes are in topological order.
    After: the outputs are `values`, in order, without type or shape, which ONNX Runtime infers,
    right for float16 and integers too (the checker would refuse the result). No node, initialiser
    or input is left on which they do not depend, and no initialiser is an input.

    Raises:
        ValueNotFoundError: A value is not in the graph.
    """
    uses = Uses(proto.graph)
    names = ancestors(values, uses.sources).keys()
    positions = {uses.producer_position[name] for name in names if name in uses.producer_position}
    known = names & (set(uses.constants) | {v.name for v in proto.graph.input})
    missing = next((v for v in values if v not in uses.producer_position and v not in known), None)
    if missing is not None:
        raise ValueNotFoundError(missing, uses.producer_position)
    version = max(proto.ir_version, FREE_INITIALISERS)
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
    return Draft(cut)


def between(proto: onnx.ModelProto, source: onnx.ValueInfoProto, values: Collection[str]) -> Draft:
    """Return the part of the model that computes `values` from an inner value.

    Before: as for `upstream`.
    After: as for `upstream`; `source` is an input, whatever computed it before.

    Args:
        proto: The model.
        source: Name, element type and shape of the value to feed.
        values: The values to compute.

    Raises:
        ValueNotFoundError: A value is not in the graph.
    """
    opened = copied(proto)
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
