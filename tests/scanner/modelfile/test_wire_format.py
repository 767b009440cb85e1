"""Numbers and fields are written as protobuf writes them and read back; all else is refused."""

import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scanner.modelfile.wire_format import (
    BYTES,
    FIXED32,
    GROUP,
    VARINT,
    WireError,
    read_field,
    read_varint,
    write_field,
    write_number_field,
    write_varint,
)


@given(st.integers(0, 2**64 - 1), st.binary(max_size=3))
def test_a_number_survives(number: int, rest: bytes) -> None:
    written = write_varint(number)
    assert read_varint(memoryview(b"x" + written + rest), 1) == (number, 1 + len(written))


@given(st.integers(0, 2**63 - 1), st.text(max_size=300))
def test_fields_are_those_of_protobuf(number: int, text: str) -> None:
    proto = onnx.ModelProto(ir_version=number, producer_name=text)
    assert proto.HasField("ir_version")
    written = write_number_field(1, number) + write_field(2, text.encode())
    assert written == proto.SerializeToString()


def test_fields_are_found_one_after_the_other() -> None:
    data = memoryview(onnx.AttributeProto(name="a", f=1.5, i=300).SerializeToString())
    found, position = [], 0
    while position < len(data):
        number, wire_type, start, position = read_field(data, position)
        found.append((number, wire_type, bytes(data[start:position])))
    assert found == [
        (1, BYTES, b"a"),
        (2, FIXED32, b"\0\0\xc0\x3f"),
        (3, VARINT, b"\xac\x02"),
    ]


def test_a_group_is_one_field_with_all_that_it_holds() -> None:
    data = b"\x0b\x08\x01\x13\x14\x0c" + write_number_field(2, 1)
    assert read_field(memoryview(data), 0) == (1, GROUP, 1, 6)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"\x80", id="half a number"),
        pytest.param(b"\x80" * 10 + b"\x01", id="a number of eleven bytes"),
        pytest.param(b"\x0a\x05abc", id="a text cut short"),
        pytest.param(b"\x0d\0\0", id="a float cut short"),
        pytest.param(b"\x0b\x08\x01", id="a group without end"),
        pytest.param(b"\x0b\x14", id="a group that ends under another number"),
        pytest.param(b"\x0c", id="the end of no group"),
        pytest.param(b"\x02\0", id="field number 0"),
        pytest.param(b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\x7f", id="an endless text"),
    ],
)
def test_what_is_no_field_is_refused(data: bytes) -> None:
    with pytest.raises(WireError):
        read_field(memoryview(data), 0)


@given(st.binary(max_size=40))
def test_a_field_lies_within_its_message(data: bytes) -> None:
    position = 0
    while position < len(data):
        try:
            _, _, start, end = read_field(memoryview(data), position)
        except WireError:
            return
        assert position < start <= end <= len(data)
        position = end
