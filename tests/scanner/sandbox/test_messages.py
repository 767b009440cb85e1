"""What is written is read back; nothing else is."""

import io
import json
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scanner.sandbox import messages

VALUES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text()
    | st.lists(st.integers())
)


@given(st.lists(st.dictionaries(st.text(max_size=5), VALUES, max_size=4), max_size=4))
def test_messages_come_back_in_order(sent: list[dict[str, object]]) -> None:
    pipe = io.BytesIO()
    for message in sent:
        messages.write(pipe, message)
    pipe.seek(0)
    assert [messages.read(pipe) for _ in sent] == sent
    assert messages.read(pipe) is None


@given(st.binary())
def test_noise_is_no_message(noise: bytes) -> None:
    try:
        message = messages.read(io.BytesIO(noise))
    except ValueError:
        return
    assert message is None or isinstance(message, dict)


def test_a_message_cut_short_is_the_end() -> None:
    pipe = io.BytesIO()
    messages.write(pipe, {"answer": 1})
    assert messages.read(io.BytesIO(pipe.getvalue()[:-1])) is None


@pytest.mark.parametrize("text", ["[" * 100_000, "1", "NaN", "{"])
def test_what_is_no_object_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"nested|not an object|Expecting"):
        messages.read(io.BytesIO(struct.pack(">I", len(text)) + text.encode()))


@pytest.mark.parametrize("text", ["[" + "[]," * 1_100_000 + "1]", "[" + "1," * 2**21 + "1]"])
def test_what_would_fill_the_memory_once_parsed_is_refused(
    text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(json, "loads", lambda _: pytest.fail("it was parsed"))
    with pytest.raises(ValueError, match="values"):
        messages.read(io.BytesIO(struct.pack(">I", len(text)) + text.encode()))


def test_what_json_does_not_write_is_refused() -> None:
    data = '{"a": "é"}'.encode()
    with pytest.raises(ValueError, match="not ASCII"):
        messages.read(io.BytesIO(struct.pack(">I", len(data)) + data))


def test_no_length_is_believed_beyond_the_largest() -> None:
    with pytest.raises(ValueError, match="a message of 4294967295 bytes"):
        messages.read(io.BytesIO(b"\xff" * 4 + json.dumps({}).encode()))


def test_a_shelf_holds_no_more_than_one_message_may() -> None:
    shelf = messages.Shelf()
    large, small = b"x" * (messages._LARGEST // 2), b"{}"
    for data in (large, small, large, small):
        shelf.put(data)
    assert shelf.held == [large, small, small]
    shelf = messages.Shelf()
    values = b"," * (messages._MOST_VALUES // 2)
    for data in (values, values, small):
        shelf.put(data)
    assert shelf.held == [values, small]
    shelf = messages.Shelf()
    for _ in range(messages._MOST_HELD + 1):
        shelf.put(small)
    assert len(shelf.held) == messages._MOST_HELD
