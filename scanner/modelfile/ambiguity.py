"""Files that can be read in several ways, each of them by some reader.

A scan is worthless if the reader that measures a file and the one that runs it disagree on what it
says. No exporter writes what is listed here, and the standard does not promise how ONNX Runtime
reads it.
"""

import collections
from collections.abc import Iterable

import onnx

from scanner.errors import UnsafeModelError
from scanner.modelfile.domains import STANDARD_DOMAINS, canonical
from scanner.modelfile.nested import walk
from scanner.modelfile.tensor_sizes import tensors

_KEYS = frozenset({"location", "offset", "length", "checksum", "basepath"})
_REMEDY = "export the model again, or choose the setting `lenient` if you trust the file"


def check_readings(proto: onnx.ModelProto) -> None:
    """Refuse a parsed file in which two readers may see two models.

    Raises:
        UnsafeModelError: A Constant has several values, an attribute, an initialiser or a function
            is given twice, the operators of a domain are imported in two versions, or external data
            is referred to under a key that is not of the standard.
    """
    _check_opsets(proto.opset_import)
    _check_references(tensors(proto))
    _check_functions(proto.functions)
    for function in proto.functions:
        _check_opsets(function.opset_import)
    for body in walk([proto.graph, *proto.functions]):
        if isinstance(body, onnx.GraphProto) and body.sparse_initializer:
            _check_sparse(body)
        for node in body.node:
            if len(node.attribute) > 1:
                _check_attributes(node)


def _check_opsets(imports: Iterable[onnx.OperatorSetIdProto]) -> None:
    versions: dict[str, int] = {}
    for each in imports:
        domain = canonical(each.domain)
        if versions.setdefault(domain, each.version) != each.version:
            raise _ambiguous(
                f"two versions of the operators of {domain or 'ai.onnx'!r} are imported, "
                f"{versions[domain]} and {each.version}"
            )


def _check_references(held: Iterable[onnx.TensorProto]) -> None:
    """Refuse a key beside those of the standard: `prepacked_0` names weights in another form.

    ONNX Runtime 1.21 and later run these in place of the tensor's own; not all compare the two.
    """
    for tensor in held:
        unknown = next((e.key for e in tensor.external_data if e.key not in _KEYS), None)
        if unknown is not None:
            raise _ambiguous(
                f"the tensor {tensor.name!r} refers to external data under the key {unknown!r}, "
                "which is not of the standard"
            )


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
    if node.op_type == "Constant" and node.domain in STANDARD_DOMAINS:
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
