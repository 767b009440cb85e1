"""Files that can be read in several ways, each of them by some reader.

A scan is worth nothing where the reader who measured and the one who runs the file disagree on what
it says. What is listed here no exporter writes, and ONNX Runtime reads it in a way that the
standard does not promise.
"""

import collections
from collections.abc import Iterable

import onnx

from scanner.errors import UnsafeModelError

_REMEDY = (
    "export the model again; if you trust the file, the setting `lenient` has it measured as it is"
)


def check_readings(proto: onnx.ModelProto) -> None:
    """Refuse a parsed file of which two readers may see two models.

    Raises:
        UnsafeModelError: A Constant has several values, an attribute, an initialiser or a function
            is there twice.
    """
    _check_functions(proto.functions)
    waiting: list[onnx.GraphProto | onnx.FunctionProto] = [proto.graph, *proto.functions]
    while waiting:
        body = waiting.pop()
        if isinstance(body, onnx.GraphProto) and body.sparse_initializer:
            _check_sparse(body)
        for node in body.node:
            if len(node.attribute) > 1:
                _check_attributes(node)
            for attribute in node.attribute:
                if attribute.type == onnx.AttributeProto.GRAPH or attribute.HasField("g"):
                    waiting.append(attribute.g)
                waiting.extend(attribute.graphs)


def _check_functions(functions: Iterable[onnx.FunctionProto]) -> None:
    counts = collections.Counter((f.domain, f.name, f.overload) for f in functions)
    twice = next((key for key, count in counts.items() if count > 1), None)
    if twice is not None:
        raise _ambiguous(f"the function {twice[1]!r} of {twice[0]!r} is defined twice")


def _check_sparse(graph: onnx.GraphProto) -> None:
    dense = {tensor.name for tensor in graph.initializer}
    sparse = [tensor.values.name for tensor in graph.sparse_initializer]
    both = next((n for i, n in enumerate(sparse) if n in dense or n in sparse[:i]), None)
    if both is not None:
        raise _ambiguous(
            f"the name {both!r} stands for two initialisers, at least one of them sparse"
        )


def _check_attributes(node: onnx.NodeProto) -> None:
    place = f"the {node.op_type} node {node.name or list(node.output)!r}"
    if node.op_type == "Constant" and node.domain in ("", "ai.onnx"):
        names = ", ".join(repr(attribute.name) for attribute in node.attribute)
        raise _ambiguous(
            f"{place} has {len(node.attribute)} attributes ({names}), and readers differ on which "
            "of them is its value"
        )
    counts = collections.Counter(attribute.name for attribute in node.attribute)
    twice = next((name for name, count in counts.items() if count > 1), None)
    if twice is not None:
        raise _ambiguous(f"{place} has the attribute {twice!r} twice")


def _ambiguous(problem: str) -> UnsafeModelError:
    return UnsafeModelError(f"the file can be read in several ways: {problem}", remedy=_REMEDY)
