"""A plain model file, read off the wire without onnx: an optimisation, never a second opinion.

Importing onnx takes longer than measuring a small model at its first layer, and parsing a large
file takes longer than looking at it. So a file that is regular in every respect is read here, and
its weights stay where they are. A file that is not what protobuf itself would write, byte for byte,
or has more in it than a plain network needs, is declined; then onnx reads it
(`scanner.modelfile.parser`), the only reader that explains what is wrong with a file.

The messages have the names and defaults that onnx gives them, so that the same code identifies the
file for both readers. benchmarks/scan.py holds what this saves: a scan takes less processor time
than importing and running the three libraries directly.

Source: onnx.proto of ONNX, IR version 13; the Protocol Buffers encoding specification.
"""

import math
import struct
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

from scanner.limits import Limits
from scanner.modelfile.wire_format import BYTES, FIXED32, VARINT, WireError, read_varint

# A file beyond these is not plain, and would be slow to read here. A file built to be slow thus
# costs a moment, not minutes.
_LONGEST = 4096  # entries of a repeated field
_LARGEST = 2**16  # bytes of one message, except files, graphs and tensors
_DESCRIPTION = 2**20  # bytes of a graph without the elements of its tensors
_DIMENSIONS = 64  # as in `scanner.modelfile.inference`, which imports onnx
_INT32, _INT64, _UINT64 = 2**31, 2**63, 2**64
_FLOAT, _INT, _STRING, _INTS = 1, 2, 3, 7  # AttributeProto.AttributeType
_VALUE_FIELDS = {_FLOAT: "f", _INT: "i", _STRING: "s", _INTS: "ints"}
# Bytes per element, by TensorProto.DataType: FLOAT, UINT8, INT8, INT32, INT64, BOOL, FLOAT16,
# DOUBLE.
_SIZES = {1: 4, 2: 1, 3: 1, 6: 4, 7: 8, 9: 1, 10: 2, 11: 8}
_OPSETS = range(9, 25)

_WINDOW = {
    "auto_pad": _STRING,
    "dilations": _INTS,
    "kernel_shape": _INTS,
    "pads": _INTS,
    "strides": _INTS,
}
_AXIS, _ALPHA = {"axis": _INT}, {"alpha": _FLOAT}
_MANY = 2**31 - 1  # onnx's word for any number
# What a plain node looks like, in every operator set of `_OPSETS`: its least and greatest numbers
# of inputs, the attributes that it may have with their types, and those that it must have.
_OPERATORS: Mapping[str, tuple[int, int, Mapping[str, int], frozenset[str]]] = {
    "Add": (2, 2, {}, frozenset()),
    "AveragePool": (
        1,
        1,
        _WINDOW | {"ceil_mode": _INT, "count_include_pad": _INT},
        frozenset({"kernel_shape"}),
    ),
    "BatchNormalization": (
        5,
        5,
        {"epsilon": _FLOAT, "momentum": _FLOAT, "training_mode": _INT},
        frozenset(),
    ),
    "Concat": (1, _MANY, _AXIS, frozenset({"axis"})),
    "Conv": (2, 3, _WINDOW | {"group": _INT}, frozenset()),
    "Flatten": (1, 1, _AXIS, frozenset()),
    "Gemm": (3, 3, {"alpha": _FLOAT, "beta": _FLOAT, "transA": _INT, "transB": _INT}, frozenset()),
    "GlobalAveragePool": (1, 1, {}, frozenset()),
    "Identity": (1, 1, {}, frozenset()),
    "LeakyRelu": (1, 1, _ALPHA, frozenset()),
    "LogSoftmax": (1, 1, _AXIS, frozenset()),
    "LRN": (1, 1, _ALPHA | {"beta": _FLOAT, "bias": _FLOAT, "size": _INT}, frozenset({"size"})),
    "MatMul": (2, 2, {}, frozenset()),
    "MaxPool": (
        1,
        1,
        _WINDOW | {"ceil_mode": _INT, "storage_order": _INT},
        frozenset({"kernel_shape"}),
    ),
    "Mul": (2, 2, {}, frozenset()),
    "Relu": (1, 1, {}, frozenset()),
    "Reshape": (2, 2, {"allowzero": _INT}, frozenset()),
    "Sigmoid": (1, 1, {}, frozenset()),
    "Softmax": (1, 1, _AXIS, frozenset()),
    "Sum": (1, _MANY, {}, frozenset()),
    "Transpose": (1, 1, {"perm": _INTS}, frozenset()),
}


