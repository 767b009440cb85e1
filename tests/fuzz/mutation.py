"""Mutants of ONNX files and of replies, made by the seed: the same seed, the same mutant.

A file is mutated in one of three ways: as bytes, which mostly ends at the parser; on the wire,
where fields are repeated, moved or of another wire type; and as messages, where onnx's own
descriptors say what may stand where, so that a version of onnx that adds a field is fuzzed the day
it is installed.
"""

import functools
import json
import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import onnx
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import DecodeError, Message

from scanner.modelfile.nested import repeated
from scanner.modelfile.wire_format import (
    BYTES,
    FIXED32,
    FIXED64,
    GROUP,
    GROUP_END,
    VARINT,
    WireError,
    read_field,
    write_varint,
)  # fmt: skip

NUMBERS = (
    0, 1, -1, 2, 3, 4, 7, 8, 16, 64, 127, 128, 255, 256, 65_535, 2**31 - 1, -(2**31), 2**31,
    2**32, 2**62, 2**63 - 1, -(2**63), 10**12,
)  # fmt: skip
FRACTIONS = (
    0.0,
    -0.0,
    1.0,
    -1.0,
    0.5,
    1e-45,
    1e-8,
    1e38,
    float("inf"),
    float("-inf"),
    float("nan"),
)
TEXTS = ("", "\x1b[2J", "a\0b", "../x", "x" * 300, "N", "ai.onnx", "ai.onnx.ml", "com.microsoft")
OPERATORS = (
    "Relu", "Conv", "Gemm", "MatMul", "Add", "Mul", "Sub", "Div", "Loop", "If", "Scan", "Reshape",
    "Expand", "Tile", "Pad", "Resize", "Concat", "Constant", "ConstantOfShape", "Gather", "Slice",
    "Where", "Cast", "Identity", "NonZero", "QLinearConv", "QuantizeLinear", "DequantizeLinear",
    "GlobalMaxPool", "MaxPool", "ReduceMax", "ReduceSum", "ReduceProd", "Einsum", "Split", "Clip",
    "Softmax", "BatchNormalization", "Sigmoid", "Transpose", "Unsqueeze", "Squeeze", "Shape",
    "Range", "TopK", "ScatterND", "Optional", "SequenceEmpty", "StringSplit", "Unknown", "",
)  # fmt: skip
ATTRIBUTES = (
    "axis", "axes", "pads", "to", "value", "value_int", "value_floats", "body", "then_branch",
    "else_branch", "perm", "alpha", "beta", "transB", "group", "kernel_shape", "strides",
    "keepdims", "num_scan_inputs", "mode", "equation", "epsilon", "block_size",
)  # fmt: skip
_BROKEN, _ON_THE_WIRE = 0.1, 0.3  # shares of mutants; the rest are changed as messages
_CHANGES = (1, 1, 1, 2, 2, 3, 5, 8)  # how many changes a mutant has
_DEEPEST = 12  # messages into which one change descends
_LONGEST = 64  # entries to which a change lengthens a repeated field
_BRANCHED = 0.02  # share of changed attributes that get a copy of the whole graph


def mutated(data: bytes, others: Sequence[bytes], seed: str | int) -> bytes:
    """Return a mutant of an ONNX file.

    Args:
        data: The file.
        others: Files whose parts may be mixed in.
        seed: Decides everything.
    """
    generator = random.Random(seed)
    way = generator.random()
    if way < _BROKEN:
        return _broken(data, others, generator)
    if way < _ON_THE_WIRE:
        return _rewired(data, generator)
    try:
        return _changed(_parsed(data), generator.choice(others or [data]), generator)
    except (DecodeError, ValueError):
        return _broken(data, others, generator)


def mutated_reply(data: bytes, others: Sequence[bytes], seed: str | int) -> bytes:
    """Return a mutant of a reply in JSON, changed as a tree; what is no JSON is broken as bytes."""
    generator = random.Random(seed)
    try:
        root = [json.loads(data)]
    except (ValueError, RecursionError):
        return _broken(data, others, generator)
    if generator.random() < _BROKEN:
        return _broken(data, others, generator)
    for _ in range(generator.choice(_CHANGES)):
        _change_tree(root, generator)
    return json.dumps(root[0]).encode()


