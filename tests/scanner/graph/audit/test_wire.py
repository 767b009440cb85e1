"""Bytes that a parser passes over are seen; honest bytes and broken ones raise nothing."""

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from models import plain

from scanner.graph.audit import wire
from scanner.graph.audit.wire import UNDEFINED, Oddity, oddities, place_of

HONEST = plain().SerializeToString()


def _field(number: int, content: bytes) -> bytes:
    tag, size = (number << 3) | 2, len(content)
    encoded = b""
    for value in (tag, size):
        rest = value
        while rest > 127:
            encoded += bytes([rest & 127 | 128])
            rest >>= 7
        encoded += bytes([rest])
    return encoded + content


def test_an_honest_file_has_nothing_odd() -> None:
    assert list(oddities(HONEST)) == []


def test_an_unknown_field_is_seen_with_its_size() -> None:
    assert list(oddities(HONEST + _field(900, b"stowaway"))) == [
        Oddity("unknown-field", "model", "900", 8)
    ]


def test_an_unknown_field_inside_a_tensor_is_seen() -> None:
    tensor = plain().graph.initializer[0].SerializeToString() + _field(77, b"more")
    graph = _field(onnx.GraphProto.INITIALIZER_FIELD_NUMBER, tensor)
    odd = list(oddities(_field(onnx.ModelProto.GRAPH_FIELD_NUMBER, graph)))
    assert odd == [Oddity("unknown-field", "model.graph.initializer[0]", "77", 4)]


def test_a_second_graph_is_a_repeated_field_that_differs() -> None:
    other = plain(planted=True).graph.SerializeToString()
    (odd,) = oddities(HONEST + _field(onnx.ModelProto.GRAPH_FIELD_NUMBER, other))
    assert (odd.kind, odd.path, odd.field, odd.differs) == (
        "repeated-field",
        "model",
        "graph",
        True,
    )


def test_a_repetition_with_the_same_content_does_not_differ() -> None:
    once = _field(onnx.ModelProto.PRODUCER_NAME_FIELD_NUMBER, b"exporter")
    (odd,) = oddities(once + once)
    assert (odd.kind, odd.differs) == ("repeated-field", False)


def test_a_cut_file_is_damaged() -> None:
    assert [o.kind for o in oddities(HONEST[:-3])][-1] == "damaged"


@settings(max_examples=200)
@given(st.binary(max_size=300))
def test_no_bytes_raise(data: bytes) -> None:
    assert all(odd.kind in {"unknown-field", "repeated-field", "damaged"} for odd in oddities(data))


@settings(max_examples=200)
@given(st.integers(0, len(HONEST) - 1), st.integers(0, 255))
def test_no_changed_byte_raises(place: int, value: int) -> None:
    changed = HONEST[:place] + bytes([value]) + HONEST[place + 1 :]
    assert sum(odd.size for odd in oddities(changed)) <= 20 * len(changed)


def test_a_group_is_stepped_over_and_what_follows_is_still_seen() -> None:
    group = b"\xa3\x38" + _field(5, b"inside") + b"\xa4\x38"  # field 900, from start to end
    repeated = _field(2, b"one") + _field(2, b"two")
    kinds = {oddity.kind for oddity in oddities(HONEST + group + repeated)}
    assert kinds == {"unknown-field", "repeated-field"}
    assert [o.kind for o in oddities(HONEST + group[:-2])] == ["damaged"]


def test_a_byte_has_a_place() -> None:
    model = plain()
    data = model.SerializeToString()
    raw = model.graph.initializer[2].raw_data
    assert place_of(data, data.find(raw) + 1) == "model.graph.initializer[2].raw_data"
    assert place_of(data + b"\xfa\x07\x03abc", len(data) + 4) == f"model.127 {UNDEFINED}"
    assert place_of(data + b"\xff", len(data)) == "model, behind its last field"


def test_the_largest_unknown_field_is_kept_in_part() -> None:
    data = plain().SerializeToString() + b"\xfa\x07\x01a" + b"\xfa\x07\x03abc"
    (oddity,) = oddities(data)
    assert (oddity.sample, oddity.size, oddity.count) == (b"abc", 4, 2)


def _first_number(model: bytes, written: bytes) -> bytes:
    assert model[0] == onnx.ModelProto.IR_VERSION_FIELD_NUMBER << 3
    return model[:1] + written + model[2:]


