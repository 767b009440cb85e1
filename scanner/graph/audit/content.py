"""What bytes are, by their content: programs, pickles, archives, scripts, pictures, or noise.

A name says nothing in a file that hides something, so only the content counts.
"""

import collections
import math
import pickletools
import re
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from scanner.graph.audit import armour, scripts
from scanner.graph.audit.signatures import ELSEWHERE, FORMATS, WINDOW, Family, Format
from scanner.values import frozen

LEAST_UNKNOWN = 1024
"""Bytes of noise below which nothing is said: keys, digests and signatures are as long."""

_NEAR = (0, 1, 2, 4, 8, 12, 16)
"""Where content starts, if not at once: behind a byte order mark, a length or two, a digest."""

_DEEPEST = 3  # base64 of gzip of a pickle
_BLOCK = 1 << 20
_PROOF = 1024  # bytes that are looked at in the middle of others
# Random bytes need one check in 12,000. Whoever needs more hides something among decoys, or wants
# the search to take long.
_FEWEST_CHECKS, _BYTES_PER_CHECK = 2000, 4096
_DECOYS = "so many beginnings of known formats that not all of them were looked at"
# What may follow a pickle's first opcode, which itself does not.
_OPCODES = frozenset(o.code.encode("latin-1") for o in pickletools.opcodes) - {b"\x80"}
_PRINTABLE = bytes((9, 10, 13, *range(32, 127)))
_UNPRINTABLE = 0.03  # share of other characters
_LETTERS = 16  # different bytes that a text has at least
_LONGEST_WORD = 1366  # characters of base 64, a kilobyte; a word, a path or a number is shorter
_ENCODED = re.compile(r"[A-Za-z0-9+/_-]{1366,}")
_UNBROKEN = re.compile(r"[!-~]{1024,}")


@frozen
class Content:
    """What was recognised.

    Attributes:
        kind: What it is, as in "an ELF program".
        family: What is to be thought of it.
        start: How many bytes stand before it.
        size: Bytes from there to the end of what was looked at.
        wrapping: How it was encoded, the outermost first, as in ("base64", "gzip").
    """

    kind: str
    family: Family
    start: int = 0
    size: int = 0
    wrapping: tuple[str, ...] = ()

    def inside(self, wrapping: str) -> "Content":
        """Return the same, encoded once more."""
        return Content(
            kind=self.kind, family=self.family, start=self.start, size=self.size,
            wrapping=(wrapping, *self.wrapping),
        )  # fmt: skip

    def __str__(self) -> str:
        """Say what it is, as in "an ELF program in gzip in base64"."""
        return " in ".join((self.kind, *reversed(self.wrapping)))


def of_bytes(data: bytes, depth: int = 0) -> Content | None:
    """Return what bytes start with, or hold, if it is of a known format."""
    return at_start(data, depth) or next(all_within(data, 1), None)


def at_start(data: bytes, depth: int = 0) -> Content | None:
    """Return what bytes start with, at once or behind a short header, if it is a known format."""
    head = bytes(data[: 2 * WINDOW])
    for at in _NEAR:
        for form in _BY_START.get(head[at : at + 2], ()):
            if head.startswith(form.magic, at) and form.check(head, at):
                return _opened(form, head, at, len(data) - at, depth)
    return _elsewhere(head, len(data))


def _elsewhere(head: bytes, size: int) -> Content | None:
    for form in ELSEWHERE:
        if head.startswith(form.magic, form.offset) and form.check(head, 0):
            return Content(kind=form.kind, family=form.family, size=size)
    return None


