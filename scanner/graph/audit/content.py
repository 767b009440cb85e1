"""What bytes are, by their content: programs, pickles, archives, scripts, pictures, or noise.

A name says nothing in a file that hides something, so only the content counts. Each format is
recognised by its first bytes and by the structure that follows them, since in a hundred megabytes
of weights any four bytes may stand by chance. Nothing is executed, and at most a window of what is
found is decoded.

Sources: the specifications of the formats; the System V ABI, "ELF header"; Microsoft's "PE Format";
PKWARE's APPNOTE.TXT; RFC 1950 (zlib), 1952 (gzip) and 4648 (base 64, 32 and 16); the Python
documentation of `pickletools`.
"""

import base64
import binascii
import collections
import enum
import io
import math
import pickletools
import re
import string
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from scanner.values import frozen

WINDOW = 1 << 16
"""Bytes that are decoded, or looked at, to tell what something is."""

LEAST_UNKNOWN = 1024
"""Bytes of noise below which nothing is said: keys, digests and signatures are as long."""

_NEAR = (0, 1, 2, 4, 8, 12, 16)
"""Where content starts, if not at once: behind a byte order mark, a length or two, a digest."""

_DEEPEST = 3  # base64 of gzip of a pickle
_BLOCK = 1 << 20
_MOST_CHECKS = 20_000  # of places where two bytes fit; random bytes have one in 2,000

Bytes = npt.NDArray[np.uint8]


class Family(enum.Enum):
    """What is to be thought of a format."""

    PROGRAM = "program"
    PICKLE = "pickle"
    ARCHIVE = "archive"
    SCRIPT = "script"
    DOCUMENT = "document"
    MEDIA = "media"
    MODEL = "model"
    KEY = "key"
    UNKNOWN = "unknown"


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
    for form in _ELSEWHERE:
        if head.startswith(form.magic, form.offset) and form.check(head, 0):
            return Content(kind=form.kind, family=form.family, size=size)
    return None


def all_within(data: bytes, most: int) -> Iterator[Content]:
    """Yield what lies anywhere in bytes, of the formats that never fit by chance.

    Args:
        data: Any bytes.
        most: How many are yielded.
    """
    checks = 0
    for at in _candidates(data):
        head = data[at : at + 16]
        for form in _BY_START.get(head[:2], ()):
            if not form.anywhere or not head.startswith(form.magic):
                continue
            checks += 1
            if form.check(data[at : at + WINDOW], 0):
                yield Content(kind=form.kind, family=form.family, start=at, size=len(data) - at)
                most -= 1
            if most <= 0 or checks > _MOST_CHECKS:
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
    for pattern, kind, family in _WRITTEN:
        if found := pattern.search(text):
            return Content(kind=kind, family=family, start=found.start(), size=len(text))
    if not text.isascii():
        try:
            raw = text.encode("latin-1")  # one character per byte
        except UnicodeEncodeError:
            raw = text.encode("utf-16-be", "surrogatepass")[1::2]
        if found_raw := of_bytes(raw, depth + 1):
            return found_raw
    if depth >= _DEEPEST:
        return None
    return next(_unwrapped(text, depth), None)


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
    for run in sorted(_UNBROKEN.findall(_joined(text)), key=len, reverse=True)[:4]:
        counts = np.asarray(list(collections.Counter(run).values()))
        used, bits = len(counts), entropy(counts)
        # All characters of an alphabet, each as often as the others: prose and JSON have favourites.
        if used >= 16 and bits > math.log2(used) - 0.15:  # noqa: PLR2004 - hexadecimal digits
            return len(run)
    return 0


def entropy(counts: npt.NDArray[Any]) -> float:
    """Return the entropy of a histogram in bits."""
    shares = counts[counts > 0] / counts.sum()
    return float(-(shares * np.log2(shares)).sum())


@frozen
class _Format:
    """A format: its first bytes, and what is checked behind them.

    Attributes:
        anywhere: Whether first bytes and check together never fit by chance, so that it may be
            looked for in the middle of weights.
    """

    magic: bytes
    kind: str
    family: Family
    check: Callable[[bytes, int], bool]
    anywhere: bool = False
    offset: int = 0


def _always(_data: bytes, _at: int) -> bool:
    return True


def _elf(data: bytes, at: int) -> bool:
    head = data[at : at + 20]
    if len(head) < 20 or head[4] not in (1, 2) or head[5] not in (1, 2) or head[6] != 1:  # noqa: PLR2004
        return False
    order = "little" if head[5] == 1 else "big"
    return int.from_bytes(head[16:18], order) in range(1, 5)  # type: ignore[arg-type]