def _broken(data: bytes, others: Sequence[bytes], generator: random.Random) -> bytes:
    """Change bytes without looking at what they mean."""
    result = bytearray(data)
    for _ in range(generator.choice(_CHANGES)):
        place = generator.randrange(len(result) or 1)
        length = generator.choice((1, 1, 2, 8, 64))
        change = generator.randrange(6)
        if change == 0 and result:
            result[place] ^= 1 << generator.randrange(8)
        elif change == 1:
            result[place : place + length] = generator.randbytes(length)
        elif change == 2:
            del result[place : place + length]
        elif change == 3:
            result[place:place] = result[place : place + length] * generator.choice((1, 2, 50))
        elif change == 4 and others:
            result[place:] = generator.choice(others)[place:]
        else:  # the largest number that protobuf can write
            result[place : place + 1] = b"\xff" * 9 + b"\x01"
    return bytes(result)


def _rewired(data: bytes, generator: random.Random, depth: int = 0) -> bytes:
    """Change the fields of one message on the wire, whatever the schema says of them."""
    fields = _fields(data)
    if not fields:
        return _broken(data, (), generator)
    place = generator.randrange(len(fields))
    number, wire_type, content = fields[place]
    if wire_type == BYTES and depth < _DEEPEST and generator.random() < 0.75:
        fields[place] = number, wire_type, _rewired(content, generator, depth + 1)
        return b"".join(map(_written, fields))
    change = generator.randrange(8)
    if change == 0:
        fields.insert(generator.randrange(len(fields) + 1), fields[place])
    elif change == 1:
        del fields[place]
    elif change == 2:
        generator.shuffle(fields)
    elif change == 3:
        fields[place] = generator.choice((number, number + 1, 99, 2**28)), wire_type, content
    elif change == 4:
        fields[place] = number, generator.choice((VARINT, FIXED64, BYTES, FIXED32)), content
    elif change == 5:  # a group, which parsers step over
        inside = write_varint(number << 3 | GROUP_END)
        fields[place] = number, GROUP, content[:64] + inside
    elif change == 6:  # a tag in more bytes than it needs
        tag = bytearray(write_varint(number << 3 | wire_type))
        tag[-1] |= 0x80
        written = bytes(tag) + b"\0" + _written(fields[place])[len(tag) :]
        return b"".join(map(_written, fields[:place])) + written
    else:
        return b"".join(map(_written, fields)) + _written((99, VARINT, b"\0")) * 3
    return b"".join(map(_written, fields))


def _fields(data: bytes) -> list[tuple[int, int, bytes]]:
    """Return the fields of a message; none where it is none."""
    view, position, found = memoryview(data), 0, []
    try:
        while position < len(view):
            number, wire_type, start, position = read_field(view, position)
            found.append((number, wire_type, bytes(view[start:position])))
    except WireError:
        return []
    return found


def _written(field: tuple[int, int, bytes]) -> bytes:
    number, wire_type, content = field
    size = write_varint(len(content)) if wire_type == BYTES else b""
    return write_varint(number << 3 | wire_type) + size + content


@functools.lru_cache(maxsize=512)
def _parsed(data: bytes) -> onnx.ModelProto:
    model = onnx.ModelProto()
    model.ParseFromString(data)
    return model


@functools.lru_cache(maxsize=512)
def _names(data: bytes) -> tuple[str, ...]:
    """Return the names of a model's values, so that a change can wire them."""
    graph = _parsed(data).graph
    names = [name for node in graph.node for name in (*node.input, *node.output)]
    return tuple(dict.fromkeys([*names, *(t.name for t in graph.initializer)])) or ("",)


