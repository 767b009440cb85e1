"""Loops that run a known number of times, written out: what is in their bodies can be watched."""

from collections.abc import Iterator

import numpy as np
import onnx
from onnx import helper, numpy_helper

from scanner.graph.core.draft import copied
from scanner.graph.core.facts import Facts, infer
from scanner.graph.core.scopes import own_names, renamed_apart
from scanner.graph.core.structure import Uses, attribute, label
from scanner.modelfile.domains import STANDARD_DOMAINS

_MOST_TURNS = 32
_MOST_NODES = 4096
"""Nodes that are written out; bodies within bodies multiply."""
_MOST_BYTES = 64 << 20
"""Bytes that all turns of a loop may take: each has the body's weights once more."""
_LEAST_OPSET = 13  # from which on Unsqueeze takes its axes as an input
_BODIES = 4  # bodies within one another that are written out


def unrolled(proto: onnx.ModelProto) -> onnx.ModelProto:
    """Return a model without the loops whose number of turns is known, itself if there are none.

    Before: the model is flat (`scanner.graph.core.flatten`).
    After: it computes the same for a batch of the size that its input fixes, or of one image where
    that is open: a Scan over the images of a batch then has one turn.
    """
    opset = max((o.version for o in proto.opset_import if o.domain in STANDARD_DOMAINS), default=0)
    if opset < _LEAST_OPSET or not any(_is_loop(node) for node in proto.graph.node):
        return proto
    model = copied(proto)
    for _ in range(_BODIES):
        if not _unroll(model):
            break
    return model


def _is_loop(node: onnx.NodeProto) -> bool:
    return node.op_type in ("Loop", "Scan") and node.domain in STANDARD_DOMAINS


def _unroll(model: onnx.ModelProto) -> bool:
    """Write out the loops of a graph; return whether there was one."""
    uses, facts = Uses(model.graph), infer(model)
    taken = own_names(model.graph)
    nodes: list[onnx.NodeProto] = []
    found = False
    for node in model.graph.node:
        known = _is_loop(node) and _is_whole(node, attribute(node, "body"))
        turns = _turns(node, uses, facts, model.graph) if known else None
        body = attribute(node, "body") if turns is not None else None
        if (
            turns is None
            or body is None
            or turns * len(body.node) + len(nodes) > _MOST_NODES
            or turns * body.ByteSize() > _MOST_BYTES
        ):
            nodes.append(node)
            continue
        found = True
        nodes += _written_out(node, body, turns, model.graph, taken)
    kept = onnx.GraphProto(node=nodes)
    del model.graph.node[:]
    model.graph.node.extend(kept.node)
    return found


def _is_whole(node: onnx.NodeProto, body: onnx.GraphProto | None) -> bool:
    """Whether a loop gives its body what that takes, and takes all that it gives."""
    if body is None or len(body.input) != len(node.input):
        return False
    if node.op_type == "Loop":
        return len(node.input) > 1 and len(body.output) == 1 + len(node.output)
    count = int(attribute(node, "num_scan_inputs", 0))
    lists = [attribute(node, f"scan_input_{name}", []) for name in ("axes", "directions")]
    return (
        0 < count <= len(node.input)
        and len(body.output) == len(node.output)
        and all(len(each) in (0, count) for each in lists)
    )


def _turns(node: onnx.NodeProto, uses: Uses, facts: Facts, graph: onnx.GraphProto) -> int | None:
    """Return how often a loop runs, where that is known and not often."""
    turns = _of_loop(node, uses) if node.op_type == "Loop" else _of_scan(node, facts, graph)
    return turns if turns is not None and 0 < turns <= _MOST_TURNS else None


def _of_loop(node: onnx.NodeProto, uses: Uses) -> int | None:
    body = attribute(node, "body")
    most = uses.scalar(node.input[0]) if node.input[0] else None
    goes_on = uses.scalar(node.input[1]) if node.input[1] else 1.0
    if most is None or not goes_on or not body.output:
        return None
    inner, value = Uses(body), body.output[0].name
    while (maker := inner.producer(value)) is not None and maker.op_type == "Identity":
        value = maker.input[0]
    always = value == body.input[1].name or bool(inner.scalar(value))
    return int(most) if always and float(most).is_integer() else None