def _portable_executable(data: bytes, at: int) -> bool:
    behind = int.from_bytes(data[at + 0x3C : at + 0x40], "little")
    stub = data[at : at + 512]
    return data[at + behind : at + behind + 4] == b"PE\0\0" or b"cannot be run in DOS mode" in stub


def _mach_o(data: bytes, at: int) -> bool:
    order = "big" if data[at] == 0xFE else "little"  # noqa: PLR2004
    kind = int.from_bytes(data[at + 4 : at + 8], order)  # type: ignore[arg-type]
    return kind & 0x00FFFFFF in (7, 12, 18)  # x86, ARM, PowerPC


def _fat_or_java(data: bytes, at: int) -> bool:
    second = int.from_bytes(data[at + 4 : at + 8], "big")
    return 1 <= second <= 8 or 45 <= second & 0xFFFF <= 80  # noqa: PLR2004 - parts, or a version


def _pickle(data: bytes, at: int) -> bool:
    """Whether opcodes follow one another to a STOP, or for as long as the window goes."""
    stream = io.BytesIO(data[at : at + WINDOW])
    second, names, count = data[at + 2 : at + 3], set(), 0
    if data[at] == 0x80 and data[at + 1] >= 4 and second not in _AFTER_VERSION:  # noqa: PLR2004
        return False
    try:
        for operation, argument, _ in pickletools.genops(stream):
            count += 1
            names.add(operation.name)
            if operation.name == "STOP":
                return count > 4 and bool(names & _TELLING)  # noqa: PLR2004 - as chance has it
            if operation.name == "FRAME" and not 0 < int(argument or 0) < 1 << 40:
                return False
    except (ValueError, IndexError, UnicodeDecodeError, OverflowError, MemoryError):
        cut = stream.tell() == WINDOW
        return cut and count > 12 and bool(names & _TELLING)  # noqa: PLR2004 - as above
    return False


_AFTER_VERSION = (b"\x95", b"N", b"K", b"]", b"}", b")", b"(", b"C", b"B")
"""A frame, or what a pickle starts with that is too short for one."""
_TELLING = frozenset({
    "GLOBAL", "STACK_GLOBAL", "MEMOIZE", "BINPUT", "FRAME", "INST", "OBJ",
})  # fmt: skip


def _zip(data: bytes, at: int) -> bool:
    version = int.from_bytes(data[at + 4 : at + 6], "little")
    method = int.from_bytes(data[at + 8 : at + 10], "little")
    name = int.from_bytes(data[at + 26 : at + 28], "little")
    known = method in (0, 8, 9, 12, 14, 93, 95, 98, 99)
    return version & 0xFF <= 63 and known and 0 < name < 1024  # noqa: PLR2004


def _zip_end(data: bytes, at: int) -> bool:
    end = data[at : at + 22]
    here, whole = end[8:10], end[10:12]
    return len(end) == 22 and end[4:8] == bytes(4) and here == whole and end[12:16] != bytes(4)  # noqa: PLR2004


def _inflates(bits: int) -> Callable[[bytes, int], bool]:
    """Return a check that a stream can be decompressed, to its end or for half a kilobyte."""

    def check(data: bytes, at: int) -> bool:
        window = data[at : at + 4096]
        machine = zlib.decompressobj(bits)
        try:
            inside = machine.decompress(window, 1 << 20)
        except zlib.error:
            return False
        return machine.eof or (len(window) >= 512 and len(inside) >= 64)  # noqa: PLR2004 - a header alone fits by chance

    return check


def _gzip(data: bytes, at: int) -> bool:
    return data[at + 3 : at + 4] < b"\x20" and _inflates(31)(data, at)


def _tar(data: bytes, at: int) -> bool:
    """Whether a header's sum is right, that of its bytes with the sum itself as blanks."""
    head = data[at : at + 512]
    if len(head) < 512:  # noqa: PLR2004
        return False
    try:
        said = int(head[148:156].strip(b" \0") or b"x", 8)
    except ValueError:
        return False
    return said == sum(head) - sum(head[148:156]) + 8 * 32


def _bitmap(data: bytes, at: int) -> bool:
    return data[at + 6 : at + 10] == bytes(4) and data[at + 14 : at + 18] in (
        b"\x28\0\0\0", b"\x7c\0\0\0", b"\x6c\0\0\0"
    )  # fmt: skip


def _riff(data: bytes, at: int) -> bool:
    return data[at + 8 : at + 12] in (b"WEBP", b"WAVE", b"AVI ")