def _changed(model: onnx.ModelProto, other: bytes, generator: random.Random) -> bytes:
    result = onnx.ModelProto()
    result.CopyFrom(model)
    try:
        donor: Message | None = _parsed(other)
    except DecodeError:
        donor = None
    names = _names(model.SerializeToString())
    for _ in range(generator.choice(_CHANGES)):
        _change(result, donor, names, generator)
    return bytes(result.SerializeToString())


def _change(message: Any, donor: Any, names: Sequence[str], generator: random.Random) -> None:
    """Descend to a field by chance, and change it."""
    for _ in range(_DEEPEST):
        field = _choose_field(message, generator)
        if field.message_type is None:
            _change_scalar(message, field, names, generator)
            return
        several = repeated(field)
        content = getattr(message, field.name)
        if several and content and generator.random() < _SHUFFLED.get(field.name, 0.2):
            _shuffle(content, generator)
            return
        if (several and not content) or (not several and not message.HasField(field.name)):
            _fill(message, field, donor, generator)
            return
        if not several and generator.random() < 0.05:
            message.ClearField(field.name)
            return
        message = generator.choice(content) if several else content


_SHUFFLED = {"node": 0.15, "initializer": 0.2, "opset_import": 0.3}
"""How often a change of a repeated field is one of its order or number."""
_LIKELY = {"graph": 12, "node": 16, "attribute": 6, "initializer": 5, "input": 3, "output": 3}
"""How much likelier than others a field is chosen."""


def _choose_field(message: Message, generator: random.Random) -> Any:
    present = [field for field, _ in message.ListFields()]
    if present and generator.random() < 0.9:
        weights = [_LIKELY.get(field.name, 1) for field in present]
        return generator.choices(present, weights)[0]
    return generator.choice(message.DESCRIPTOR.fields)


def _shuffle(content: Any, generator: random.Random) -> None:
    """Delete, repeat, swap, reverse or shuffle the entries of a repeated field."""
    place, other = generator.randrange(len(content)), generator.randrange(len(content))
    change = generator.randrange(5)
    if change == 0:
        del content[place]
    elif change == 1 and len(content) < _LONGEST:
        copied = type(content[place])()
        copied.CopyFrom(content[place])
        content.append(copied)
    elif change == 2:
        kept = type(content[place])()
        kept.CopyFrom(content[place])
        content[place].CopyFrom(content[other])
        content[other].CopyFrom(kept)
    elif change == 3:
        content.reverse()
    else:
        del content[place + 1 :]


def _fill(message: Any, field: Any, donor: Any, generator: random.Random) -> None:
    """Set an empty field, where possible to what another model holds there."""
    content = getattr(message, field.name)
    one = content.add() if repeated(field) else content
    one.SetInParent()
    name = field.message_type.name
    graph = donor.graph if donor is not None else None
    if name == "GraphProto" and graph is not None and generator.random() < _BRANCHED * 10:
        one.CopyFrom(graph)
    elif name == "NodeProto" and graph is not None and graph.node:
        one.CopyFrom(generator.choice(graph.node))
    elif name == "TensorProto" and graph is not None and graph.initializer:
        one.CopyFrom(generator.choice(graph.initializer))
    elif name == "FunctionProto" and graph is not None and graph.node:
        inner = generator.choice(graph.node)
        one.name, one.domain = inner.op_type, generator.choice(("", "local", inner.domain))
        one.input.extend(inner.input)
        one.output.extend(inner.output)
        one.node.extend([inner])
        one.opset_import.extend(donor.opset_import)


def _change_scalar(
    message: Any, field: Any, names: Sequence[str], generator: random.Random
) -> None:
    value = _scalar(message, field, names, generator)
    if not repeated(field):
        if generator.random() < 0.1:
            message.ClearField(field.name)
        else:
            setattr(message, field.name, value)
        return
    content = getattr(message, field.name)
    change = generator.randrange(5)
    if not content or (change == 0 and len(content) < _LONGEST):
        content.append(value)
    elif change == 1:
        del content[generator.randrange(len(content))]
    elif change == 2:
        content.reverse()
    else:
        content[generator.randrange(len(content))] = value