class Irregular(ValueError):  # noqa: N818 - nothing is wrong: another reader reads the file
    """The file is not plain."""


class Message:
    """A message on the wire; its fields have onnx's names, and its class attributes the defaults.

    Args:
        data: Its bytes.

    Raises:
        Irregular: It is not what protobuf would write, or has a field that a plain model does not
            need.
        WireError: It is cut short.
        UnicodeDecodeError: A text is not UTF-8.
    """

    FIELDS: ClassVar[Mapping[int, tuple[str, Callable[[Any], Any], bool]]]
    LARGEST: ClassVar[float] = _LARGEST

    def __init__(self, data: memoryview) -> None:
        if len(data) > self.LARGEST:
            raise Irregular("large")
        self.data = data
        position = last = 0
        while position < len(data):
            tag, position = _varint(data, position)
            name, convert, repeated = self.FIELDS.get(tag) or _decline("an unknown field")
            if tag < last or (tag == last and not repeated):
                raise Irregular("fields out of order")
            content, position = _content(data, position, tag & 7)
            self._take(name, convert(content), repeated=repeated)
            last = tag

    def _take(self, name: str, content: Any, *, repeated: bool) -> None:
        if not repeated:
            self.__dict__[name] = content
            return
        contents = self.__dict__.setdefault(name, [])
        contents.append(content)
        if len(contents) > _LONGEST:
            raise Irregular("too many")

    def HasField(self, name: str) -> bool:  # noqa: N802 - protobuf's name
        """Whether the field is present."""
        return name in self.__dict__


def _decline(reason: str) -> Any:
    raise Irregular(reason)


def _varint(data: memoryview, position: int) -> tuple[int, int]:
    number, end = read_varint(data, position)
    if number >= _UINT64 or (end - position > 1 and data[end - 1] == 0):
        raise Irregular("a number that is longer than it need be")
    return number, end


def _content(data: memoryview, position: int, wire_type: int) -> tuple[Any, int]:
    if wire_type == VARINT:
        return _varint(data, position)
    size, position = _varint(data, position) if wire_type == BYTES else (4, position)
    if position + size > len(data):
        raise Irregular("cut short")
    return data[position : position + size], position + size


def _int64(number: int) -> int:
    return number - _UINT64 if number >= _INT64 else number


def _int32(number: int) -> int:
    return number if number < _INT32 else _decline("a wide number")


def _text(content: memoryview) -> str:
    return str(content, "utf-8")


def _float(content: memoryview) -> float:
    return float(struct.unpack("<f", content)[0])


def _number(
    number: int, name: str, convert: Callable[[Any], Any], *, repeated: bool = False
) -> Any:
    return {number << 3 | VARINT: (name, convert, repeated)}


def _bytes(number: int, name: str, convert: Callable[[Any], Any], *, repeated: bool = False) -> Any:
    return {number << 3 | BYTES: (name, convert, repeated)}


class Tensor(Message):
    """TensorProto, its elements as raw bytes in the file."""

    LARGEST = math.inf
    FIELDS = (
        _number(1, "dims", _int64, repeated=True)
        | _number(2, "data_type", _int32)
        | _bytes(8, "name", _text)
        | _bytes(9, "raw_data", memoryview)
        | _bytes(12, "doc_string", _text)
    )
    dims: Sequence[int] = ()
    data_type = 0
    name = ""
    raw_data = memoryview(b"")