def all_within(data: bytes, most: int) -> Iterator[Content]:
    """Yield what lies anywhere in bytes, of the formats that never fit by chance.

    Args:
        data: Any bytes.
        most: How many are yielded.
    """
    left = _FEWEST_CHECKS + len(data) // _BYTES_PER_CHECK
    for at in _candidates(data):
        head = data[at : at + 16]
        for form in _BY_START.get(head[:2], ()):
            if not form.anywhere or not head.startswith(form.magic):
                continue
            # Half-precision weights next to zero are full of what looks like a protocol's number.
            if form.family is Family.PICKLE and head[2:3] not in _OPCODES:
                continue
            left -= 1
            if form.check(data[at : at + _PROOF], 0):
                yield Content(kind=form.kind, family=form.family, start=at, size=len(data) - at)
                most -= 1
            if most <= 0:
                return
            if left < 0:
                yield Content(kind=_DECOYS, family=Family.UNKNOWN, size=len(data))
                return


def polyglot(data: bytes) -> str | None:
    """Return what else a file is, as a whole, to a program that looks for that; or None."""
    head = data[:_HEADER]
    for form in _BY_START.get(head[:2], ()):
        if head.startswith(form.magic) and form.check(head, 0):
            return form.kind
    if (found := _elsewhere(head, len(data))) is not None:
        return found.kind
    if data[_ISO : _ISO + 5] == b"CD001":
        return "a disk image"
    if b"%PDF-" in head[:1024]:
        return "a PDF document"  # readers look for it in the first 1024 bytes
    if _PAGE.search(head[:1024]):
        return "a web page"
    return "a ZIP archive" if _ends_as_zip(data) else None


_HEADER = 4096
_ISO = 0x8001
_PAGE = re.compile(rb"<(!doctype html|html|script|body|iframe)\b", re.IGNORECASE)
_ZIP_COMMENT = 1 << 16


def _ends_as_zip(data: bytes) -> bool:
    """Whether a directory of a ZIP archive stands where the end of the file says it does."""
    end = data.rfind(b"PK\5\6", max(0, len(data) - _ZIP_COMMENT - 22))
    if end < 0 or len(data) < end + 22:
        return False
    size = int.from_bytes(data[end + 12 : end + 16], "little")
    return size <= end and data[end - size : end - size + 4] == b"PK\1\2"


def of_text(text: str, depth: int = 0) -> Content | None:
    """Return what a text is or holds: a script, or encoded bytes of a known format."""
    if len(text) < 12:  # noqa: PLR2004 - shorter than any script or encoded start
        return None
    if (script := scripts.find(text)) is not None:
        return Content(kind=script.kind, family=script.family, start=script.start, size=len(text))
    raw = _characters(text)
    if (
        found := at_start(raw, depth + 1) if text.isascii() else of_bytes(raw, depth + 1)
    ) is not None:
        return found
    if depth >= _DEEPEST:
        return None
    return next(_unwrapped(text, depth), None)


def _characters(text: str) -> bytes:
    """Return one byte for each character: its low one where it has more."""
    try:
        return text.encode("latin-1")
    except UnicodeEncodeError:
        return text.encode("utf-16-be", "surrogatepass")[1::2]


def _unwrapped(text: str, depth: int) -> Iterator[Content]:
    """Yield what the encoded runs in a text hold, where it is of a known format."""
    for run in armour.runs(text):
        whole = len(run.data) > LEAST_UNKNOWN
        inner = (of_bytes if whole else at_start)(run.data, depth + 1)
        if inner is None and run.data.isascii():
            inner = of_text(run.data.decode("ascii"), depth + 1)
        if inner is not None:
            found = inner.inside(run.encoding)
            yield Content(
                kind=found.kind, family=found.family, start=run.start, size=run.size,
                wrapping=found.wrapping,
            )  # fmt: skip


def noise(data: bytes) -> float | None:
    """Return the entropy of bytes that look compressed or encrypted, in bits per byte, or None.

    Of n random bytes the entropy is below 8 by about 255 / (2 n ln 2) (Miller, 1955).
    """
    if len(data) < LEAST_UNKNOWN:
        return None
    counts = np.bincount(np.frombuffer(data, np.uint8), minlength=256)
    bits = entropy(counts)
    expected = 8 - 255 / (2 * len(data) * math.log(2))
    return bits if bits > expected - 0.05 else None