def _scalar(message: Any, field: Any, names: Sequence[str], generator: random.Random) -> Any:
    """Return a value for a field of numbers, texts or bytes."""
    kind = field.cpp_type
    if kind in (FieldDescriptor.CPPTYPE_FLOAT, FieldDescriptor.CPPTYPE_DOUBLE):
        return generator.choice((*FRACTIONS, generator.uniform(-2, 2)))
    if kind == FieldDescriptor.CPPTYPE_ENUM:
        return generator.choice(field.enum_type.values).number
    if kind == FieldDescriptor.CPPTYPE_STRING:
        if field.type == FieldDescriptor.TYPE_BYTES:
            held = getattr(message, field.name)
            held = held if isinstance(held, bytes) else b""
            size = len(held) if generator.random() < 0.8 else generator.randrange(16)
            return generator.randbytes(size)
        pool: Sequence[str] = _POOLS.get((message.DESCRIPTOR.name, field.name), names)
        return generator.choice(pool if generator.random() < 0.9 else TEXTS)
    small, bits = generator.random() < 0.5, _INTEGERS[kind]
    number = generator.randrange(-2, 32) if small else generator.choice(NUMBERS)
    lowest, highest = bits
    return number if lowest <= number <= highest else 0


_POOLS: Mapping[tuple[str, str], Sequence[str]] = {
    ("NodeProto", "op_type"): OPERATORS,
    ("NodeProto", "domain"): TEXTS,
    ("AttributeProto", "name"): ATTRIBUTES,
    ("OperatorSetIdProto", "domain"): TEXTS,
    ("StringStringEntryProto", "key"): ("location", "offset", "length", "checksum", "pin"),
}
_INTEGERS: Mapping[int, tuple[int, int]] = {
    FieldDescriptor.CPPTYPE_INT32: (-(2**31), 2**31 - 1),
    FieldDescriptor.CPPTYPE_INT64: (-(2**63), 2**63 - 1),
    FieldDescriptor.CPPTYPE_UINT32: (0, 2**32 - 1),
    FieldDescriptor.CPPTYPE_UINT64: (0, 2**64 - 1),
    FieldDescriptor.CPPTYPE_BOOL: (0, 1),
}


def _nested(depth: int) -> list[Any]:
    result: list[Any] = []
    for _ in range(depth):
        result = [result]
    return result


_REPLACED: Sequence[Callable[[random.Random], Any]] = (
    lambda generator: generator.choice(NUMBERS),
    lambda generator: generator.choice(FRACTIONS),
    lambda generator: generator.choice((*TEXTS, "/etc/passwd", "[bold]x[/bold]", "\u202e")),
    lambda generator: generator.choice((None, True, False)),
    lambda _generator: [],
    lambda _generator: {},
    lambda generator: [generator.choice(FRACTIONS)] * generator.choice((1, 7, 1000)),
    lambda generator: _nested(generator.choice((3, 500))),
)


def _change_tree(root: list[Any], generator: random.Random) -> None:
    """Change one place of a tree of lists and objects: a leaf, or an entry's presence."""
    parent: Any = root
    key: Any = 0
    while isinstance(parent[key], (dict, list)) and parent[key] and generator.random() < 0.9:
        parent = parent[key]
        key = generator.choice(list(parent) if isinstance(parent, dict) else range(len(parent)))
    change = generator.randrange(6)
    if change == 0 and parent is not root:
        del parent[key]
    elif change == 1 and isinstance(parent, list) and parent is not root:
        parent.append(parent[key])
    elif change == 2 and isinstance(parent, dict):
        parent[generator.choice((*parent, *TEXTS, "unknown"))] = parent[key]
    elif change == 3 and isinstance(parent[key], (int, float)) and parent[key] is not None:
        parent[key] = generator.choice(
            (-parent[key], parent[key] * 10, float(parent[key]), NUMBERS[-1])
        )
    else:
        parent[key] = generator.choice(_REPLACED)(generator)