class Attribute(Message):
    """AttributeProto of a number, a text or several whole numbers."""

    FIELDS = (
        _bytes(1, "name", _text)
        | {2 << 3 | FIXED32: ("f", _float, False)}
        | _number(3, "i", _int64)
        | _bytes(4, "s", bytes)
        | _number(8, "ints", _int64, repeated=True)
        | _bytes(13, "doc_string", _text)
        | _number(20, "type", _int32)
    )
    name, type = "", 0
    i = 0
    s = b""
    ints: Sequence[int] = ()


class Node(Message):
    """NodeProto."""

    FIELDS = (
        _bytes(1, "input", _text, repeated=True)
        | _bytes(2, "output", _text, repeated=True)
        | _bytes(3, "name", _text)
        | _bytes(4, "op_type", _text)
        | _bytes(5, "attribute", Attribute, repeated=True)
        | _bytes(6, "doc_string", _text)
        | _bytes(7, "domain", _text)
    )
    input: Sequence[str] = ()
    output: Sequence[str] = ()
    attribute: Sequence[Attribute] = ()
    name = op_type = domain = ""


class Dimension(Message):
    """TensorShapeProto.Dimension."""

    FIELDS = _number(1, "dim_value", _int64) | _bytes(2, "dim_param", _text)
    dim_value, dim_param = 0, ""


class Shape(Message):
    """TensorShapeProto."""

    FIELDS = _bytes(1, "dim", Dimension, repeated=True)
    dim: Sequence[Dimension] = ()


class TensorType(Message):
    """TypeProto.Tensor."""

    FIELDS = _number(1, "elem_type", _int32) | _bytes(2, "shape", Shape)
    elem_type = 0
    shape = Shape(memoryview(b""))


class Type(Message):
    """TypeProto of a tensor."""

    FIELDS = _bytes(1, "tensor_type", TensorType)
    tensor_type = TensorType(memoryview(b""))


class Value(Message):
    """ValueInfoProto."""

    FIELDS = _bytes(1, "name", _text) | _bytes(2, "type", Type) | _bytes(3, "doc_string", _text)
    name = ""
    type = Type(memoryview(b""))


class Graph(Message):
    """GraphProto."""

    LARGEST = math.inf
    FIELDS = (
        _bytes(1, "node", Node, repeated=True)
        | _bytes(2, "name", _text)
        | _bytes(5, "initializer", Tensor, repeated=True)
        | _bytes(10, "doc_string", _text)
        | _bytes(11, "input", Value, repeated=True)
        | _bytes(12, "output", Value, repeated=True)
        | _bytes(13, "value_info", Value, repeated=True)
    )
    node: Sequence[Node] = ()
    initializer: Sequence[Tensor] = ()
    input: Sequence[Value] = ()
    output: Sequence[Value] = ()
    value_info: Sequence[Value] = ()
    sparse_initializer: Sequence[Any] = ()
    name = ""
    _description = 0

    def _take(self, name: str, content: Any, *, repeated: bool) -> None:
        super()._take(name, content, repeated=repeated)
        if repeated:
            self._description += len(content.data) - len(getattr(content, "raw_data", b""))
        if self._description > _DESCRIPTION:
            raise Irregular("much to read")


class OperatorSet(Message):
    """OperatorSetIdProto."""

    FIELDS = _bytes(1, "domain", _text) | _number(2, "version", _int64)
    domain, version = "", 0


class Entry(Message):
    """StringStringEntryProto."""

    FIELDS = _bytes(1, "key", _text) | _bytes(2, "value", _text)


class File(Message):
    """ModelProto."""

    LARGEST = math.inf
    FIELDS = (
        _number(1, "ir_version", _int64)
        | _bytes(2, "producer_name", _text)
        | _bytes(3, "producer_version", _text)
        | _bytes(4, "domain", _text)
        | _number(5, "model_version", _int64)
        | _bytes(6, "doc_string", _text)
        | _bytes(7, "graph", Graph)
        | _bytes(8, "opset_import", OperatorSet, repeated=True)
        | _bytes(14, "metadata_props", Entry, repeated=True)
    )
    ir_version = 0
    producer_name = producer_version = ""
    graph = Graph(memoryview(b""))
    opset_import: Sequence[OperatorSet] = ()


