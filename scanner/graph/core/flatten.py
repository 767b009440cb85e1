"""One flat graph: model-local functions expanded, If nodes with a constant condition replaced by the branch taken."""

import onnx
from onnx import inliner

from scanner.errors import MalformedModelError
from scanner.graph.core.conform import check_nodes
from scanner.graph.core.scopes import own_names, renamed_apart, with_defaults
from scanner.graph.core.structure import Uses, attribute


def flatten(proto: onnx.ModelProto) -> onnx.ModelProto:
    """Return the model with its functions expanded and its constant branches taken; itself where there are none.

    How far functions expand was counted when the file was opened (`scanner.modelfile.guards`).
    Nodes are looked at first, so that whoever reads the graph may rely on their inputs and
    attributes.

    Raises:
        MalformedModelError: A node lacks what its operator asks for, or a function cannot be
            expanded.
    """
    check_nodes(proto)
    if proto.functions:
        try:
            proto = inliner.inline_local_functions(with_defaults(proto))
        except (onnx.checker.ValidationError, RuntimeError) as error:
            raise MalformedModelError(
                f"the model's functions cannot be expanded ({str(error).splitlines()[0]})",
                remedy="export the model without model-local functions",
            ) from error
    return _take_constant_branches(proto)


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
    around = own_names(proto.graph)
    named = {node.name for node in proto.graph.node}
    del flat.graph.node[:]
    for position, node in enumerate(proto.graph.node):
        flat.graph.node.extend(
            _spliced(node, taken[position], flat.graph, around, named)
            if position in taken
            else [node]
        )
    return _take_constant_branches(flat)


def _branch(node: onnx.NodeProto, condition: float) -> onnx.GraphProto:
    body: onnx.GraphProto = attribute(node, "then_branch" if condition else "else_branch")
    return body


def _spliced(
    node: onnx.NodeProto,
    body: onnx.GraphProto,
    graph: onnx.GraphProto,
    around: set[str],
    named: set[str],
) -> list[onnx.NodeProto]:
    """Return a branch's nodes under the names that the If node gives its outputs.

    ONNX forbids a body to reuse a name of the graphs around it; ONNX Runtime does not mind, and
    then means the inner one.
    """
    body = renamed_apart(body, around, named, f"{node.output[0]}/")
    around |= own_names(body)
    named |= {inner.name for inner in body.node}
    graph.initializer.extend(body.initializer)
    graph.sparse_initializer.extend(body.sparse_initializer)
    renames = [
        onnx.helper.make_node("Identity", [inner.name], [outer])
        for inner, outer in zip(body.output, node.output, strict=True)
        if outer
    ]
    return [*body.node, *renames]
