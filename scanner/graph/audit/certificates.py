"""Certificates and signatures: what vouches for a model, by its structure and not by its name.

They look encrypted, and are: so each piece of the structure is walked, and none may be longer than
a key or a signature is. A load in such clothes is cut into pieces, and is named as what it wears.

Sources: ITU-T X.690 (DER); RFC 5280 (certificates); RFC 5652 (signed messages); RFC 7468 (text).
"""

import binascii
import re
from collections.abc import Iterator
from typing import NamedTuple

_PEM = re.compile(
    r"\s*-----BEGIN ([A-Z0-9 ]{1,40})-----\s([A-Za-z0-9+/=\s]{1,90000})-----END \1-----\s*"
)
# Possessive: blanks fit both parts, and to try each share of them takes long.
_BARE = re.compile(r"[A-Za-z0-9+/\s]{64,90000}+={0,2}\s*")
_LONGEST = 1100
"""Bytes of one piece; a signature of 8,192 bits has 1,024."""
_DEEPEST = 24
_SEQUENCE, _INTEGER, _BITS, _NAME, _FIRST = 0x30, 0x02, 0x03, 0x06, 0xA0
_SIGNED = bytes.fromhex("2a864886f70d010702")


class _Piece(NamedTuple):
    tag: int
    start: int
    end: int


def of_text(text: str) -> str | None:
    """Return what a text as a whole is, as in "a certificate (X.509)"; or None.

    Args:
        text: One or several blocks between lines of `BEGIN` and `END`, or base 64 alone.
    """
    kinds, position = [], 0
    if "-----BEGIN " not in text[:100]:
        return _of_base64(text) if _BARE.fullmatch(text) else None
    while position < len(text):
        block = _PEM.match(text, position)
        kind = None if block is None else _of_base64(block[2])
        if block is None or kind is None:
            return None
        kinds.append(kind)
        position = block.end()
    return " and ".join(dict.fromkeys(kinds)) or None


def _of_base64(text: str) -> str | None:
    try:
        return of_bytes(binascii.a2b_base64(text))
    except binascii.Error:
        return None


def of_bytes(data: bytes) -> str | None:
    """Return what bytes as a whole are, or None."""
    try:
        outer = list(_pieces(data, 0, len(data)))
        if len(outer) != 1 or outer[0].tag != _SEQUENCE:
            return None
        _walk(data, outer[0], 0)
        parts = list(_pieces(data, outer[0].start, outer[0].end))
        first = list(_pieces(data, parts[0].start, parts[0].end)) if parts[0].tag & 0x20 else []
    except (ValueError, IndexError):
        return None
    tags = [part.tag for part in parts]
    inner = [part.tag for part in first]
    if tags == [_NAME, _FIRST] and data[parts[0].start : parts[0].end] == _SIGNED:
        return "a signed message (CMS)"
    if tags == [_SEQUENCE, _SEQUENCE, _BITS] and inner[:1] in ([_FIRST], [_INTEGER]):
        return "a certificate (X.509)"
    if tags == [_SEQUENCE, _BITS] and inner[:1] == [_NAME]:
        return "a public key"
    return None


def _walk(data: bytes, piece: _Piece, depth: int) -> None:
    """Look at each piece within a piece.

    Raises:
        ValueError: One does not fit, or is too long or too deep.
    """
    if not piece.tag & 0x20:  # not made of others
        if piece.end - piece.start > _LONGEST:
            raise ValueError
        return
    if depth > _DEEPEST:
        raise ValueError
    for inner in _pieces(data, piece.start, piece.end):
        _walk(data, inner, depth + 1)


def _pieces(data: bytes, start: int, end: int) -> Iterator[_Piece]:
    """Yield the pieces between two positions, which they fill.

    Raises:
        ValueError: They do not.
    """
    while start < end:
        tag, size, start = data[start], data[start + 1], start + 2
        if size & 0x80:
            count = size & 0x7F
            size = int.from_bytes(data[start : start + count], "big")
            start += count
        if tag & 0x1F == 0x1F or start + size > end:  # noqa: PLR2004 - tags of several bytes
            raise ValueError
        yield _Piece(tag, start, start + size)
        start += size
