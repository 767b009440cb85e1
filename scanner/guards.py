"""Limits on hostile input, checked on the parsed file before ONNX Runtime sees it."""

import dataclasses
from collections.abc import Iterator

import onnx

from scanner.errors import MalformedModelError, UnsafeModelError


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a model may ask of this machine.

    Attributes:
        nodes: Graph nodes, sub-graphs and function bodies included.
        depth: Nesting of sub-graphs.
        inlined_nodes: Nodes after every model-local function is expanded.
    """

    nodes: int = 200_000
    depth: int = 32
    inlined_nodes: int = 200_000


def check_structure(proto: onnx.ModelProto, limits: Limits) -> None:
    """Refuse a graph that is malformed or larger than the limits.

    Raises:
        MalformedModelError: There is no graph, or a value is produced twice.
        UnsafeModelError: A limit is exceeded.
    """
    if not proto.graph.node or not proto.graph.output:
        raise MalformedModelError("the file holds no ONNX graph", remedy="export the model to ONNX again")
    count = 0
    for graph, depth in _graphs(proto.graph, 0):
        if depth > limits.depth:
            raise UnsafeModelError(
                f"sub-graphs nest deeper than {limits.depth}", remedy="raise --max-depth if you trust the file"
            )
        count += len(graph.node)
        _check_single_assignment(graph)
    count += sum(len(function.node) for function in proto.functions)
    if count > limits.nodes:
        raise UnsafeModelError(
            f"the graph has {count} nodes, more than {limits.nodes}", remedy="raise --max-nodes if you trust the file"
        )


def _graphs(graph: onnx.GraphProto, depth: int) -> Iterator[tuple[onnx.GraphProto, int]]:
    yield graph, depth
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                yield from _graphs(attribute.g, depth + 1)


def _check_single_assignment(graph: onnx.GraphProto) -> None:
    seen: set[str] = set()
    for node in graph.node:
        for name in node.output:
            if name and name in seen:
                raise MalformedModelError(
                    f"the value {name!r} is produced twice", remedy="export the model to ONNX again"
                )
            seen.add(name)
