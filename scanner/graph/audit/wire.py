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

from scanner.modelfile.wire_format import BYTES, WireError, read_field

_DEEPEST = 100
"""Protobuf's own limit of nesting."""


@dataclasses.dataclass(frozen=True, slots=True)
class Oddity:
    """Something on the wire that a parser passes over.

    Attributes:
        kind: `unknown-field`, `repeated-field` (one that should appear once), or `damaged`.
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


def _message(view: memoryview, kind: Descriptor, path: str, depth: int) -> Iterator[Oddity]:
    known = _fields(kind)
    first: dict[int, memoryview] = {}
    places: dict[int, int] = {}
    position = 0
    while position < len(view):
        try:
            number, wire_type, start, end = read_field(view, position)
        except WireError:
            yield Oddity("damaged", path, "", len(view) - position)
            return
        content, position = view[start:end], end
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
        if inner is not None and wire_type == BYTES and depth < _DEEPEST:
            places[number] = place = places.get(number, -1) + 1
            yield from _message(
                content, inner, f"{path}.{name}" + ("" if single else f"[{place}]"), depth + 1
            )


_KNOWN: dict[str, dict[int, tuple[str, bool, Descriptor | None]]] = {}


def _fields(kind: Descriptor) -> dict[int, tuple[str, bool, Descriptor | None]]:
    """Return a message's fields by number: name, whether it appears once, message that it holds."""
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
