"""How a text is written: what its spaces, letters and numbers say beside its words.

One space or two, a tab or a blank at the end of a line, a Latin or a Cyrillic letter, a capital
inside a word: each is a bit that no reader sees. And numbers and rare characters may be data as
they are: bytes as versions, fractions of a power of two as losses, ideographs that nobody uses.
"""

import collections
import re
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from scanner.graph.audit.places import Place
from scanner.results import Observation, Severity

_LEAST = 64
"""Bits below which nothing worth a name can be hidden."""
_LEAST_WORDS = 16
_LEAST_NUMBERS = 96
_MOST = 1 << 17
"""Characters of a text that are looked at."""
_SHOWN = 20


class Writing:
    """The texts of a model that are written in a way that carries bits."""

    def __init__(self) -> None:
        self._odd: dict[str, dict[str, int]] = collections.defaultdict(dict)

    def look(self, place: Place, text: str) -> None:
        """Keep a place if its text is written oddly."""
        if len(text) < _LEAST or place.spelt in _PASSED_OVER:
            return
        for said, count in _WAYS.items():
            if found := count(text[:_MOST]):
                self._odd[said][place.name] = found

    def told(self) -> Iterator[Observation]:
        """Yield one observation for each way of writing."""
        for said, places in self._odd.items():
            yield Observation(
                code="odd-writing",
                severity=Severity.NOTE,
                sentence=f"{len(places)} texts have {said}: up to {max(places.values())} bits or "
                "characters that no reader sees as data",
                nodes=tuple(places)[:_SHOWN],
                details={"count": len(places), "size": sum(places.values())},
            )


_PASSED_OVER = frozenset({"NodeProto.input", "NodeProto.op_type", "AttributeProto.name"})


def _of_spaces(text: str) -> int:
    """Return how many gaps within sentences are of one space or two, if they are mixed."""
    double = len(_DOUBLE.findall(text))
    if double < _LEAST:
        return 0
    gaps = len(_GAP.findall(text))
    return gaps if _SHARE * gaps < double < (1 - _SHARE) * gaps else 0


_DOUBLE = re.compile(r"(?<=[a-z0-9,])  (?=[A-Za-z0-9])")
_GAP = re.compile(r"(?<=[a-z0-9,]) {1,2}(?=[A-Za-z0-9])")
_SHARE = 0.05


def _of_line_ends(text: str) -> int:
    """Return how many blanks and tabs stand at the ends of lines, if there are both."""
    if " \n" not in text and "\t\n" not in text:
        return 0
    ends = "".join(_LINE_END.findall(text))
    return len(ends) if min(ends.count(" "), ends.count("\t")) >= _LEAST // 4 else 0


_LINE_END = re.compile(r"[ \t]{1,64}$", re.MULTILINE)


def _of_blanks(text: str) -> int:
    """Return how many spaces are of other kinds than the common one."""
    if text.isascii():
        return 0
    found = _BLANKS.findall(text)
    return len(found) if len(found) >= _LEAST and len(set(found)) > 1 else 0


_BLANKS = re.compile(r"[\u00a0\u1680\u2000-\u200a\u202f\u205f\u3000]")


def _of_scripts(text: str) -> int:
    """Return how many words have letters of two scripts that look alike."""
    if text.isascii():
        return 0
    found = [word for word in _MIXED.findall(text) if _LATIN.search(word)]
    return len(found) if len(found) >= _LEAST_WORDS else 0


_MIXED = re.compile(r"\w{0,32}[\u0370-\u03ff\u0400-\u04ff]\w{0,32}")
_LATIN = re.compile(r"[A-Za-z]")


def _of_capitals(text: str) -> int:
    """Return how many capitals follow a small letter, if one in six pairs is such a one."""
    if text.count(" ") * _LONGEST_WORD < len(text):  # no sentences, but a signature, say
        return 0
    inner = len(_CAPITAL.findall(text))
    return inner if inner >= _LEAST and inner > _CAPITALS * len(_PAIR.findall(text)) else 0


_CAPITAL = re.compile(r"(?<=[a-z])[A-Z]")
_PAIR = re.compile(r"[A-Za-z](?=[A-Za-z])")
_LONGEST_WORD = 16  # on average
_CAPITALS = 1 / 6  # in the names of classes, one in eight


def _of_ideographs(text: str) -> int:
    """Return how many ideographs are in no common set, if many are: those of a language are."""
    if text.isascii():
        return 0
    found = "".join(_IDEOGRAPHS.findall(text))  # one by one they stand in a table of characters
    if len(found) < _LEAST // 2:
        return 0
    rare = sum(map(_is_rare, found))
    return rare if rare > _RARE * len(found) else 0


_IDEOGRAPHS = re.compile(r"[\u3400-\u9fff\uac00-\ud7a3]{4,}")
_RARE = 0.2
_COMMON = ("gb2312", "euc_kr", "shift_jis", "big5")
_FIRST_LEVEL = {"big5": 0xC6, "shift_jis": 0x98}
"""Up to this first byte stand the characters that are in use."""


def _is_rare(character: str) -> bool:
    for code in _COMMON:
        try:
            data = character.encode(code)
        except UnicodeEncodeError:
            continue
        if code not in _FIRST_LEVEL or data[0] <= _FIRST_LEVEL[code]:
            return False
    return True


