"""How many nodes a graph has once its functions are expanded, told without expanding them."""

from collections.abc import Iterable
from typing import NamedTuple

import onnx

from scanner.errors import UnsafeModelError
from scanner.limits import Limits
from scanner.modelfile.domains import canonical
from scanner.modelfile.nested import Contents, attribute_graphs, subgraphs
from scanner.modelfile.tensor_sizes import check_memory

# ONNX Runtime takes seconds to expand functions to this many nodes, and for twice as many more than
# twice as long. No exporter's functions multiply what is written like that.
_FEW_NODES, _MOST_COPIES = 10_000, 50


class _Expanded(NamedTuple):
    """What a list of nodes comes to once all functions in it are expanded.

    Attributes:
        nodes: How many they are.
        size: Bytes of all of them: each call copies the constants of the body.
        depth: How deep calls and bodies nest in them.
    """

    nodes: int
    size: int
    depth: int


_Key = tuple[str, str, str]


class Expansion:
    """A model's nodes once all functions are expanded, counted without expanding them."""

    def __init__(self, proto: onnx.ModelProto, limits: Limits) -> None:
        self._proto, self._limits = proto, limits
        self._bodies = {(canonical(f.domain), f.name, f.overload): f for f in proto.functions}
        self._known: dict[_Key, _Expanded] = {}

    def check(self) -> None:
        """Reject what is too many, too deep, too large, or too much beside what is written.

        Raises:
            UnsafeModelError: A limit is exceeded, or a function calls itself.
        """
        if not self._bodies:
            return
        count = self._expanded(self._proto.graph.node, (), 0).nodes
        # Functions that are never called count too: they are read all the same.
        for key in self._bodies:
            self._called(key, ())
        written = len(Contents(self._proto).of(onnx.NodeProto))
        if count > max(_FEW_NODES, _MOST_COPIES * written):
            raise UnsafeModelError(
                f"its functions make {count:,} nodes of {written:,}, which ONNX Runtime expands "
                "slowly",
                remedy="export the model without model-local functions",
            )

    def _expanded(
        self, nodes: Iterable[onnx.NodeProto], calling: tuple[_Key, ...], nesting: int
    ) -> _Expanded:
        self._compare_depth(len(calling) + nesting)
        count = size = depth = 0
        for node in nodes:
            key = (canonical(node.domain), node.op_type, node.overload)
            inner = [self._expanded(body.node, calling, nesting + 1) for body in subgraphs(node)]
            if key in self._bodies:
                inner.append(self._called(key, calling))
            else:
                count += 1
                size += node.ByteSize()
            count += sum(each.nodes for each in inner)
            size += sum(each.size for each in inner)
            depth = max(depth, *(1 + each.depth for each in inner), 0)
            check_nodes(count, self._limits)
            check_memory("the graph, its functions expanded,", size, self._limits)
        self._compare_depth(len(calling) + nesting + depth)
        return _Expanded(count, size, depth)

    def _called(self, key: _Key, calling: tuple[_Key, ...]) -> _Expanded:
        if key in calling:
            raise UnsafeModelError(
                f"the function {key[1]!r} calls itself", remedy="do not run this file"
            )
        if key not in self._known:
            function, inside = self._bodies[key], (*calling, key)
            parts = [self._expanded(function.node, inside, 0)]
            parts += [
                self._expanded(graph.node, inside, 1)
                for graph in attribute_graphs(function.attribute_proto)
            ]
            defaults = sum(attribute.ByteSize() for attribute in function.attribute_proto)
            self._known[key] = _Expanded(
                sum(part.nodes for part in parts),
                sum(part.size for part in parts) + defaults,
                max(part.depth for part in parts),
            )
        return self._known[key]

    def _compare_depth(self, depth: int) -> None:
        if depth > self._limits.depth:
            raise UnsafeModelError(
                f"functions call one another deeper than {self._limits.depth}",
                remedy="raise the setting `depth` if you trust the file",
            )


def check_nodes(nodes: int, limits: Limits) -> None:
    """Reject more nodes than the limit.

    Raises:
        UnsafeModelError: They are more.
    """
    if nodes > limits.nodes:
        raise UnsafeModelError(
            f"the graph has more than {limits.nodes:,} nodes, its functions expanded",
            remedy="raise the setting `nodes` if you trust the file",
        )