def _jpeg(data: bytes, at: int) -> bool:
    return data[at + 3 : at + 4] in (b"\xe0", b"\xe1", b"\xdb", b"\xee", b"\xfe") and (
        0 < int.from_bytes(data[at + 4 : at + 6], "big") < 0x4000  # noqa: PLR2004
    )


def _printable_line(data: bytes, at: int) -> bool:
    line = data[at : at + 64].split(b"\n")[0]
    return len(line) > 4 and all(32 <= byte < 127 for byte in line)  # noqa: PLR2004


def _lzma(data: bytes, at: int) -> bool:
    return data[at + 5 : at + 13] == b"\xff" * 8 and data[at + 13 : at + 14] == b"\0"


def _code_object(data: bytes, at: int) -> bool:
    """Whether a marshalled code object follows a .pyc file's header of 16 bytes."""
    return data[at + 2 : at + 4] == b"\r\n" and data[at + 16 : at + 17] in (b"\xe3", b"\x63")


def _python_two(data: bytes, at: int) -> bool:
    """Whether a pickle of protocol 0 follows that imports a name: c module, name."""
    return _IMPORT.match(data, at) is not None and _pickle(data, at)


_IMPORT = re.compile(rb"c[A-Za-z_][\w.]{1,60}\n[A-Za-z_]\w{0,60}\n")

_P, _A, _M = Family.PROGRAM, Family.ARCHIVE, Family.MEDIA
_FORMATS: tuple[_Format, ...] = tuple(
    _Format(magic=magic, kind=kind, family=family, check=check, anywhere=anywhere)
    for magic, kind, family, check, anywhere in (
        (b"\x7fELF", "an ELF program", _P, _elf, True),
        (b"MZ", "a Windows program", _P, _portable_executable, True),
        (b"\xcf\xfa\xed\xfe", "a Mach-O program", _P, _mach_o, True),
        (b"\xce\xfa\xed\xfe", "a Mach-O program", _P, _mach_o, True),
        (b"\xfe\xed\xfa\xcf", "a Mach-O program", _P, _mach_o, True),
        (b"\xfe\xed\xfa\xce", "a Mach-O program", _P, _mach_o, True),
        (b"\xca\xfe\xba\xbe", "a Mach-O or Java program", _P, _fat_or_java, True),
        (b"\0asm\1\0\0\0", "a WebAssembly program", _P, _always, True),
        (b"dex\n03", "an Android program", _P, _always, True),
        *(
            (bytes((version, 13)), "Python byte code", _P, _code_object, False)
            for version in range(0x42, 0x100)
        ),
        *(
            (bytes((version, 14)), "Python byte code", _P, _code_object, False)
            for version in range(0x20)
        ),
        *((bytes((0x80, n)), "a pickle", Family.PICKLE, _pickle, True) for n in (2, 3, 4, 5)),
        *(
            (b"c" + letter.encode(), "a pickle", Family.PICKLE, _python_two, False)
            for letter in "_abcdefghijklmnopqrstuvwxyz"
        ),
        (b"PK\3\4", "a ZIP archive", _A, _zip, True),
        (b"PK\5\6", "the end of a ZIP archive", _A, _zip_end, True),
        (b"\x1f\x8b\x08", "data compressed by gzip", _A, _gzip, True),
        (b"BZh", "data compressed by bzip2", _A, lambda d, a: d[a + 4 : a + 10] == b"1AY&SY", True),
        (b"\xfd7zXZ\0", "data compressed by xz", _A, _always, True),
        (b"]\0\0", "data compressed by LZMA", _A, _lzma, False),
        (b"7z\xbc\xaf\x27\x1c", "a 7z archive", _A, _always, True),
        (b"Rar!\x1a\x07", "a RAR archive", _A, _always, True),
        (b"\x28\xb5\x2f\xfd", "data compressed by Zstandard", _A, _always, False),
        (b"\x04\x22\x4d\x18", "data compressed by LZ4", _A, _always, False),
        (b"MSCF\0\0\0\0", "a cabinet archive", _A, _always, True),
        (b"!<arch>\n", "an ar archive", _A, _always, True),
        *(
            (b"\x78" + level, "data compressed by zlib", _A, _inflates(15), False)
            for level in (b"\x01", b"\x5e", b"\x9c", b"\xda")
        ),
        (b"%PDF-", "a PDF document", Family.DOCUMENT, lambda d, a: d[a + 5 : a + 7] in (b"1.", b"2."), True),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an Office document", Family.DOCUMENT, _always, True),
        (b"{\\rtf1", "an RTF document", Family.DOCUMENT, _always, True),
        (b"SQLite format 3\0", "an SQLite database", Family.DOCUMENT, _always, True),
        (b"#!/", "a script", Family.SCRIPT, _printable_line, False),
        (b"\x89PNG\r\n\x1a\n", "a PNG picture", _M, _always, True),
        (b"\xff\xd8\xff", "a JPEG picture", _M, _jpeg, False),
        (b"GIF87a", "a GIF picture", _M, _always, True),
        (b"GIF89a", "a GIF picture", _M, _always, True),
        (b"BM", "a bitmap picture", _M, _bitmap, False),
        (b"RIFF", "a media file", _M, _riff, True),
        (b"OggS\0", "a media file", _M, _always, False),
        (b"\x89HDF\r\n\x1a\n", "an HDF5 file", Family.MODEL, _always, True),
        (b"GGUF", "a GGUF model", Family.MODEL, lambda d, a: d[a + 5 : a + 8] == bytes(3), False),
    )
)  # fmt: skip
_ELSEWHERE = (
    _Format(magic=b"ustar", kind="a tar archive", family=_A, check=_tar, offset=257),
    _Format(magic=b"TFL3", kind="a TensorFlow Lite model", family=Family.MODEL, check=_always, offset=4),
    _Format(magic=b"ORTM", kind="an ONNX Runtime model", family=Family.MODEL, check=_always, offset=4),
    _Format(magic=b"ftyp", kind="a media file", family=_M, check=_always, offset=4),
)  # fmt: skip
_BY_START: dict[bytes, list[_Format]] = collections.defaultdict(list)
_PAIRS = np.zeros(1 << 16, bool)
for _form in _FORMATS:
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


