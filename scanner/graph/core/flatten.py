"""One flat graph: functions expanded, and each If with a constant condition replaced by its branch.

That the branch not taken is gone, and that functions are, lets every analysis look at one list of
nodes.
"""

import onnx
from onnx import inliner

from scanner.errors import MalformedModelError
from scanner.graph.core.conform import check_nodes
from scanner.graph.core.draft import copied
from scanner.graph.core.scopes import own_names, renamed_apart, with_defaults
from scanner.graph.core.structure import Uses, attribute


def flatten(proto: onnx.ModelProto) -> onnx.ModelProto:
    """Return the model with its functions expanded and its constant branches taken.

    Before: nothing is assumed of the model but that how far its functions expand was checked when
    its file was opened (`scanner.modelfile.guards`).
    After: there are no model-local functions, no If with a constant condition, and each node of a
    standard operator has the inputs, attributes and bodies that the operator asks for. A model of
    which all this holds is returned itself.

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
    flat = copied(proto)
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

    Its initialisers join `graph`. ONNX forbids a body to reuse a name of the graphs around it; ONNX
    Runtime permits it, and then means the inner one.
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
