"""Who makes and who uses each value of a graph."""

import collections
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper
from onnx.external_data_helper import uses_external_data

from scanner.errors import MalformedModelError
from scanner.modelfile import held, nested, tensor_sizes

LAYERS = frozenset({"Conv", "Gemm", "MatMul"})
"""Operators of ONNX that hold a layer's weights."""

_LOWEST_CODE: dict[int, int] = {
    onnx.TensorProto.UINT8: 0,
    onnx.TensorProto.INT8: -128,
    onnx.TensorProto.UINT16: 0,
}


def attribute(node: onnx.NodeProto, name: str, default: Any = None) -> Any:
    """Return the value of a node's attribute, or `default`.

    What the caller of a function gives has no value in the function's body. One of another kind
    than a default that is given counts as missing: no runtime takes it.
    """
    found = next((a for a in node.attribute if a.name == name and not a.ref_attr_name), None)
    if found is None:
        return default
    value = onnx.helper.get_attribute_value(found)
    return value if default is None or _kind(value) is _kind(default) else default


_KINDS = ((int, float), (bytes, str), (list, tuple, range))


def _kind(value: Any) -> Any:
    """Return what kind of value an attribute holds: a number, a text, a list, or a message."""
    return next((kinds for kinds in _KINDS if isinstance(value, kinds)), type(value))


def integers(node: onnx.NodeProto, name: str, absent: list[int] | None = None) -> list[int] | None:
    """Return an attribute that is a list of integers, or `absent`; None where it is another."""
    found = next((a for a in node.attribute if a.name == name and not a.ref_attr_name), None)
    if found is None:
        return absent
    return list(found.ints) if found.type == onnx.AttributeProto.INTS else None


def fractions(node: onnx.NodeProto, name: str) -> list[float]:
    """Return an attribute that is a list of floats; an empty one where it is missing or another."""
    found = (a for a in node.attribute if a.name == name and a.type == onnx.AttributeProto.FLOATS)
    return [number for held in found for number in held.floats]


def texts(node: onnx.NodeProto, name: str) -> list[str]:
    """Return an attribute that is a list of texts; an empty one where it is missing or another."""
    found = (a for a in node.attribute if a.name == name and a.type == onnx.AttributeProto.STRINGS)
    return [text.decode("utf-8", "replace") for held in found for text in held.strings]


def held_tensor(node: onnx.NodeProto, name: str) -> onnx.TensorProto | None:
    """Return an attribute that is a tensor; None where it is missing or another."""
    value = attribute(node, name)
    return value if isinstance(value, onnx.TensorProto) else None


subgraphs = nested.subgraphs  # under this name too, for the graph code


def reads(node: onnx.NodeProto) -> set[str]:
    """Return the outer values that a node reads, those that its bodies capture included."""
    names = set(node.input)
    for body in subgraphs(node):
        names |= captures(body)
    return names - {""}


def captures(graph: onnx.GraphProto) -> set[str]:
    """Return the names that a body reads from the graphs around it."""
    own = {v.name for v in graph.input} | {t.name for t in graph.initializer}
    own |= {t.values.name for t in graph.sparse_initializer}
    free: set[str] = set()
    for node in graph.node:
        free |= reads(node) - own
        own |= set(node.output)
    return free | ({v.name for v in graph.output} - own)


def is_lowest_code(zero_point: onnx.TensorProto) -> bool:
    """Whether a quantised type's lowest code stands for zero, so that no code is negative."""
    lowest = _LOWEST_CODE.get(zero_point.data_type)
    if lowest is None or uses_external_data(zero_point):
        return False
    return bool((numpy_helper.to_array(zero_point) == lowest).all())


def numbers_of(tensor: onnx.TensorProto) -> np.ndarray[Any, Any]:
    """Return the numbers of a tensor, those that are held outside the graph as well.

    Raises:
        MalformedModelError: It does not hold what its shape and type say.
    """
    outside = held.numbers_of(tensor)
    if outside is not None:
        return outside
    try:
        return numpy_helper.to_array(tensor)
    except (LookupError, TypeError, ValueError) as error:
        raise MalformedModelError(
            f"the tensor {tensor.name!r} does not hold what its shape and type say",
            remedy="export the model to ONNX again",
        ) from error


def label(node: onnx.NodeProto, scope: str = "") -> str:
    """Return the name by which a person finds a node: its own, else operator and first output."""
    own = node.name or f"{node.op_type}({next(iter(node.output), '')})"
    return f"{scope}/{own}" if scope else own


class Uses:
    """An index of a graph: producers, consumers and constants by value name."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self.graph = graph
        self.outputs = {v.name for v in graph.output}
        self.producer_position: dict[str, int] = {}
        self.consumers: dict[str, list[onnx.NodeProto]] = collections.defaultdict(list)
        self.constants: dict[str, onnx.TensorProto] = {t.name: t for t in graph.initializer}
        for position, node in enumerate(graph.node):
            for name in node.output:
                self.producer_position[name] = position
            for name in reads(node):
                self.consumers[name].append(node)
            value = held_tensor(node, "value") if node.op_type == "Constant" else None
            if value is not None and node.output:
                self.constants[node.output[0]] = value

    def producer(self, value: str) -> onnx.NodeProto | None:
        """Return the node that makes a value, or None for an input, an initialiser or no value.

        An input that is left out and an output that is not wanted both have the empty name.
        """
        position = self.producer_position.get(value) if value else None
        return None if position is None else self.graph.node[position]

    def sources(self, value: str) -> set[str]:
        """Return what the node that makes a value reads; nothing for an input or initialiser."""
        node = self.producer(value)
        return set() if node is None else reads(node)

    def only_consumer(self, value: str) -> onnx.NodeProto | None:
        """Return the node that alone uses a value.

        None where several do, or where the value is an output of the graph.
        """
        users = self.consumers.get(value, [])
        return users[0] if len(users) == 1 and value not in self.outputs else None

    def scalar(self, value: str) -> float | None:
        """Return a constant of one element, or None."""
        return tensor_sizes.scalar(self.constants.get(value))
