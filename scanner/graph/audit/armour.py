"""Bytes written as text: base 64, 32, 16 and 85, escapes, and lists of numbers.

Sources: RFC 4648 (bases 64, 32 and 16); Adobe's "PostScript Language Reference", "ASCII85Encode".
"""

import base64
import re
import string
from collections.abc import Callable, Iterator
from typing import NamedTuple

from scanner.graph.audit.signatures import WINDOW

_BASE64 = re.compile(r"[A-Za-z0-9+/_-]{32,}={0,2}")
_BASE32 = re.compile(r"[A-Z2-7]{32,}=*")
_HEX = re.compile(r"(?:[0-9a-fA-F]{2}[ :,]?){24,}")
_ESCAPES = re.compile(r"(?:\\x[0-9a-fA-F]{2}){12,}|(?:0x[0-9a-fA-F]{1,2}[,;\s]{0,2}){12,}")
_DECIMALS = re.compile(r"(?:\d{1,3}[,;\s]{1,2}){24,}\d{1,3}")
_BASE85 = re.compile(r"[!-~]{40,}")
_MOST_RUNS = 64


class Run(NamedTuple):
    """Encoded bytes in a text.

    Attributes:
        encoding: How they are encoded, as in "base64".
        data: The first of them, decoded.
        start: Where they start in the text.
        size: How many characters they take.
    """

    encoding: str
    data: bytes
    start: int
    size: int


def runs(text: str) -> Iterator[Run]:
    """Yield what may be encoded bytes in a text, decoded in each way that is possible."""
    joined = unbroken(text)
    for name, pattern, decode in _ARMOURS:
        for found in _limited(pattern, joined):
            try:
                data = decode(found.group())
            except (ValueError, OverflowError):
                continue
            yield Run(name, data, found.start(), found.end() - found.start())


def _limited(pattern: re.Pattern[str], text: str) -> Iterator[re.Match[str]]:
    for count, found in enumerate(pattern.finditer(text)):
        if count == _MOST_RUNS:
            return
        yield found


def unbroken(text: str) -> str:
    """Return a text whose encoded lines are put together, such as those of 64 or 76 characters."""
    return _LINE_END.sub("", text) if "\n" in text else text


_LINE_END = re.compile(r"(?<=[A-Za-z0-9+/=_-]{16})\r?\n[ \t]*(?=[A-Za-z0-9+/=_-]{4})")


def from_base64(run: str) -> bytes:
    """Return the first bytes of a run in base 64, with or without padding.

    Raises:
        ValueError: It is no such run.
    """
    core = run.rstrip("=")[: WINDOW * 4 // 3 // 4 * 4].translate(_URL_SAFE)
    return base64.b64decode(core + "=" * (-len(core) % 4))


def from_base32(run: str) -> bytes:
    """Return the same of base 32, in capitals."""
    core = run.rstrip("=")[: WINDOW // 8 * 8]
    return base64.b32decode(core + "=" * (-len(core) % 8))


def from_hex(run: str) -> bytes:
    """Return the same of hexadecimal digits; one too many is left out."""
    core = run[: 2 * WINDOW].translate(_SEPARATORS)
    return bytes.fromhex(core[: len(core) // 2 * 2])


def _from_escapes(run: str) -> bytes:
    return bytes(int(code, 16) for code in _CODES.findall(run[: 4 * WINDOW]))


def _from_decimals(run: str) -> bytes:
    return bytes(map(int, _DIGITS.findall(run[: 4 * WINDOW])))


def _from_base85(run: str) -> bytes:
    return base64.b85decode(_marked(run)[: WINDOW // 5 * 5])


def _from_ascii85(run: str) -> bytes:
    return base64.a85decode(_marked(run)[: WINDOW // 5 * 5])


def _marked(run: str) -> str:
    """Return a run again, if it has the punctuation of base 85: a path or a sentence has not."""
    if len(set(run[:512]) & _MARKS) < 6:  # noqa: PLR2004
        raise ValueError("not in base 85")
    return run


_MARKS = frozenset(string.punctuation)
_URL_SAFE = str.maketrans("-_", "+/")
_SEPARATORS = str.maketrans("", "", " :,")
_CODES = re.compile(r"x([0-9a-fA-F]{1,2})")
_DIGITS = re.compile(r"\d+")
_ARMOURS: tuple[tuple[str, re.Pattern[str], Callable[[str], bytes]], ...] = (
    ("base64", _BASE64, from_base64),
    ("hexadecimal", _HEX, from_hex),
    ("escapes", _ESCAPES, _from_escapes),
    ("decimal numbers", _DECIMALS, _from_decimals),
    ("base32", _BASE32, from_base32),
    ("base85", _BASE85, _from_base85),
    ("ASCII85", _BASE85, _from_ascii85),
)
