"""Encoded bytes are found in any text around them."""

import base64
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scanner.graph.audit import armour

LOAD = bytes(range(256)) * 3

ENCODERS: dict[str, Callable[[bytes], str]] = {
    "base64": lambda data: base64.b64encode(data).decode(),
    "base32": lambda data: base64.b32encode(data).decode(),
    "hexadecimal": lambda data: data.hex(),
    "base85": lambda data: base64.b85encode(data).decode(),
    "ASCII85": lambda data: base64.a85encode(data).decode(),
    "escapes": lambda data: "".join(f"\\x{byte:02x}" for byte in data),
    "decimal numbers": lambda data: str(list(data)),
}


@pytest.mark.parametrize("encoding", ENCODERS)
@given(data=st.binary(min_size=64, max_size=900))
def test_what_was_encoded_is_decoded(encoding: str, data: bytes) -> None:
    data = bytes(range(64)) + data  # of an even distribution, as what is worth hiding
    text = f"payload: {ENCODERS[encoding](data)} ."
    assert data in [run.data for run in armour.runs(text) if run.encoding == encoding]


def test_lines_are_put_together() -> None:
    text = base64.encodebytes(LOAD).decode()
    assert LOAD in [run.data for run in armour.runs(f"Here:\n{text}\nthat is all.")]


def test_prose_is_nothing_but_words() -> None:
    assert [
        run.encoding for run in armour.runs("The network was trained for ten epochs. " * 50)
    ] == []


@given(st.text(max_size=2000))
def test_no_text_ends_in_an_error(text: str) -> None:
    list(armour.runs(text))
