"""Formats of files, each by its first bytes and by a check of the structure that follows them.

In a hundred megabytes of weights any four bytes stand somewhere by chance, so that first bytes
alone prove little. Nothing is executed, and at most a window is decompressed or walked.

Sources: the System V ABI, "ELF header"; Microsoft's "PE Format"; Apple's "Mach-O File Format";
PKWARE's APPNOTE.TXT; RFC 1950 (zlib) and 1952 (gzip); POSIX.1-1988, "ustar"; the Python
documentation of `pickletools`.
"""

import enum
import io
import pickletools
import re
import warnings
import zlib
from collections.abc import Callable, Iterator
from typing import Any

from scanner.values import frozen

WINDOW = 1 << 16
"""Bytes that are decoded, or looked at, to tell what something is."""


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
    CERTIFICATE = "certificate"
    UNKNOWN = "unknown"


@frozen
class Format:
    """A format: its first bytes, and what is checked behind them.

    Attributes:
        magic: The first bytes.
        kind: What it is, as in "an ELF program".
        family: What is to be thought of it.
        check: Whether the bytes behind a position fit, given all bytes and that position.
        anywhere: Whether first bytes and check together never fit by chance, so that it may be
            looked for in the middle of weights.
        offset: How many bytes stand before the first ones.
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


def _operations(stream: io.BytesIO) -> Iterator[tuple[pickletools.OpcodeInfo, Any, int | None]]:
    """Yield a pickle's opcodes, without a word about strings that are none."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        yield from pickletools.genops(stream)


def _pickle(data: bytes, at: int, least: int = 5) -> bool:
    """Whether opcodes follow one another to a STOP, or for as long as the window goes.

    Args:
        data: Any bytes.
        at: Where a pickle starts.
        least: Opcodes below which it may be chance.
    """
    stream = io.BytesIO(data[at : at + WINDOW])
    second, names, count, stack = data[at + 2 : at + 3], set(), 0, _Stack()
    new = data[at] == 0x80 and data[at + 1] >= 4  # noqa: PLR2004 - protocols 4 and 5
    if new and second not in _AFTER_VERSION:
        return False
    try:
        for operation, argument, _ in _operations(stream):
            count += 1
            names.add(operation.name)
            if not stack.takes(operation):
                return False
            if operation.name == "STOP":
                return count >= least and bool(names & _TELLING)
            if operation.name == "FRAME" and not 0 < int(argument or 0) < 1 << 40:
                return False
    except (ValueError, IndexError, UnicodeDecodeError, OverflowError, MemoryError):
        cut = stream.tell() == len(stream.getbuffer())  # by the window, or by whoever hid it
        return cut and count > 12 and bool(names & _TELLING)  # noqa: PLR2004 - as above
    return False


class _Stack:
    """How much lies on a pickle's stack: one that takes what is not there cannot be loaded.

    Random bytes are opcodes now and then, but few of them can follow one another.
    """

    def __init__(self) -> None:
        self._height = 0
        self._marks: list[int] = []  # the height where each mark lies

    def takes(self, operation: pickletools.OpcodeInfo) -> bool:
        """Whether an opcode finds what it needs; what it leaves is on the stack then."""
        before = list(operation.stack_before)
        if operation.name in _READS_TOP and not self._height:
            return False
        if pickletools.markobject in before:
            if not self._marks:
                return False
            self._height = self._marks.pop()
            before = before[: before.index(pickletools.markobject)]
        elif operation.name == "POP" and self._marks and self._marks[-1] == self._height:
            self._marks.pop()
            return True
        self._height -= len(before)
        if self._height < 0:
            return False
        if operation.name == "MARK":
            self._marks.append(self._height)
        else:
            self._height += len(operation.stack_after)
        return True


_READS_TOP = frozenset({"BINPUT", "LONG_BINPUT", "MEMOIZE", "PUT"})
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
        # A header alone fits by chance.
        return machine.eof or (len(window) >= 512 and len(inside) >= 64)  # noqa: PLR2004

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


def _pdf(data: bytes, at: int) -> bool:
    return data[at + 5 : at + 7] in (b"1.", b"2.")


def _lzma(data: bytes, at: int) -> bool:
    return data[at + 5 : at + 13] == b"\xff" * 8 and data[at + 13 : at + 14] == b"\0"


def _code_object(data: bytes, at: int) -> bool:
    """Whether a marshalled code object follows a .pyc file's header of 16 bytes."""
    return data[at + 2 : at + 4] == b"\r\n" and data[at + 16 : at + 17] in (b"\xe3", b"\x63")


def _python_two(data: bytes, at: int) -> bool:
    """Whether a pickle of protocol 0 follows that imports a name: c module, name."""
    return _IMPORT.match(data, at) is not None and _pickle(data, at, least=3)


_IMPORT = re.compile(rb"c[A-Za-z_][\w.]{1,60}\n[A-Za-z_]\w{0,60}\n")

_P, _A, _M, _N = Family.PROGRAM, Family.ARCHIVE, Family.MEDIA, Family.MODEL
FORMATS: tuple[Format, ...] = tuple(
    Format(magic=magic, kind=kind, family=family, check=check, anywhere=anywhere)
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
        (b"%PDF-", "a PDF document", Family.DOCUMENT, _pdf, True),
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
        (b"\x89HDF\r\n\x1a\n", "an HDF5 file", _N, _always, True),
        (b"GGUF", "a GGUF model", _N, lambda d, a: d[a + 5 : a + 8] == bytes(3), False),
    )
)  # fmt: skip
ELSEWHERE = (
    Format(magic=b"ustar", kind="a tar archive", family=_A, check=_tar, offset=257),
    Format(magic=b"TFL3", kind="a TensorFlow Lite model", family=_N, check=_always, offset=4),
    Format(magic=b"ORTM", kind="an ONNX Runtime model", family=_N, check=_always, offset=4),
    Format(magic=b"ftyp", kind="a media file", family=_M, check=_always, offset=4),
)  # fmt: skip
