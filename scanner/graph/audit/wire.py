"""A model file as bytes on the wire: what a protobuf parser passes over in silence.

Parsers keep the last of two values of a field, merge two messages, and step over fields that they
do not know. So two readers can see two models in one file, and a file can carry what no reader
shows.
Source: the Protocol Buffers encoding specification, sections on last-one-wins and unknown fields.
"""

import dataclasses
from collections.abc import Iterator
from typing import Any

import onnx
from google.protobuf.descriptor import Descriptor, FieldDescriptor

_VARINT, _FIXED64, _BYTES, _GROUP, _END, _FIXED32 = 0, 1, 2, 3, 4, 5
_FIXED_SIZE = {_FIXED64: 8, _FIXED32: 4}
_DEEPEST = 100
"""Protobuf's own limit of nesting."""


@dataclasses.dataclass(frozen=True, slots=True)
class Oddity:
    """Something on the wire that a parser passes over.

    Attributes:
        kind: `unknown-field`, `repeated-field` (one that should stand once), or `damaged`.
        path: Where, as field names from the model downwards.
        field: The field's name, or its number where that is unknown.
        size: Bytes of its content.
        differs: Whether a repeated field's contents differ.
    """

    kind: str
    path: str
    field: str
    size: int
    differs: bool = False


def oddities(data: bytes) -> Iterator[Oddity]:
    """Yield what a parser would pass over in a serialised model, in file order."""
    yield from _message(memoryview(data), onnx.ModelProto.DESCRIPTOR, "model", 0)


class _DamageError(ValueError):
    """The bytes end in the middle of a field, or name a wire type that there is not."""


def _message(view: memoryview, kind: Descriptor, path: str, depth: int) -> Iterator[Oddity]:
    known = _fields(kind)
    first: dict[int, memoryview] = {}
    places: dict[int, int] = {}
    position = 0
    while position < len(view):
        try:
            number, content, is_bytes, position = _field(view, position)
        except _DamageError:
            yield Oddity("damaged", path, "", len(view) - position)
            return
        field = known.get(number)
        if field is None:
            yield Oddity("unknown-field", path, str(number), len(content))
            continue
        name, single, inner = field
        if single:
            if number in first:
                differs = bool(first[number] != content)
                yield Oddity("repeated-field", path, name, len(content), differs)
            first.setdefault(number, content)
        if inner is not None and is_bytes and depth < _DEEPEST:
            places[number] = place = places.get(number, -1) + 1
            yield from _message(
                content, inner, f"{path}.{name}" + ("" if single else f"[{place}]"), depth + 1
            )


_KNOWN: dict[str, dict[int, tuple[str, bool, Descriptor | None]]] = {}


def _fields(kind: Descriptor) -> dict[int, tuple[str, bool, Descriptor | None]]:
    """Return a message's fields by number: name, whether it stands once, and the message that it holds."""
    if kind.full_name not in _KNOWN:
        _KNOWN[kind.full_name] = {
            f.number: (f.name, not _repeated(f), f.message_type) for f in kind.fields
        }
    return _KNOWN[kind.full_name]


def _repeated(field: Any) -> bool:
    # Newer protobuf releases say it by a property and warn of the label; older ones have the label
    # alone.
    if hasattr(field, "is_repeated"):
        return bool(field.is_repeated)
    return bool(field.label == FieldDescriptor.LABEL_REPEATED)


def _field(view: memoryview, position: int) -> tuple[int, memoryview, bool, int]:
    """Read one field: its number, content, whether that is a run of bytes, and where the next field starts."""
    tag, position = _varint(view, position)
    number, wire_type = tag >> 3, tag & 7
    start = position
    if wire_type == _VARINT:
        _, end = _varint(view, position)
    elif wire_type == _BYTES:
        size, start = _varint(view, position)
        end = start + size
    elif wire_type in _FIXED_SIZE:
        end = position + _FIXED_SIZE[wire_type]
    elif wire_type == _GROUP:
        end = _behind_group(view, position, number)
    else:
        raise _DamageError
    if number == 0 or end > len(view):
        raise _DamageError
    return number, view[start:end], wire_type == _BYTES, end


def _behind_group(view: memoryview, position: int, number: int) -> int:
    """Return where a group ends: parsers step over this old way to nest fields."""
    opened = [number]
    while opened:
        tag, behind = _varint(view, position)
        kind = tag & 7
        if kind == _GROUP:
            opened.append(tag >> 3)
            position = behind
        elif kind == _END:
            if opened.pop() != tag >> 3:
                raise _DamageError
            position = behind
        else:
            *_, position = _field(view, position)
    return position


def _varint(view: memoryview, position: int) -> tuple[int, int]:
    result = shift = 0
    while True:
        if position >= len(view) or shift > 63:  # noqa: PLR2004 - a varint holds 64 bits
            raise _DamageError
        byte = view[position]
        position += 1
        result |= (byte & 0x7F) << shift
        if byte < 0x80:  # noqa: PLR2004 - the continuation bit
            return result, position
        shift += 7