def _of_scan(node: onnx.NodeProto, facts: Facts, graph: onnx.GraphProto) -> int | None:
    count = int(attribute(node, "num_scan_inputs", 0))
    axes = list(attribute(node, "scan_input_axes", [])) or [0] * count
    outer = list(attribute(node, "scan_output_axes", []))
    if count < 1 or any(outer) or any(attribute(node, "scan_output_directions", [])):
        return None
    shape = facts.shapes.get(node.input[-count])
    if shape is None or not -len(shape) <= axes[0] < len(shape):
        return None
    size = shape[axes[0]]
    batch = graph.input[0].type.tensor_type.shape.dim[:1] if graph.input else []
    if isinstance(size, str):
        return 1 if batch and size and size == batch[0].dim_param else None
    return int(size)


def _written_out(
    node: onnx.NodeProto,
    body: onnx.GraphProto,
    turns: int,
    graph: onnx.GraphProto,
    taken: set[str],
) -> Iterator[onnx.NodeProto]:
    """Yield the nodes of all turns; their constants join the graph, their names those taken."""
    loop = node.op_type == "Loop"
    scanned = 0 if loop else int(attribute(node, "num_scan_inputs", 0))
    given = list(node.input[2:]) if loop else list(node.input)
    states = given[: len(given) - scanned]
    stacks: list[list[str]] = [[] for _ in node.output[len(states) :]]
    for turn in range(turns):
        stem = f"{node.output[0] or label(node)}/{turn}"
        inner = renamed_apart(_fresh(body, stem), taken, (), f"{stem}/")
        taken |= own_names(inner)
        graph.initializer.extend(inner.initializer)
        graph.sparse_initializer.extend(inner.sparse_initializer)
        bound = [*states]
        if loop:
            bound = [_held(graph, f"{stem}:turn", np.array(turn)),
                     _held(graph, f"{stem}:going", np.array(True)), *bound]  # fmt: skip
        for value, source in zip(inner.input, bound, strict=False):
            yield helper.make_node("Identity", [source], [value.name])
        yield from _slices(node, inner, (turn, turns), graph)
        for each in inner.node:
            name = f"{label(node)}/{label(each)}"
            # ONNX Runtime wants no name twice: the first turn's nodes have that of the body's.
            each.name = name if turn == 0 else f"{name}:{turn}"
            yield each
        made = [value.name for value in inner.output][1 if loop else 0 :]
        states, parts = made[: len(states)], made[len(states) :]
        for stack, part in zip(stacks, parts, strict=True):
            rows = f"{part}:row"
            axes = _held(graph, f"{rows}:axes", np.array([0]))
            yield helper.make_node("Unsqueeze", [part, axes], [rows])
            stack.append(rows)
    for source, output in zip(states, node.output, strict=False):
        if output:
            yield helper.make_node("Identity", [source], [output])
    for stack, output in zip(stacks, node.output[len(states) :], strict=True):
        if output:
            yield helper.make_node("Concat", stack, [output], axis=0)


def _fresh(body: onnx.GraphProto, stem: str) -> onnx.GraphProto:
    """Return a copy of a body whose outputs are all made by its nodes."""
    copy = onnx.GraphProto()
    copy.CopyFrom(body)
    made = {name for node in copy.node for name in node.output}
    for place, value in enumerate(copy.output):
        if value.name not in made or value.name in [v.name for v in copy.output[:place]]:
            name = f"{stem}/out{place}"
            copy.node.append(helper.make_node("Identity", [value.name], [name]))
            value.name = name
    return copy


def _slices(
    node: onnx.NodeProto, inner: onnx.GraphProto, turn: tuple[int, int], graph: onnx.GraphProto
) -> Iterator[onnx.NodeProto]:
    """Yield what takes one turn's part, of so many, of each value that a Scan goes through."""
    count = int(attribute(node, "num_scan_inputs", 0)) if node.op_type == "Scan" else 0
    axes = list(attribute(node, "scan_input_axes", [])) or [0] * count
    back = list(attribute(node, "scan_input_directions", [])) or [0] * count
    for place in range(count):
        source = node.input[len(node.input) - count + place]
        target = inner.input[len(inner.input) - count + place].name
        at = turn[1] - 1 - turn[0] if back[place] else turn[0]
        name = _held(graph, f"{target}:place", np.array(at))
        yield helper.make_node("Gather", [source, name], [target], axis=axes[place])


def _held(graph: onnx.GraphProto, name: str, number: np.ndarray) -> str:
    graph.initializer.append(numpy_helper.from_array(number, name))
    return name