def _opened(form: _Format, head: bytes, at: int, size: int, depth: int) -> Content:
    """Return what was found; of a compressed stream, what is inside it where that is known."""
    bits = {"data compressed by gzip": 31, "data compressed by zlib": 15}.get(form.kind)
    if bits is not None and depth < _DEEPEST:
        inside = zlib.decompressobj(bits).decompress(head[at:], WINDOW)
        inner = of_bytes(inside, depth + 1) or of_text(inside.decode("latin-1"), depth + 1)
        if inner is not None:
            wrapping = (form.kind.rsplit(" ", 1)[1], *inner.wrapping)
            return Content(
                kind=inner.kind, family=inner.family, start=at, size=size, wrapping=wrapping
            )
    return Content(kind=form.kind, family=form.family, start=at, size=size)


# Scripts are recognised by what no documentation, stack trace or class name says.
_WRITTEN = tuple(
    (re.compile(pattern, flags), kind, family)
    for pattern, kind, family, flags in (
        (r"\A\s*#!\s*/\S", "a script", Family.SCRIPT, 0),
        (r"<\?php\b|<script\b|<svg\b[^>]*\bon\w+=|javascript:", "a web script", Family.SCRIPT, re.IGNORECASE),
        (r"\A\s*(<!doctype html|<html\b)", "a web page", Family.DOCUMENT, re.IGNORECASE),
        (r"\A\s*%PDF-[12]\.", "a PDF document", Family.DOCUMENT, 0),
        (r"\A\s*\{\\rtf1", "an RTF document", Family.DOCUMENT, 0),
        (r"-----BEGIN [A-Z ]*PRIVATE KEY", "a private key", Family.KEY, 0),
        (
            r"__import__\s*\(|\bos\.(system|popen|execv\w*)\s*\(|\bsubprocess\.\w+\s*\(|\bpty\.spawn\s*\("
            r"|\b(exec|eval)\s*\(\s*(compile|base64|bytes|__|zlib|marshal|codecs)"
            r"|\b(marshal|pickle)\.loads\s*\(|\bimport\s+(socket|ctypes|subprocess|pty|marshal)\b",
            "a Python script", Family.SCRIPT, 0,
        ),
        (
            r"/dev/tcp/\d|\b(curl|wget)\b[^\n|]{0,300}\|\s*(ba|z|da)?sh\b|\b(ba)?sh\s+-[ic]\b|/bin/(ba|z)?sh\b"
            r"|\bnc\s+-\w*e\b|\brm\s+-rf\s+[/~]|\bchmod\s+(\+x|0?7\d\d)\b|\bbase64\s+(-d|--decode)\b",
            "a shell script", Family.SCRIPT, 0,
        ),
        (
            r"\bpowershell(\.exe)?\b[^\n]{0,40}\s-\w|\bInvoke-(Expression|WebRequest)\b|\bIEX\s*\(|\bcmd(\.exe)?\s+/c\b"
            r"|\bCreateObject\s*\(|\bWScript\.Shell\b|\bDownloadString\s*\(|\A\s*@echo\s+off",
            "a Windows script", Family.SCRIPT, re.IGNORECASE,
        ),
        (r"\brequire\s*\(\s*['\"]child_process|\bnew\s+Function\s*\(|\bprocess\.binding\s*\(", "a JavaScript", Family.SCRIPT, 0),
    )
)  # fmt: skip

