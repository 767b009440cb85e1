"""One flat graph: model-local functions expanded, If nodes with a constant condition replaced by the branch taken."""

import onnx
from onnx import inliner

from scanner.errors import MalformedModelError, UnsafeModelError
from scanner.graph.structure import Uses, attribute, subgraphs


def flatten(proto: onnx.ModelProto, budget: int = 200_000) -> onnx.ModelProto:
    """Return the model with its functions expanded and its constant branches taken; itself where there are none.

    Args:
        proto: The model.
        budget: Most nodes that the expansion may reach, counted before anything is expanded.

    Raises:
        UnsafeModelError: The functions expand past the budget, or call themselves.
    """
    if proto.functions:
        _check_expansion(proto, budget)
        try:
            proto = inliner.inline_local_functions(proto)
        except (onnx.checker.ValidationError, RuntimeError) as error:
            raise MalformedModelError(
                f"the model's functions cannot be expanded ({str(error).splitlines()[0]})",
                remedy="export the model without model-local functions",
            ) from error
    return _take_constant_branches(proto)


def _check_expansion(proto: onnx.ModelProto, budget: int) -> None:
    sizes: dict[tuple[str, str], int] = {}
    bodies = {(f.domain, f.name): f for f in proto.functions}

    def size(nodes: list[onnx.NodeProto], calling: tuple[tuple[str, str], ...]) -> int:
        total = 0
        for node in nodes:
            key = (node.domain, node.op_type)
            if key in calling:
                raise UnsafeModelError(f"the function {node.op_type!r} calls itself", remedy="do not run this file")
            if key in bodies and key not in sizes:
                sizes[key] = size(list(bodies[key].node), (*calling, key))
            total += sizes.get(key, 1) + sum(size(list(body.node), calling) for body in subgraphs(node))
        return total

    expanded = size(list(proto.graph.node), ())
    if expanded > budget:
        raise UnsafeModelError(
            f"the model's functions expand to {expanded} nodes, more than {budget}",
            remedy="raise --max-nodes if you trust the file",
        )


def _take_constant_branches(proto: onnx.ModelProto) -> onnx.ModelProto:
    uses = Uses(proto.graph)
    taken = {
        position: _branch(node, value)
        for position, node in enumerate(proto.graph.node)
        if node.op_type == "If" and (value := uses.scalar(node.input[0])) is not None
    }
    if not taken:
        return proto
    flat = onnx.ModelProto()
    flat.CopyFrom(proto)
    del flat.graph.node[:]
    for position, node in enumerate(proto.graph.node):
        flat.graph.node.extend(_spliced(node, taken[position], flat.graph) if position in taken else [node])
    return _take_constant_branches(flat)


def _branch(node: onnx.NodeProto, condition: float) -> onnx.GraphProto:
    body: onnx.GraphProto = attribute(node, "then_branch" if condition else "else_branch")
    return body


def _spliced(node: onnx.NodeProto, body: onnx.GraphProto, graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    """Return a branch's nodes under the names that the If node gives its outputs.

    ONNX forbids a body to reuse a name of the graphs around it, so only the two branches of one If may clash, and only
    one of them is taken.
    """
    graph.initializer.extend(body.initializer)
    graph.sparse_initializer.extend(body.sparse_initializer)
    renames = [
        onnx.helper.make_node("Identity", [inner.name], [outer])
        for inner, outer in zip(body.output, node.output, strict=True)
        if outer
    ]
    return [*body.node, *renames]
