"""A model file as bytes on the wire: what a protobuf parser passes over in silence.

Parsers keep the last of two values of a field, merge two messages, and step over fields that they
do not know. So two readers can see two models in one file, and a file can carry what no reader
shows.
Source: the Protocol Buffers encoding specification, sections on last-one-wins and unknown fields.
"""

import dataclasses
import functools
from collections.abc import Iterator

import onnx
from google.protobuf.descriptor import Descriptor, FieldDescriptor

from scanner.errors import UnsafeModelError
from scanner.modelfile.nested import repeated
from scanner.modelfile.wire_format import BYTES, WireError, read_field

UNDEFINED = "(undefined)"
"""How the place of a field ends that ONNX does not define."""

SAMPLE = 1 << 16
"""Bytes that are kept of what no reader shows."""

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
            unknown = (f"{number} {UNDEFINED}", True, None)
            name, single, inner = _fields(kind).get(number, unknown)
            path += f".{name}" + ("" if single else f"[{places[number]}]")
            start, end = first, position
            inner = inner if wire_type == BYTES else None
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
    known, narrow = _fields(kind), _narrow(kind)
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
        field = known.get(number)
        if field is None:
            unknown.setdefault(number, _Unknown()).add(content)
            continue
        name, single, inner = field
        spare = start - at - 1 - (number > _ONE_BYTE)
        if wire_type == BYTES:
            spare -= max((end - start).bit_length() + 6, 7) // 7
        elif wire_type == _VARINT:
            spare += _padding(content, narrow=number in narrow)
        else:
            spare = 0
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


_VARINT = 0
_ONE_BYTE = 15  # numbers of fields up to this take a byte with their type
_WIDEST = 5  # bytes of a number of 32 bits


def _padding(content: memoryview, *, narrow: bool) -> int:
    """Return how many bytes of a number no parser keeps.

    Args:
        content: Seven bits in each byte, the lowest first.
        narrow: Whether parsers keep 32 bits of it; the others repeat the sign.
    """
    size = len(content)
    if size > 1 and content[-1] == 0:
        return 1
    if not narrow or size <= _WIDEST:
        return 0
    negative = size == 10 and bytes(content[4:]) >= b"\xf8\xff\xff\xff\xff\x01"  # noqa: PLR2004
    return 0 if negative and all(b == 0xFF for b in content[5:9]) else size - _WIDEST  # noqa: PLR2004


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


_KNOWN: dict[str, dict[int, tuple[str, bool, Descriptor | None]]] = {}


def _fields(kind: Descriptor) -> dict[int, tuple[str, bool, Descriptor | None]]:
    """Return a message's fields by number: name, whether it appears once, message that it holds."""
    if kind.full_name not in _KNOWN:
        _KNOWN[kind.full_name] = {
            f.number: (f.name, not repeated(f), f.message_type) for f in kind.fields
        }
    return _KNOWN[kind.full_name]