def read(data: bytes, limits: Limits) -> File | None:
    """Return a plain model.

    None stands for bytes that are anything else, or that `scanner.modelfile.guards` might reject.
    """
    try:
        file = File(memoryview(data))
    except (Irregular, WireError, UnicodeDecodeError):
        return None
    return file if _is_plain(file) and _is_harmless(file.graph, limits) else None


def _is_plain(file: File) -> bool:
    graph = file.graph
    return (
        len(graph.node) > 0
        and len(graph.output) > 0
        and [opset.domain for opset in file.opset_import] == [""]
        and file.opset_import[0].version in _OPSETS
        and _names_are_distinct(graph)
        and all(map(_has_its_size, graph.initializer))
        and all(map(_is_used_as_defined, graph.node))
    )


def _is_harmless(graph: Graph, limits: Limits) -> bool:
    """Whether the guards accept a plain graph.

    As they do, this counts the nodes, follows their order and adds up what the inputs take.
    """
    # Within these, a plain file has fewer parts than its description has bytes.
    if limits.parts < _DESCRIPTION or len(graph.input) + len(graph.output) > limits.interface:
        return False
    seen: set[str] = set()
    made = {name for node in graph.node for name in node.output}
    for node in graph.node:
        if any(name in made and name not in seen for name in node.input):
            return False
        seen.update(node.output)
    kinds = [value.type.tensor_type for value in (*graph.input, *graph.output, *graph.value_info)]
    return (
        len(graph.node) <= limits.nodes
        and all(len(tensor.dims) <= _DIMENSIONS for tensor in graph.initializer)
        and all(len(kind.shape.dim) <= _DIMENSIONS for kind in kinds)
        and all(kind.elem_type in (0, *_SIZES) for kind in kinds)
        and not any(
            d.HasField("dim_value") and d.HasField("dim_param")
            for kind in kinds
            for d in kind.shape.dim
        )
        and all(lower_bound(value) <= limits.memory for value in graph.input)
    )


def lower_bound(value: Value) -> int:
    """Return the bytes that a value takes, counting an open dimension as 1."""
    kind = value.type.tensor_type
    return math.prod(d.dim_value for d in kind.shape.dim if d.dim_value > 0) * _SIZES.get(
        kind.elem_type, 1
    )


def _has_its_size(tensor: Tensor) -> bool:
    size = _SIZES.get(tensor.data_type)
    return (
        size is not None
        and min(tensor.dims, default=0) >= 0
        and tensor.HasField("raw_data")
        and math.prod(tensor.dims) * size == len(tensor.raw_data)
    )


def _names_are_distinct(graph: Graph) -> bool:
    made = [name for node in graph.node for name in node.output]
    names = [*(v.name for v in graph.input), *(t.name for t in graph.initializer), *made]
    return all(names) and len(set(names)) == len(names)


def _is_used_as_defined(node: Node) -> bool:
    least, most, declared, required = _OPERATORS.get(node.op_type, (0, 0, {}, frozenset()))
    names = [attribute.name for attribute in node.attribute]
    return (
        node.op_type in _OPERATORS
        and node.domain == ""
        and least <= len(node.input) <= most
        and len(node.output) == 1
        and len(set(names)) == len(names)
        and required <= set(names)
        and all(declared.get(a.name) == a.type and _holds_one_value(a) for a in node.attribute)
    )


def _holds_one_value(attribute: Attribute) -> bool:
    """Whether an attribute has the field that its type names, and no other.

    An empty list is not on the wire at all, so an attribute that holds one is not plain.
    """
    held = [field for field in _VALUE_FIELDS.values() if attribute.HasField(field)]
    return held == [_VALUE_FIELDS[attribute.type]]
