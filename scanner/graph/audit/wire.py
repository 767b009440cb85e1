"""A model file as bytes on the wire: what a protobuf parser passes over in silence.

Parsers keep the last of two values of a field, merge two messages, and step over fields that they
do not know. So two readers can see two models in one file, and a file can carry what no reader
shows.
Source: the Protocol Buffers encoding specification, sections on last-one-wins and unknown fields.
"""

import dataclasses
import functools
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import onnx
from google.protobuf.descriptor import Descriptor, FieldDescriptor

from scanner.errors import UnsafeModelError
from scanner.modelfile.nested import repeated
from scanner.modelfile.wire_format import BYTES, FIXED32, FIXED64, VARINT, WireError, read_field

UNDEFINED = "(undefined)"
"""How the place of a field ends that ONNX does not define."""

SAMPLE = 1 << 16
"""Bytes that are kept of what no reader shows."""

Octets = npt.NDArray[np.uint8]

_DEEPEST = 100
"""Protobuf's own limit of nesting."""


@dataclasses.dataclass(frozen=True, slots=True)
class Oddity:
    """Something on the wire that a parser passes over.

    Attributes:
        kind: `unknown-field`, `repeated-field` (one that should appear once), `damaged`, or
            `padded-number` (one of more bytes than it needs, of which parsers drop some).
        path: Where, as field names from the model downwards.
        field: The field's name, or its number where that is unknown.
        size: Bytes of its content.
        differs: Whether a repeated field's contents differ.
        count: How many alike lie in one message: unknown fields of one number are one oddity.
        sample: The start of the largest, of unknown fields and of what is no field.
    """

    kind: str
    path: str
    field: str
    size: int
    differs: bool = False
    count: int = 1
    sample: bytes = dataclasses.field(default=b"", compare=False, repr=False)


def oddities(data: bytes, most: int | None = None) -> Iterator[Oddity]:
    """Yield what a parser would pass over in a serialised model.

    Args:
        data: The model's bytes.
        most: How many fields may be looked at; None sets no limit.

    Raises:
        UnsafeModelError: There are more fields.
    """
    yield from _message(memoryview(data), onnx.ModelProto.DESCRIPTOR, "model", 0, _Budget(most))


def place_of(data: bytes, offset: int) -> str:
    """Return which field of a serialised model a byte lies in, as field names from the model down.

    Only the messages around that byte are read.
    """
    view, kind, path, start = memoryview(data), onnx.ModelProto.DESCRIPTOR, "model", 0
    end = len(view)
    while kind is not None:
        places: dict[int, int] = {}
        position, inner = start, None
        while position < end:
            try:
                number, wire_type, first, position = read_field(view, position)
            except WireError:
                return f"{path}, behind its last field"
            places[number] = places.get(number, -1) + 1
            if position <= offset:
                continue
            field = _defined(kind, number, wire_type)
            if field is None:
                return f"{path}.{number} {UNDEFINED}"
            path += f".{field.name}" + ("" if field.single else f"[{places[number]}]")
            start, end, inner = first, position, field.message
            break
        kind = inner
    return path


class _Budget:
    """How many fields may still be looked at."""

    def __init__(self, most: int | None) -> None:
        self._most, self._left = most, most

    def spend(self) -> None:
        if self._left is None:
            return
        self._left -= 1
        if self._left < 0:
            raise UnsafeModelError(
                f"the file consists of more than {self._most:,} fields",
                remedy="raise the setting `parts` if you trust the file",
            )


def _message(
    view: memoryview, kind: Descriptor, path: str, depth: int, budget: _Budget
) -> Iterator[Oddity]:
    narrow = _narrow(kind)
    unknown: dict[int, _Unknown] = {}
    first: dict[int, memoryview] = {}
    places: dict[int, int] = {}
    position = 0
    while position < len(view):
        try:
            at, (number, wire_type, start, end) = position, read_field(view, position)
        except WireError:
            yield from _unknown(path, unknown)
            rest = view[position:]
            yield Oddity("damaged", path, "", len(rest), sample=bytes(rest[:SAMPLE]))
            return
        budget.spend()
        content, position = view[start:end], end
        field = _defined(kind, number, wire_type)
        if field is None:
            unknown.setdefault(number, _Unknown()).add(content)
            continue
        name, single, inner, _ = field
        spare = start - at - 1 - (number > _ONE_BYTE)
        if wire_type == BYTES:
            spare -= max((end - start).bit_length() + 6, 7) // 7
        if VARINT in field.wire_types:
            spare += _padding(content, narrow=number in narrow)
        if spare > 0:
            yield Oddity("padded-number", path, name, spare)
        if single:
            if number in first:
                differs = bool(first[number] != content)
                yield Oddity("repeated-field", path, name, len(content), differs)
            first.setdefault(number, content)
        if inner is not None and wire_type == BYTES and depth < _DEEPEST:
            places[number] = place = places.get(number, -1) + 1
            inside = f"{path}.{name}" + ("" if single else f"[{place}]")
            yield from _message(content, inner, inside, depth + 1, budget)
    yield from _unknown(path, unknown)


