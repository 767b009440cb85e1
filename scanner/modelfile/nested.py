"""Graphs within graphs: the bodies of control flow, however deep."""

from collections.abc import Iterable, Iterator

import onnx

from scanner.errors import UnsafeModelError

Body = onnx.GraphProto | onnx.FunctionProto
"""What has nodes."""


def subgraphs(node: onnx.NodeProto) -> list[onnx.GraphProto]:
    """Return the graphs that a node holds as attributes: the bodies of an If, Loop or Scan."""
    return [
        graph
        for attribute in node.attribute
        for graph in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs)
    ]


def walk(roots: Iterable[Body], deepest: int | None = None) -> Iterator[Body]:
    """Yield graphs and all graphs nested in them, each before its own, the last root first.

    Args:
        roots: Where to start: graphs, or bodies of model-local functions.
        deepest: How deep they may nest; None sets no limit.

    Raises:
        UnsafeModelError: They nest deeper.
    """
    waiting = [(root, 0) for root in roots]
    while waiting:
        graph, depth = waiting.pop()
        if deepest is not None and depth > deepest:
            raise UnsafeModelError(
                f"sub-graphs nest deeper than {deepest}",
                remedy="raise the setting `depth` if you trust the file",
            )
        yield graph
        waiting += [(inner, depth + 1) for node in graph.node for inner in subgraphs(node)]
