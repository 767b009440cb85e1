"""Certificates and signatures by their structure."""

import base64
import os
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scanner.graph.audit import carried, certificates
from scanner.graph.audit.signatures import Family


def der(tag: int, *parts: bytes) -> bytes:
    content = b"".join(parts)
    size = len(content)
    if size < 128:
        return bytes([tag, size]) + content
    long = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes([tag, 0x80 | len(long)]) + long + content


ALGORITHM = der(0x30, der(0x06, bytes.fromhex("2a864886f70d01010b")), der(0x05))
KEY = der(0x30, ALGORITHM, der(0x03, b"\0" + bytes(range(256)) * 2))


def certificate(piece: int = 256) -> bytes:
    body = der(0x30, der(0xA0, der(0x02, b"\2")), der(0x02, os.urandom(16)), ALGORITHM, KEY)
    return der(0x30, body, ALGORITHM, der(0x03, b"\0" + os.urandom(piece)))


def signed(held: bytes) -> bytes:
    kind = der(0x06, bytes.fromhex("2a864886f70d010702"))
    return der(0x30, kind, der(0xA0, der(0x30, der(0x02, b"\1"), der(0xA0, held))))


def pem(title: str, data: bytes) -> str:
    body = base64.encodebytes(data).decode()
    return f"-----BEGIN {title}-----\n{body}-----END {title}-----\n"


def test_each_kind() -> None:
    assert certificates.of_bytes(certificate()) == "a certificate (X.509)"
    assert certificates.of_bytes(signed(certificate())) == "a signed message (CMS)"
    assert certificates.of_bytes(KEY) == "a public key"


def test_texts_of_one_or_several() -> None:
    both = pem("CERTIFICATE", certificate()) + pem("CMS", signed(certificate()))
    assert certificates.of_text(both) == "a certificate (X.509) and a signed message (CMS)"
    bare = base64.b64encode(certificate()).decode()
    assert certificates.of_text(bare) == "a certificate (X.509)"


@pytest.mark.parametrize(
    "text",
    [
        pem("CERTIFICATE", os.urandom(900)),
        pem("CERTIFICATE", certificate(4000)),
        pem("CERTIFICATE", certificate() + os.urandom(900)),
        pem("CERTIFICATE", certificate()) + base64.b64encode(os.urandom(900)).decode(),
        "-----BEGIN CERTIFICATE-----\nMIIB",
    ],
)
def test_a_load_in_the_clothes_of_one(text: str) -> None:
    assert certificates.of_text(text) is None


@given(st.binary(max_size=200))
def test_any_bytes_are_looked_at_without_an_error(data: bytes) -> None:
    for prefix in (b"", b"\x30\x81\x80", b"\x30\x20\x30\x10"):
        assert certificates.of_bytes(prefix + data) in (None, "a public key")


def test_what_is_carried_is_named_as_such() -> None:
    text = pem("CERTIFICATE", certificate(1000))
    found = carried.recognise(text.encode())
    assert found is not None
    assert (found.kind, found.family) == ("a certificate (X.509)", Family.CERTIFICATE)


def test_blanks_take_no_long_time() -> None:
    before = time.process_time()
    assert certificates.of_text("a" * 64 + " " * 80_000 + "!") is None
    assert time.process_time() - before < 1
    assert certificates.of_text(base64.encodebytes(certificate()).decode() + " \n" * 40) is not None