_BASE64 = re.compile(r"[A-Za-z0-9+/_-]{32,}={0,2}")
_BASE32 = re.compile(r"[A-Z2-7]{32,}=*")
_HEX = re.compile(r"(?:[0-9a-fA-F]{2}[ :,]?){24,}")
_ESCAPES = re.compile(r"(?:\\x[0-9a-fA-F]{2}){12,}|(?:0x[0-9a-fA-F]{1,2}[,;\s]{0,2}){12,}")
_DECIMALS = re.compile(r"(?:\d{1,3}[,;\s]{1,2}){24,}\d{1,3}")
_BASE85 = re.compile(r"[!-~]{40,}")
_UNBROKEN = re.compile(r"[!-~]{1024,}")
_MOST_RUNS = 64


def _unwrapped(text: str, depth: int) -> Iterator[Content]:
    """Yield what the encoded runs in a text hold, where it is of a known format."""
    joined = _joined(text)
    for name, pattern, decode in _ARMOURS:
        for found in list(_limited(pattern, joined)):
            try:
                raw = decode(found.group())
            except (ValueError, binascii.Error, OverflowError):
                continue
            inner = of_bytes(raw, depth + 1) if len(raw) > LEAST_UNKNOWN else at_start(raw, depth + 1)
            if inner is None and raw.isascii():
                inner = of_text(raw.decode("ascii"), depth + 1)
            if inner is not None:
                size = found.end() - found.start()
                yield Content(
                    kind=inner.kind, family=inner.family, start=found.start(), size=size,
                    wrapping=(name, *inner.wrapping),
                )  # fmt: skip


def _limited(pattern: re.Pattern[str], text: str) -> Iterator[re.Match[str]]:
    for count, found in enumerate(pattern.finditer(text)):
        if count == _MOST_RUNS:
            return
        yield found


def _joined(text: str) -> str:
    """Return a text whose encoded lines are put together, such as those of 64 or 76 characters."""
    return _LINE_END.sub("", text) if "\n" in text else text


_LINE_END = re.compile(r"(?<=[A-Za-z0-9+/=_-]{16})\r?\n[ \t]*(?=[A-Za-z0-9+/=_-]{4})")


def _from_base64(run: str) -> bytes:
    core = run.rstrip("=")[: WINDOW * 4 // 3 // 4 * 4].translate(_URL_SAFE)
    return base64.b64decode(core + "=" * (-len(core) % 4))


def _from_base32(run: str) -> bytes:
    core = run.rstrip("=")[: WINDOW // 8 * 8]
    return base64.b32decode(core + "=" * (-len(core) % 8))


def _from_hex(run: str) -> bytes:
    core = run[: 2 * WINDOW].translate(_SEPARATORS)
    return bytes.fromhex(core[: len(core) // 2 * 2])


def _from_escapes(run: str) -> bytes:
    return bytes(int(code, 16) for code in _CODES.findall(run[: 4 * WINDOW]))


def _from_decimals(run: str) -> bytes:
    return bytes(map(int, _DIGITS.findall(run[: 4 * WINDOW])))


def _from_base85(run: str) -> bytes:
    core, raw = run[: WINDOW // 5 * 5], b""
    if len(set(core[:64]) & _MARKS) < 6:  # noqa: PLR2004 - a path or a sentence
        raise ValueError("not in base85")
    for decode in (base64.b85decode, base64.a85decode):
        try:
            raw = decode(core)
        except ValueError:
            continue
        if of_bytes(raw, _DEEPEST) is not None:
            return raw
    return raw


_MARKS = frozenset(string.punctuation)
_URL_SAFE = str.maketrans("-_", "+/")
_SEPARATORS = str.maketrans("", "", " :,")
_CODES = re.compile(r"x([0-9a-fA-F]{1,2})")
_DIGITS = re.compile(r"\d+")
_ARMOURS: tuple[tuple[str, re.Pattern[str], Callable[[str], bytes]], ...] = (
    ("base64", _BASE64, _from_base64),
    ("hexadecimal", _HEX, _from_hex),
    ("escapes", _ESCAPES, _from_escapes),
    ("decimal numbers", _DECIMALS, _from_decimals),
    ("base32", _BASE32, _from_base32),
    ("base85", _BASE85, _from_base85),
)