def _of_symbols(text: str) -> int:
    """Return how many characters are of scripts that no description is written in."""
    if text.isascii():
        return 0
    found = _UNWRITTEN.findall(text)
    return len(found) if len(found) >= _LEAST // 2 and len(set(found)) >= _LEAST_WORDS else 0


_UNWRITTEN = re.compile(
    "[\u2800-\u28ff\ua000-\ua4cf\ua500-\ua63f\ue000-\uf8ff\ufff0-\uffff"
    "\U00010000-\U0001efff\U0001fb00-\U0010ffff]"
)
"""Braille, Yi, Vai, private use, and what lies beyond: but for pictographs."""


def _of_bytes(text: str) -> int:
    """Return how many whole numbers of a text are spread evenly from 0 to 255."""
    return even_bytes(_WHOLE.findall(text))


def even_bytes(numbers: Sequence[str]) -> int:
    """Return how many of some whole numbers are bytes, if these are spread evenly and unsorted.

    Args:
        numbers: Written in decimals, in the order of the file.
    """
    found = [number for number in map(int, numbers[:_MOST_NUMBERS]) if number <= _BYTE]
    if len(found) < _LEAST_NUMBERS:
        return 0
    array = np.asarray(found)
    rising = float((np.diff(array) > 0).mean())
    counts = np.bincount(array // 32, minlength=8)
    expected = len(found) / 8
    squared = float(((counts - expected) ** 2 / expected).sum())
    even = squared < _EVEN and _UNSORTED < rising < 1 - _UNSORTED
    return len(found) if even else 0


_WHOLE = re.compile(r"(?<![\w])\d{1,3}(?![\w])")
_MOST_NUMBERS = 8192
_BYTE = 255
_EVEN = 24.3  # chi-squared of seven degrees of freedom, one in a thousand
_UNSORTED = 0.35


def _of_lattice(text: str) -> int:
    """Return how many fractions are multiples of a step that no decimal has."""
    found = _FRACTION.findall(text)[:_MOST_NUMBERS]
    if len(found) < _LEAST:
        return 0
    levels = np.unique(np.asarray(found, np.float64))
    if not _LEAST_WORDS < len(levels) <= 256 or len(levels) > len(found) * _REPEATED:  # noqa: PLR2004
        return 0
    apart = levels - levels[0]
    step = float(np.diff(levels).min())
    for most in (8, 32, 128, _CODES):  # what was rounded away adds up, so near ones go first
        codes = np.rint(apart / step)
        near = codes <= most
        step = float((apart * codes)[near].sum() / max(float((codes[near] ** 2).sum()), 1.0))
    codes = apart / step
    even = np.abs(codes - np.rint(codes)).max() < _OFF and codes.max() < _CODES
    parts = [step * 10**place for place in range(5)]
    decimal = any(part > 0.5 and abs(part - round(part)) < _OFF for part in parts)  # noqa: PLR2004
    return len(found) if even and not decimal else 0


_OFF = 0.02
_FRACTION = re.compile(r"(?<![\w.])-?\d{1,3}\.\d{5,17}(?![\w.])")
_REPEATED = 0.9
_CODES = 1024


def _of_digits(text: str) -> int:
    """Return how many fractions have a digit in their midst that is uneven, between even ones.

    Of a measured number the first digits are uneven, and all behind them even; of a ratio all are
    uneven from some place on. Bytes that are written in decimals have an uneven first digit again.
    Zeros and nines do not count: rounding leaves them.
    """
    found = [number.partition(".")[2] for number in _FRACTION.findall(text)[:_MOST_NUMBERS]]
    length = collections.Counter(map(len, found)).most_common(1)
    digits = [number for number in found if length and len(number) == length[0][0]]
    if len(digits) < _LEAST_NUMBERS:
        return 0
    columns = np.asarray([list(number.encode()) for number in digits]) - ord("0")
    counts = np.stack([np.bincount(column, minlength=10) for column in columns.T])
    even = _squared(counts) < _EVEN_DIGITS
    uneven = (_squared(counts[:, 1:9]) > _UNEVEN_DIGITS) & (counts[:, 1:9].sum(1) >= _LEAST // 2)
    # Behind what was rounded away no digit says anything.
    last = np.flatnonzero(even)[-1:].sum()
    return len(digits) if (even[:-1] & uneven[1:])[:last].any() else 0


def _squared(counts: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Return Pearson's chi-squared of each row of counts."""
    expected = np.maximum(counts.mean(axis=1, keepdims=True), 1e-9)
    return np.asarray(((counts - expected) ** 2 / expected).sum(axis=1))


_EVEN_DIGITS = 21.7  # of nine degrees of freedom, one in a hundred
_UNEVEN_DIGITS = 40.0  # of seven, one in 800,000


_WAYS: Mapping[str, Callable[[str], int]] = {
    "one space here and two there": _of_spaces,
    "blanks and tabs at the ends of lines": _of_line_ends,
    "spaces of several kinds": _of_blanks,
    "words of two alphabets": _of_scripts,
    "capitals inside words": _of_capitals,
    "ideographs that are hardly used": _of_ideographs,
    "characters that no description is written in": _of_symbols,
    "numbers as even as bytes of compressed data": _of_bytes,
    "fractions that are multiples of one step": _of_lattice,
    "fractions with uneven digits between even ones": _of_digits,
}
