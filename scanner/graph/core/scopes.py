"""Names and defaults where one graph is put into another."""

from collections.abc import Collection, Mapping

import onnx

from scanner.graph.core.structure import captures, subgraphs


def own_names(graph: onnx.GraphProto) -> set[str]:
    """Return the names of a graph's inputs, initialisers and what its nodes make."""
    names = {value.name for value in graph.input} | {t.name for t in graph.initializer}
    names |= {tensor.values.name for tensor in graph.sparse_initializer}
    return (names | {name for node in graph.node for name in node.output}) - {""}


def renamed_apart(
    body: onnx.GraphProto, taken: Collection[str], named: Collection[str], prefix: str
) -> onnx.GraphProto:
    """Return a body none of whose own names is taken; itself where that is so.

    Args:
        body: A branch.
        taken: Names of values of the graph that it is to become part of.
        named: Names of nodes of that graph; a node whose name is taken loses it.
        prefix: Put before a name that is taken, as often as needed.
    """
    own = own_names(body)
    clashes = own & set(taken)
    nameless = {node.name for node in body.node} & set(named) - {""}
    if not clashes and not nameless:
        return body
    used = own | set(taken) | captures(body)
    names = {}
    for name in sorted(clashes):
        fresh = f"{prefix}{name}"
        while fresh in used:
            fresh = f"{prefix}{fresh}"
        names[name] = fresh
        used.add(fresh)
    renamed = onnx.GraphProto()
    renamed.CopyFrom(body)
    for tensor in renamed.initializer:
        tensor.name = names.get(tensor.name, tensor.name)
    for sparse in renamed.sparse_initializer:
        sparse.values.name = names.get(sparse.values.name, sparse.values.name)
    for value in (*renamed.input, *renamed.value_info):
        value.name = names.get(value.name, value.name)
    _rename(renamed, names)
    for node in renamed.node:
        node.name = "" if node.name in nameless else node.name
    return renamed


def _rename(graph: onnx.GraphProto, names: Mapping[str, str]) -> None:
    """Rename what the nodes of a graph read and make, and what their bodies capture."""
    for value in graph.output:
        value.name = names.get(value.name, value.name)
    for node in graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
        for body in subgraphs(node):
            hidden = own_names(body)
            _rename(body, {old: new for old, new in names.items() if old not in hidden})


def with_defaults(proto: onnx.ModelProto) -> onnx.ModelProto:
    """Return the model, each call of a function given the defaults that it leaves out.

    onnx's inliner knows no defaults (`FunctionProto.attribute_proto`): it would leave the attribute
    out, and then the operator's own default counts.
    """
    defaults = {
        (f.domain, f.name, f.overload): list(f.attribute_proto)
        for f in proto.functions
        if f.attribute_proto
    }
    if not defaults:
        return proto
    filled = onnx.ModelProto()
    filled.CopyFrom(proto)
    waiting: list[onnx.GraphProto | onnx.FunctionProto] = [filled.graph, *filled.functions]
    while waiting:
        for node in waiting.pop().node:
            given = {attribute.name for attribute in node.attribute}
            own = defaults.get((node.domain, node.op_type, node.overload), [])
            node.attribute.extend(default for default in own if default.name not in given)
            waiting += subgraphs(node)
    return filled
