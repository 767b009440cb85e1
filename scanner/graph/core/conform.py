"""Whether nodes have the inputs, attributes and bodies that their operators ask for.

ONNX's checker refuses more than this, honest files among them, and copies the model. This much is
what analyses need in order to read a graph without checking at every step.
"""

import contextlib
import functools
from collections.abc import Iterable, Mapping

import onnx

from scanner.errors import MalformedModelError
from scanner.graph.core.structure import subgraphs
from scanner.modelfile.domains import STANDARD_DOMAINS

_BODIES = {"If": 2, "Loop": 1, "Scan": 1, "SequenceMap": 1}


def check_nodes(proto: onnx.ModelProto) -> None:
    """Refuse a model in which a standard operator is not used as its definition says.

    Raises:
        MalformedModelError: Inputs, outputs or bodies are missing or too many, or an attribute is
            of another type.
    """
    versions = {entry.domain: entry.version for entry in proto.opset_import}
    _check_references(proto.graph.node)
    _check(proto.graph.node, versions)
    for function in proto.functions:
        own = {entry.domain: entry.version for entry in function.opset_import}
        _check(function.node, versions | own)


def _check_references(nodes: Iterable[onnx.NodeProto]) -> None:
    """Refuse a reference to what the caller of a function gives, where there is no function."""
    for node in nodes:
        if any(attribute.ref_attr_name for attribute in node.attribute):
            raise MalformedModelError(
                f"the {node.op_type} node {node.name or list(node.output)!r} refers to an "
                "attribute of a function, and is in none",
                remedy="export the model to ONNX again",
            )
        for body in subgraphs(node):
            _check_references(body.node)


def _check(nodes: Iterable[onnx.NodeProto], versions: Mapping[str, int]) -> None:
    for node in nodes:
        if not node.output:
            raise MalformedModelError(
                f"the {node.op_type} node {node.name!r} has no output",
                remedy="export the model to ONNX again",
            )
        if node.domain in STANDARD_DOMAINS:
            version = max(versions.get(domain, 1) for domain in STANDARD_DOMAINS)
            problem = _bodies_problem(node) or _schema_problem(node, version)
            if problem:
                raise MalformedModelError(
                    f"the {node.op_type} node {node.name or list(node.output)!r} {problem}",
                    remedy="export the model to ONNX again",
                )
        for body in subgraphs(node):
            _check(body.node, versions)


def _schema_problem(node: onnx.NodeProto, version: int) -> str | None:
    schema = _schema(node.op_type, version)
    if schema is None:
        return None
    if len(node.input) < schema.min_input or len(node.output) < max(schema.min_output, 1):
        return "lacks inputs or outputs"
    if len(node.input) > schema.max_input or len(node.output) > schema.max_output:
        return "has inputs or outputs that its operator does not know"
    given = {attribute.name for attribute in node.attribute}
    missing = next(
        (name for name, a in schema.attributes.items() if a.required and name not in given), None
    )
    if missing or (node.op_type == "Constant" and not given):
        return f"lacks the attribute {missing or 'value'!r}"
    for attribute in node.attribute:
        declared = schema.attributes.get(attribute.name)
        # A reference stands for a value that the caller of a function gives.
        if declared is None or attribute.ref_attr_name:
            continue
        if attribute.type != declared.type.value:  # type: ignore[attr-defined]  # its stub is empty
            return f"has an attribute {attribute.name!r} of another type"
    return None


@functools.cache
def _schema(operator: str, version: int) -> onnx.defs.OpSchema | None:
    """Return an operator's definition; of one that came after the version, the newest.

    No runtime loads such a file, but analyses read it as any other.
    """
    for arguments in ((operator, version, ""), (operator, "")):
        with contextlib.suppress(onnx.defs.SchemaError):
            return onnx.defs.get_schema(*arguments)
    return None


def _bodies_problem(node: onnx.NodeProto) -> str | None:
    wanted = _BODIES.get(node.op_type)
    if wanted is None:
        return None
    bodies = subgraphs(node)
    if len(bodies) != wanted:
        return "lacks a body"
    results = {len(body.output) for body in bodies}
    extra = 1 if node.op_type == "Loop" else 0  # a Loop's body also gives whether to go on
    if results != {len(node.output) + extra}:
        return "does not have the outputs of its bodies"
    given = {len(node.input)}
    if node.op_type == "Scan":
        given.add(len(node.input) - 1)  # opset 8 puts the lengths of the sequences first
    if node.op_type == "Loop":
        given = {max(len(node.input), 2)}
    if node.op_type != "If" and len(bodies[0].input) not in given:
        return "does not have the inputs of its body"
    return None
