"""Every field of a model that may hold a text or bytes, wherever onnx's schema allows it."""

import functools
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
import onnx
from google.protobuf.descriptor import Descriptor, FieldDescriptor

from scanner.graph.audit import views
from scanner.graph.core.structure import label
from scanner.modelfile.nested import Contents, repeated

EXEMPT = {
    "FLOAT": "one number of four bytes each",
    "INT64": "one number of eight bytes each",
    "INT32": "one number of four bytes each",
    "ENUM": "one of the numbers that the schema lists",
}
"""Fields of a single number, by type: each would have to be read as its own few bytes."""


class Place(NamedTuple):
    """A field that holds a text or bytes.

    Attributes:
        message: What it is a field of.
        field: The field.
        held: Its content; of repeated ones one.
    """

    message: Any
    field: FieldDescriptor
    held: str | bytes

    @property
    def spelt(self) -> str:
        """The field as the schema has it."""
        return f"{self.message.DESCRIPTOR.name}.{self.field.name}"

    @property
    def name(self) -> str:
        """Where it stands, for a person: what it is, and of what."""
        kind = _TITLES.get(self.message.DESCRIPTOR.name, self.message.DESCRIPTOR.name)
        own = label(self.message) if isinstance(self.message, onnx.NodeProto) else ""
        for said in ("name", "key", "tensor_name", "domain", "dim_param", "producer_name"):
            own = own or getattr(self.message, said, "")
        # A long name is the find itself, and no help to find it.
        of = f"the {kind} {own[:60]!r}" if own else f"a {kind}"
        return f"{self.field.name} of {of}"


def places(contents: Contents) -> Iterator[Place]:
    """Yield every text, and every string of bytes or list of numbers outside tensors."""
    for name in contents.types():
        for message in contents.all(name):
            for field in _fields(message.DESCRIPTOR):
                held = getattr(message, field.name)
                if not held:
                    continue
                if field.type in _NUMBERS:
                    for stream in views.packed(np.asarray(held)):
                        yield Place(message, field, stream)
                elif repeated(field):
                    for each in held:
                        yield Place(message, field, each)
                else:
                    yield Place(message, field, held)


_NUMBERS = frozenset({
    FieldDescriptor.TYPE_FLOAT, FieldDescriptor.TYPE_DOUBLE, FieldDescriptor.TYPE_INT32,
    FieldDescriptor.TYPE_INT64, FieldDescriptor.TYPE_UINT64,
})  # fmt: skip
_OWN = frozenset({"onnx.TensorProto"})
"""Messages whose bytes and numbers are looked at as tensors."""


@functools.cache
def _fields(kind: Descriptor) -> tuple[FieldDescriptor, ...]:
    """Return the fields of a message that may hold bytes, as text, bytes or many numbers."""
    return tuple(
        field
        for field in kind.fields
        if field.type == FieldDescriptor.TYPE_STRING
        or (
            kind.full_name not in _OWN
            and (
                field.type == FieldDescriptor.TYPE_BYTES
                or (field.type in _NUMBERS and repeated(field))
            )
        )
        or field.name == "dims"
    )


_TITLES = {
    "ModelProto": "model",
    "GraphProto": "graph",
    "NodeProto": "node",
    "TensorProto": "tensor",
    "AttributeProto": "attribute",
    "ValueInfoProto": "value",
    "FunctionProto": "function",
    "StringStringEntryProto": "entry",
    "Dimension": "dimension",
    "TensorAnnotation": "annotation",
    "OperatorSetIdProto": "operator set",
    "TypeProto": "type",
}


def described(kinds: Iterable[Descriptor]) -> dict[str, str]:
    """Return for every field of messages how it is looked at; a test holds that none is missed."""
    told = {}
    for kind in kinds:
        for field in kind.fields:
            if field.message_type is not None:
                how = "its fields are looked at"
            elif field in _fields(kind):
                how = "content"
            elif kind.full_name in _OWN and (
                field.type == FieldDescriptor.TYPE_BYTES or repeated(field)
            ):
                how = "tensor"
            else:
                how = EXEMPT.get(_TYPE_NAMES.get(field.type, ""), "")
            told[f"{kind.name}.{field.name}"] = how
    return told


_TYPE_NAMES = {
    getattr(FieldDescriptor, name): name.removeprefix("TYPE_")
    for name in dir(FieldDescriptor)
    if name.startswith("TYPE_")
}