def test_numbers_of_more_bytes_than_they_need() -> None:
    for written, spare in ((b"\x88\x00", 1), (b"\x88\x80\x00", 1)):
        (odd,) = oddities(_first_number(HONEST, written))
        assert (odd.kind, odd.field, odd.size) == ("padded-number", "ir_version", spare)
    assert list(oddities(_first_number(HONEST, b"\x88\x80\x01"))) == []


def test_a_kind_of_more_bits_than_parsers_keep() -> None:
    tensor = onnx.TensorProto(data_type=1).SerializeToString()[:1]
    for written, count in ((b"\x81\x80\x80\x80\x80\x7f", 1), (b"\xff" * 9 + b"\x01", 0)):
        graph = _field(onnx.GraphProto.INITIALIZER_FIELD_NUMBER, tensor + written)
        odd = list(oddities(_field(onnx.ModelProto.GRAPH_FIELD_NUMBER, graph)))
        assert [each.kind for each in odd] == ["padded-number"] * count


def test_a_size_of_more_bytes_than_it_needs() -> None:
    (odd,) = oddities(HONEST + b"\x12\x81\x00x")
    assert (odd.kind, odd.field, odd.size) == ("padded-number", "producer_name", 1)


def test_a_field_of_another_wire_type_than_its_own_is_unknown() -> None:
    version = onnx.ModelProto.MODEL_VERSION_FIELD_NUMBER
    data = HONEST + _field(version, b"stowaway")
    assert onnx.ModelProto.FromString(data).model_version == 0
    assert list(oddities(data)) == [Oddity("unknown-field", "model", str(version), 8)]
    assert place_of(data, len(data) - 1) == f"model.{version} {UNDEFINED}"
    numbers = b"".join(  # as numbers of eight bytes
        bytes([onnx.ModelProto.OPSET_IMPORT_FIELD_NUMBER << 3 | 1]) + bytes(8) for _ in range(3)
    )
    (odd,) = oddities(HONEST + numbers)
    assert (odd.kind, odd.size, odd.count) == ("unknown-field", 24, 3)


def test_numbers_may_stand_together_or_one_by_one() -> None:
    one_by_one = b"".join(b"\x0d" + bytes(4) for _ in range(3))  # field 1 is no float
    floats = bytes([onnx.TensorProto.FLOAT_DATA_FIELD_NUMBER << 3 | 5]) + bytes(4)
    together = onnx.TensorProto(
        dims=[2], float_data=[1, 2], int32_data=[-1, 300], int64_data=[-1, 1 << 40]
    ).SerializeToString()
    for tensor, count in ((together, 0), (floats * 2, 0), (one_by_one, 1)):
        graph = _field(onnx.GraphProto.INITIALIZER_FIELD_NUMBER, tensor)
        odd = list(oddities(_field(onnx.ModelProto.GRAPH_FIELD_NUMBER, graph)))
        assert [each.kind for each in odd] == ["unknown-field"] * count


NUMBERS = (
    (b"\x05", 0, 0),
    (b"\x80\x01", 0, 0),
    (b"\x85\x00", 1, 1),
    (b"\xff" * 9 + b"\x01", 0, 0),  # -1
    (b"\xff" * 9 + b"\x7f", 5, 1),
    (b"\x85\x80\x80\x80\x80\x01", 1, 0),
    (b"\x85\x80\x80\x80\xf0\xff\xff\xff\xff\x01", 5, 0),  # of 32 bits, it would be positive
    (b"\x85\x80\x80\x80\xf8\xff\xff\xff\xff\x01", 0, 0),
)


@pytest.mark.parametrize("block", [1 << 20, 16, 11])
@pytest.mark.parametrize(("field", "narrow"), [("int32_data", True), ("int64_data", False)])
def test_packed_numbers_of_more_bytes_than_they_need(
    field: str, narrow: bool, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wire, "_BLOCK", block)
    generator = np.random.default_rng(0)
    number = onnx.TensorProto.DESCRIPTOR.fields_by_name[field].number
    for _ in range(40):
        taken = [NUMBERS[at] for at in generator.integers(0, len(NUMBERS), 12)]
        spare = sum(each[1] if narrow else each[2] for each in taken)
        tensor = _field(number, b"".join(each[0] for each in taken))
        graph = _field(onnx.GraphProto.INITIALIZER_FIELD_NUMBER, tensor)
        odd = list(oddities(_field(onnx.ModelProto.GRAPH_FIELD_NUMBER, graph)))
        assert sum(each.size for each in odd) == spare