def noisy_text(text: str) -> int:
    """Return the length of the longest run of characters that looks like encoded noise, or 0."""
    if len(text) < LEAST_UNKNOWN:
        return 0
    if not text.isascii():
        try:
            return len(text) if noise(text.encode("latin-1")) else 0
        except UnicodeEncodeError:
            return 0
    for run in sorted(_UNBROKEN.findall(armour.unbroken(text)), key=len, reverse=True)[:4]:
        counts = np.asarray(list(collections.Counter(run).values()))
        used, bits = len(counts), entropy(counts)
        # All characters of an alphabet, one as often as another: prose and JSON have favourites.
        if used >= 16 and bits > math.log2(used) - 0.15:  # noqa: PLR2004 - hexadecimal digits
            return len(run)
    return 0


def is_text(data: bytes) -> bool:
    """Whether bytes are printable, and not the same few."""
    if len(data) < 64:  # noqa: PLR2004 - too few to tell
        return False
    unprintable = len(data.translate(None, _PRINTABLE))
    return unprintable <= len(data) * _UNPRINTABLE and len(set(data)) >= _LETTERS


def encoded(text: str) -> int:
    """Return the length of the longest run of characters that only encodings write, or 0."""
    if len(text) < _LONGEST_WORD:
        return 0
    return max(map(len, _ENCODED.findall(armour.unbroken(text))), default=0)


def entropy(counts: npt.NDArray[Any]) -> float:
    """Return the entropy of a histogram in bits."""
    shares = counts[counts > 0] / counts.sum()
    return float(-(shares * np.log2(shares)).sum())


_BY_START: dict[bytes, list[Format]] = collections.defaultdict(list)
_PAIRS = np.zeros(1 << 16, bool)
for _form in FORMATS:
    _BY_START[_form.magic[:2]].append(_form)
    _PAIRS[int.from_bytes(_form.magic[:2], "big")] |= _form.anywhere


def _candidates(data: bytes) -> Iterator[int]:
    """Yield where two bytes stand that a format may start with."""
    numbers = np.frombuffer(data, np.uint8)
    for block in range(0, len(numbers) - 1, _BLOCK):
        part = numbers[block : block + _BLOCK + 1]
        pairs = part[:-1].astype(np.uint16) << 8
        pairs |= part[1:]
        yield from (np.flatnonzero(_PAIRS[pairs]) + block).tolist()


def _opened(form: Format, head: bytes, at: int, size: int, depth: int) -> Content:
    """Return what was found; of a compressed stream, what is inside it where that is known."""
    bits = {"data compressed by gzip": 31, "data compressed by zlib": 15}.get(form.kind)
    if bits is not None and depth < _DEEPEST:
        inside = _inflated(head[at:], bits)
        inner = of_bytes(inside, depth + 1) or of_text(inside.decode("latin-1"), depth + 1)
        if inner is not None:
            wrapping = (form.kind.rsplit(" ", 1)[1], *inner.wrapping)
            # A text that is compressed is not there to be read.
            family = form.family if inner.family is Family.DOCUMENT else inner.family
            return Content(kind=inner.kind, family=family, start=at, size=size, wrapping=wrapping)
    return Content(kind=form.kind, family=form.family, start=at, size=size)


def _inflated(data: bytes, bits: int) -> bytes:
    """Return the first bytes of a compressed stream, up to where it is damaged."""
    machine, inside = zlib.decompressobj(bits), b""
    try:
        for start in range(0, len(data), _PROOF):
            if machine.eof or len(inside) >= WINDOW:
                break
            inside += machine.decompress(data[start : start + _PROOF], WINDOW - len(inside))
    except zlib.error:
        pass  # only its start had been looked at
    return inside
