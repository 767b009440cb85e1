"""No field of the schema that may hold bytes is passed over without a stated reason."""

import onnx
from google.protobuf.descriptor import Descriptor
from models import plain

from scanner.graph.audit.places import described, places
from scanner.modelfile.nested import Contents


def kinds(kind: Descriptor, found: dict[str, Descriptor]) -> dict[str, Descriptor]:
    """Return all messages that a message may hold."""
    if kind.full_name not in found:
        found[kind.full_name] = kind
        for field in kind.fields:
            if field.message_type is not None:
                kinds(field.message_type, found)
    return found


def test_every_field_is_looked_at_or_has_a_reason() -> None:
    told = described(kinds(onnx.ModelProto.DESCRIPTOR, {}).values())
    assert [field for field, how in told.items() if not how] == []
    assert told["GraphProto.doc_string"] == "content"
    assert told["TensorProto.raw_data"] == "tensor"
    assert told["AttributeProto.i"].startswith("one number")


def test_a_place_says_where_it_is() -> None:
    model = plain()
    model.graph.node[0].doc_string = "a comment of some length"
    model.metadata_props.add(key="names", value="['cat', 'dog']")
    named = {place.held: place.name for place in places(Contents(model))}
    assert named["a comment of some length"] == "doc_string of the node 'conv'"
    assert named["['cat', 'dog']"] == "value of the entry 'names'"
