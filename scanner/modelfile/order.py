"""The order of nodes: ONNX Runtime runs any that is no circle; analyses read front to back."""

import collections
from collections.abc import Iterator, Sequence

import onnx

from scanner.errors import MalformedModelError
from scanner.modelfile.nested import Body, subgraphs, walk


def sort_nodes(proto: onnx.ModelProto) -> bool:
    """Put the nodes of every graph behind what they read, in place; return whether any was not.

    A graph that is in order stays as it is. The order given to any other depends on its outputs
    alone, so that however a file was shuffled, the same graph is measured.
    """
    # Sorting copies nodes, and with them the graphs that `walk` goes on to: the inner ones are
    # sorted first.
    moved = [_sort(body) for body in reversed([*walk([proto.graph, *proto.functions])])]
    return any(moved)


def _sort(body: Body) -> bool:
    producer = {
        name: position for position, node in enumerate(body.node) for name in node.output if name
    }
    reads = [
        [
            producer[name]
            for name in names_read(node)
            if name in producer and producer[name] != position
        ]
        for position, node in enumerate(body.node)
    ]
    if all(before < position for position, own in enumerate(reads) for before in own):
        return False
    outputs = [v if isinstance(v, str) else v.name for v in body.output]
    # What leads to no output comes last, by the names of what it makes.
    idle = sorted(range(len(reads)), key=lambda position: list(body.node[position].output))
    roots = [producer[name] for name in outputs if name in producer]
    order = list(_in_order(reads, [*roots, *idle]))
    kept = onnx.GraphProto(node=[body.node[position] for position in order])
    del body.node[:]
    body.node.extend(kept.node)
    return True


def _in_order(reads: Sequence[Sequence[int]], roots: Sequence[int]) -> Iterator[int]:
    """Yield nodes depth first, each behind what it reads; what lies on a cycle comes as it may."""
    entered, done = set[int](), set[int]()
    for root in roots:
        stack = [root]
        while stack:
            node = stack[-1]
            if node in entered:
                stack.pop()
                if node not in done:
                    done.add(node)
                    yield node
                continue
            entered.add(node)
            stack += [before for before in reversed(reads[node]) if before not in entered]


def names_read(node: onnx.NodeProto) -> Iterator[str]:
    """Yield the names that a node reads; whatever its bodies read may come from outside them."""
    yield from node.input
    for graph in subgraphs(node):
        yield from (value.name for value in graph.output)
        for inner in graph.node:
            yield from names_read(inner)


def check_order(body: Body) -> None:
    """Reject a value that is produced twice or depends on itself.

    An input or a constant is produced before the first node.
    """
    nodes = body.node
    inputs = [v if isinstance(v, str) else v.name for v in body.input]
    given = {*inputs, *_constants_of(body)}
    if len(set(inputs)) < len(inputs):
        twice = next(name for name in inputs if inputs.count(name) > 1)
        raise MalformedModelError(
            f"the input {twice!r} is declared twice", remedy="export the model to ONNX again"
        )
    producer: dict[str, int] = {}
    for position, node in enumerate(nodes):
        for name in filter(None, node.output):
            if name in producer or name in given:
                raise MalformedModelError(
                    f"the value {name!r} is produced twice", remedy="export the model to ONNX again"
                )
            producer[name] = position
    reads = [{producer[name] for name in node.input if name in producer} for node in nodes]
    if all(before < position for position, own in enumerate(reads) for before in own):
        return
    if cyclic := _on_a_cycle(reads):
        raise MalformedModelError(
            f"the node {nodes[cyclic[0]].name!r} ({nodes[cyclic[0]].op_type}) depends on its own "
            "output",
            remedy="export the model to ONNX again",
        )


def _constants_of(body: Body) -> set[str]:
    """Return the names of a graph's constants; a function has none."""
    if isinstance(body, onnx.FunctionProto):
        return set()
    sparse = (tensor.values.name for tensor in body.sparse_initializer)
    return {*(tensor.name for tensor in body.initializer), *sparse}


def _on_a_cycle(inputs: Sequence[set[int]]) -> list[int]:
    """Return the nodes that can never run, given those each one waits for (Kahn's algorithm)."""
    waiting = [len(own) for own in inputs]
    followers = collections.defaultdict(list)
    for position, own in enumerate(inputs):
        for before in own:
            followers[before].append(position)
    ready = [position for position, count in enumerate(waiting) if not count]
    while ready:
        for after in followers[ready.pop()]:
            waiting[after] -= 1
            if not waiting[after]:
                ready.append(after)
    return [position for position, count in enumerate(waiting) if count]