_ONE_BYTE = 15  # numbers of fields up to this take a byte with their type
_WIDEST = 5  # bytes of a number of 32 bits
_LONGEST = 10  # bytes of one of 64, of whose last one bit counts
_CONTINUES = 0x80  # the bit that says that more bytes follow
_BLOCK = 1 << 20  # bytes of packed numbers that are looked at together


def _padding(content: memoryview, *, narrow: bool) -> int:
    """Return how many bytes of numbers no parser keeps.

    Args:
        content: One number after another: seven bits in each byte, the lowest first.
        narrow: Whether parsers keep 32 bits of each; the others repeat the sign.
    """
    if len(content) <= _WIDEST and 0 not in bytes(content[1:]):
        return 0  # as nearly all are
    octets = np.frombuffer(content, np.uint8)
    size = 0
    for at in range(0, len(octets), _BLOCK):
        # A number that starts in a block may end behind it.
        size += _padding_in(octets[at : at + _BLOCK + _LONGEST], octets[at - 1 : at], narrow)
    return size


def _padding_in(block: Octets, before: Octets, narrow: bool) -> int:
    """Return the same of the numbers that start in a block, given the byte before it, if any."""
    count = min(len(block), _BLOCK)
    block = np.concatenate([block, np.zeros(_LONGEST, np.uint8)])
    more = block >= _CONTINUES
    inside = np.zeros(count, np.bool_)  # of a number that starts before
    inside[: len(before)] = before >= _CONTINUES
    inside[1:] = more[: count - 1]
    long = np.flatnonzero(~inside)
    size = int((more[:count] & (block[1 : count + 1] == 0)).sum())
    for place in range(_WIDEST if narrow else _LONGEST - 1):
        long = long[more[long + place]]
    if not narrow:
        return size + int((block[long + _LONGEST - 1] > 1).sum())
    negative = (block[long + 4] >= 0xF8) & (block[long + 9] == 1)  # noqa: PLR2004 - of bit 31 on
    for place in range(5, 9):
        negative &= block[long + place] == 0xFF  # noqa: PLR2004
    long = long[~negative]
    for place in range(_WIDEST, _LONGEST):
        size += len(long)
        long = long[more[long + place]]
    return size


@functools.cache
def _narrow(kind: Descriptor) -> frozenset[int]:
    """Return the numbers of a message's fields of 32 bits."""
    kinds = (FieldDescriptor.CPPTYPE_INT32, FieldDescriptor.CPPTYPE_ENUM)
    return frozenset(field.number for field in kind.fields if field.cpp_type in kinds)


class _Unknown:
    """Unknown fields of one number in one message."""

    def __init__(self) -> None:
        self.count = self.size = 0
        self.largest = memoryview(b"")

    def add(self, content: memoryview) -> None:
        self.count += 1
        self.size += len(content)
        if len(content) > len(self.largest):
            self.largest = content


def _unknown(path: str, found: dict[int, _Unknown]) -> Iterator[Oddity]:
    for number, each in found.items():
        sample = bytes(each.largest[:SAMPLE])
        yield Oddity("unknown-field", path, str(number), each.size, count=each.count, sample=sample)


class _Field(NamedTuple):
    """A field of a message.

    Attributes:
        name: Its name.
        single: Whether it may appear once.
        message: The message that it holds.
        wire_types: How it may be stored.
    """

    name: str
    single: bool
    message: Descriptor | None
    wire_types: tuple[int, ...]


_KNOWN: dict[str, dict[int, _Field]] = {}
_STORED = {
    FieldDescriptor.TYPE_FLOAT: FIXED32, FieldDescriptor.TYPE_DOUBLE: FIXED64,
    FieldDescriptor.TYPE_STRING: BYTES, FieldDescriptor.TYPE_BYTES: BYTES,
    FieldDescriptor.TYPE_MESSAGE: BYTES,
}  # fmt: skip
"""The wire types of fields; those of all others are numbers of as many bytes as they need."""


def _fields(kind: Descriptor) -> dict[int, _Field]:
    """Return a message's fields by number."""
    if kind.full_name not in _KNOWN:
        _KNOWN[kind.full_name] = {f.number: _field(f) for f in kind.fields}
    return _KNOWN[kind.full_name]


def _defined(kind: Descriptor, number: int, wire_type: int) -> _Field | None:
    """Return the field that parsers read; they step over one that is stored as no such field is."""
    field = _fields(kind).get(number)
    return field if field is not None and wire_type in field.wire_types else None


def _field(field: FieldDescriptor) -> _Field:
    stored = _STORED.get(field.type, VARINT)
    several = repeated(field)
    # Several numbers may stand in one field, or in one each.
    types = (stored, BYTES) if several and stored != BYTES else (stored,)
    return _Field(field.name, not several, field.message_type, types)
