"""One flat graph: functions and fused operators written out, constant branches taken.

That the branch not taken is gone, and that functions are, lets every analysis look at one list of
nodes.
"""

from collections.abc import Mapping

import onnx
from onnx import inliner

from scanner.errors import MalformedModelError
from scanner.graph.core.conform import check_nodes
from scanner.graph.core.draft import copied
from scanner.graph.core.fused import unfused
from scanner.graph.core.scopes import own_names, renamed_apart, with_defaults
from scanner.graph.core.structure import Uses, attribute
from scanner.modelfile import tensor_sizes
from scanner.modelfile.domains import STANDARD_DOMAINS


def flatten(proto: onnx.ModelProto) -> onnx.ModelProto:
    """Return the model with its functions expanded and its constant branches taken.

    What ONNX Runtime's optimisers have fused is several nodes again.

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
    return unfused(_take_constant_branches(proto))


def _take_constant_branches(proto: onnx.ModelProto) -> onnx.ModelProto:
    constants = dict(Uses(proto.graph).constants)
    if not any(_condition(node, constants) is not None for node in proto.graph.node):
        return proto
    flat = copied(proto)
    around = own_names(proto.graph)
    named = {node.name for node in proto.graph.node}
    del flat.graph.node[:]
    # Branches within branches are taken in one go: a copy for each level would cost the whole
    # model's size each time.
    kept: list[onnx.NodeProto] = []
    waiting = list(reversed(proto.graph.node))
    while waiting:
        node = waiting.pop()
        value = _condition(node, constants)
        if value is None:
            kept.append(node)
            continue
        body = renamed_apart(_branch(node, value), around, named, f"{node.output[0]}/")
        around |= own_names(body)
        named |= {inner.name for inner in body.node}
        constants |= Uses(body).constants
        waiting.extend(reversed(_spliced(node, body, flat.graph)))
    flat.graph.node.extend(kept)
    return flat


def _condition(node: onnx.NodeProto, constants: Mapping[str, onnx.TensorProto]) -> float | None:
    """Return an If's condition where it is constant."""
    if node.op_type != "If" or node.domain not in STANDARD_DOMAINS:
        return None
    return tensor_sizes.scalar(constants.get(node.input[0]))


def _branch(node: onnx.NodeProto, condition: float) -> onnx.GraphProto:
    body: onnx.GraphProto = attribute(node, "then_branch" if condition else "else_branch")
    return body


def _spliced(
    node: onnx.NodeProto, body: onnx.GraphProto, graph: onnx.GraphProto
) -> list[onnx.NodeProto]:
    """Return a branch's nodes under the names that the If node gives its outputs.

    Its initialisers join `graph`. ONNX forbids a body to reuse a name of the graphs around it; ONNX
    Runtime permits it, and then means the inner one: such names were changed before.
    """
    graph.initializer.extend(body.initializer)
    graph.sparse_initializer.extend(body.sparse_initializer)
    renames = [
        onnx.helper.make_node("Identity", [inner.name], [outer])
        for inner, outer in zip(body.output, node.output, strict=True)
        if outer and outer != inner.name  # a value that already has the name it is to get
    ]
    return [*body.node, *renames]
