"""Texts of one kind of place as one stream: all names of nodes, all comments, all domains.

Whoever cuts a load into many names leaves in each too little to be recognised. So the texts of one
kind are looked at together, in the order of the file: decoded, once what all of them share and what
only counts them is taken off; and by how much of them reads like no language. Names and comments
are made of words, numbers and abbreviations: of the pairs of letters in them most are frequent in
English too. In random letters and digits, whatever their alphabet, few are.
"""

import base64
import collections
import itertools
import re
from collections.abc import Callable, Iterator, Sequence

from scanner.graph.audit import armour, content, scripts, writing
from scanner.graph.audit.content import Content
from scanner.graph.audit.places import Place
from scanner.graph.audit.signatures import Family
from scanner.results import Observation, Severity

_LEAST_RANDOM = 160
"""Characters of one kind of place that look random; the most of 1,550 honest files: 82."""
_LEAST_IN_ENTRIES = 800
"""The same of metadata, which may hold digests, or a signature of up to 700 characters."""
_UNNATURAL = 0.6
"""Share of frequent pairs below which a token looks random."""
_TOKEN = re.compile(r"[A-Za-z0-9+=]{8,}")
_PIECES = re.compile(r"[A-Za-z0-9+=]{4,}")
_LEAST_PIECES = 24
_UNNATURAL_PIECES = 0.5
"""The same of what many texts end with, all together; the least of honest files: 0.65."""
_MOST = 1 << 19
"""Characters of one kind of place that are looked at."""
_HEAD = 1 << 13
"""Characters of a stream that are decoded."""
_LEAST_DECODED = 64
_SHOWN = 20

_ENTRY = "StringStringEntryProto.value"
_PASSED_OVER = frozenset({"NodeProto.input", "NodeProto.op_type", "AttributeProto.name"})
"""What repeats names that stand elsewhere, or what the operators' definitions fix."""
_USUAL = {
    "ModelProto.domain": 64, "ModelProto.producer_name": 64, "ModelProto.producer_version": 48,
    "GraphProto.name": 640, "NodeProto.domain": 128, "NodeProto.overload": 64,
    "OperatorSetIdProto.domain": 320, "FunctionProto.domain": 256,
    "TypeProto.denotation": 96, "Dimension.denotation": 192,
    "ModelProto.doc_string": 1536, "GraphProto.doc_string": 512, "ValueInfoProto.doc_string": 512,
    "TensorProto.doc_string": 256, "AttributeProto.doc_string": 256,
    "FunctionProto.doc_string": 512, "FunctionProto.overload": 64,
    "DeviceConfigurationProto.name": 64, "DeviceConfigurationProto.device": 256,
    "NodeDeviceConfigurationProto.configuration_id": 64,
}  # fmt: skip
"""Characters that fields hold at most, all of a kind together, which exporters leave empty or
short: about twice what 1,550 honest files have, and where none has any, a sentence or two."""


class Streams:
    """The texts of each kind of place.

    Attributes:
        named: The kinds of place of which something was recognised: of these no more is told.
    """

    def __init__(self) -> None:
        self.named: set[str] = set()
        self._texts: dict[str, list[str]] = {}
        self._sizes: collections.Counter[str] = collections.Counter()

    def look(self, place: Place, text: str) -> None:
        """Add a text to those of its kind of place."""
        if place.spelt not in _PASSED_OVER:
            left = _MOST - self._sizes[place.spelt]
            if left > 0:
                self._texts.setdefault(place.spelt, []).append(text[:left])
                self._sizes[place.spelt] += len(text)

    def found(self) -> Iterator[tuple[str, Content, int]]:
        """Yield what the texts of a kind hold together, as (place, what, characters)."""
        for spelt, texts in self._texts.items():
            seen = held(texts)
            if seen is not None:
                self.named.add(spelt)
                place = f"{len(texts)} texts, each a {spelt}, put together"
                yield place, seen, sum(map(len, texts))

    def told(self) -> Iterator[Observation]:
        """Yield what no exporter writes: random letters, and much where there is little."""
        left = {spelt: texts for spelt, texts in self._texts.items() if spelt not in self.named}
        random = {spelt: random_characters(texts) for spelt, texts in left.items()}
        odd = {
            spelt: count
            for spelt, count in random.items()
            if count >= (_LEAST_IN_ENTRIES if spelt == _ENTRY else _LEAST_RANDOM)
        }
        if odd:
            yield _said("random-text", "look random and are no words, in", odd)
        sizes = {s: sum(map(len, set(texts))) for s, texts in left.items() if s in _USUAL}
        strange = {s: count for s, t in left.items() if s in _NAMES and (count := _unusual(t))}
        if strange:
            yield _said("unusual-characters", "of names are none that exporters write, in", strange)
        even = {s: count for s, t in left.items() if s in _NAMES and (count := _even_numbers(t))}
        if even:
            yield _said(
                "random-text", "of numbers in names are as even as those of bytes, in", even
            )
        long = {s: count for s, t in left.items() if s in _NAMES and (count := _no_counters(t))}
        if long:
            yield _said(
                "random-text", "of numbers in names are no counters, which are small, in", long
            )
        large = {spelt: size for spelt, size in sizes.items() if size > _USUAL[spelt]}
        if large:
            yield _said("full-field", "stand where exporters write few or none:", large)


def _said(code: str, said: str, found: dict[str, int]) -> Observation:
    return Observation(
        code=code,
        severity=Severity.NOTE,
        sentence=f"{sum(found.values())} characters {said} {', '.join(sorted(found)[:_SHOWN])}",
        nodes=tuple(sorted(found)[:_SHOWN]),
        details={"characters": sum(found.values())},
    )


def random_characters(texts: Sequence[str]) -> int:
    """Return how many characters of texts look random; what repeats counts once."""
    tokens = {token for text in set(texts) for token in _TOKEN.findall(text)}
    alone = sum(len(token) for token in tokens if natural([token]) < _UNNATURAL)
    return max(alone, _random_ends(texts))


def _even_numbers(texts: Sequence[str]) -> int:
    """Return how many of the last numbers of names are as even as bytes of compressed data."""
    found = [numbers[-1] for text in texts if (numbers := _NUMBER.findall(text))]
    return writing.even_bytes(found) if len(set(found)) < len(found) else 0


def _no_counters(texts: Sequence[str]) -> int:
    """Return how many digits of names are of numbers that no exporter counts up to.

    Numbers of nodes follow one another, and grow with the file. A digest or a time is one number
    of 16 digits or a few, or all start alike.
    """
    found = list(dict.fromkeys(n for text in texts for n in _LONG_NUMBER.findall(text)))
    huge = [number for number in found if len(number) >= _LONG_DIGITS]
    if len(huge) >= _MANY_LONG and len({number[:2] for number in huge}) > _MANY_LONG // 2:
        return sum(map(len, huge))
    values = [int(number) for number in found if len(number) < _LONG_DIGITS]
    if len(values) < _MANY_FAR or max(values) - min(values) < _FAR_APART * len(texts):
        return 0
    rising = sum(a < b for a, b in itertools.pairwise(values)) / (len(values) - 1)
    # Of each kind of node some counters are few and far: a median tells it from a stray one.
    middle = sorted(values)[len(values) // 2]
    scattered = _UNSORTED < rising < 1 - _UNSORTED and middle > _FAR_APART * len(texts)
    return sum(map(len, found)) if scattered else 0


_LONG_NUMBER = re.compile(r"(?<![\dA-Za-z])\d{5,}(?![\dA-Za-z])")
_LONG_DIGITS, _MANY_LONG = 16, 8
_MANY_FAR, _FAR_APART = 24, 64
_UNSORTED = 0.35


def _random_ends(texts: Sequence[str]) -> int:
    """Return how many characters texts end with, if these ends, all together, look random."""
    ends = {found[-1] for text in set(texts) if (found := _PIECES.findall(text))}
    ends = {end for end in ends if not end.isdigit()}
    if len(ends) < _LEAST_PIECES or natural(ends) > _UNNATURAL_PIECES:
        return 0
    return sum(map(len, ends))


def _unusual(texts: Sequence[str]) -> int:
    """Return how many characters are not of a name; few of a few kinds count as none."""
    found = _NOT_OF_NAMES.findall("".join(set(texts)))
    return len(found) if len(found) >= _LEAST_UNUSUAL and len(set(found)) >= _LEAST_KINDS else 0


_NOT_OF_NAMES = re.compile(r"[^A-Za-z0-9_./:;\-]")
_LEAST_UNUSUAL, _LEAST_KINDS = 64, 3
"""The most of 1,550 honest files: 258 of one kind, and 42 of five."""
_NAMES = frozenset({
    "NodeProto.name", "NodeProto.output", "TensorProto.name", "ValueInfoProto.name",
    "GraphProto.name", "OperatorSetIdProto.domain", "StringStringEntryProto.key",
    "FunctionProto.name", "FunctionProto.output", "FunctionProto.input",
})  # fmt: skip


def natural(tokens: Sequence[str] | set[str]) -> float:
    """Return the share of pairs of characters that are frequent in words, or two digits."""
    pairs = [a + b for token in map(str.lower, tokens) for a, b in zip(token, token[1:])]  # noqa: B905, RUF007 - the last has no next
    return sum(pair in _FREQUENT or pair.isdigit() for pair in pairs) / max(len(pairs), 1)


def held(texts: Sequence[str]) -> Content | None:
    """Return what several texts hold together, once what they share is taken off; or None."""
    if len(texts) <= 1:
        return None
    if (seen := content.at_start(_last_numbers(texts))) is not None:
        return seen.inside("decimal numbers")
    looked_at = set()
    for pieces in itertools.chain.from_iterable(map(_bare, _alike(texts))):
        if (start := tuple(_up_to(pieces))) in looked_at:
            continue
        looked_at.add(start)
        for encoding, data in _decoded(pieces):
            seen = content.at_start(data)
            if seen is None and encoding not in _FIT_ANYTHING and _is_prose(data):
                script = scripts.find(data.decode("latin-1"))
                seen = _TEXT if script is None else Content(kind=script.kind, family=script.family)
            if seen is not None:
                return seen.inside(encoding)
        script = scripts.find("".join(pieces)[:_HEAD])
        if script is not None and script.family is Family.SCRIPT and not _each(pieces):
            return Content(kind=script.kind, family=script.family, start=script.start)
    return None


def _last_numbers(texts: Sequence[str]) -> bytes:
    """Return the last number of each text as a byte; nothing where they are none or count up."""
    found = [int(number[-1]) for text in texts if (number := _NUMBER.findall(text))]
    rising = sum(a < b for a, b in itertools.pairwise(found))
    if len(found) < _LEAST_DECODED or max(found) > 255 or rising > 0.9 * len(found):  # noqa: PLR2004
        return b""
    return bytes(found)


_NUMBER = re.compile(r"(?<!\d)\d{1,3}(?!\d)")


def _is_prose(data: bytes) -> bool:
    """Whether bytes are text with separators: what names happen to decode to has none."""
    separators = len(data) - len(data.translate(None, b" ,;\n\t"))
    return content.is_text(data) and separators > len(data) * _SEPARATORS


_SEPARATORS = 0.03
_FIT_ANYTHING = ("base85", "ASCII85")  # some text or other
_TEXT = Content(kind="text", family=Family.UNKNOWN)


def _each(pieces: Sequence[str]) -> bool:
    """Whether one text alone holds a script, which is told elsewhere."""
    return any(scripts.find(piece) is not None for piece in pieces)


def _bare(texts: Sequence[str]) -> Iterator[list[str]]:
    """Yield texts without what they share, and without what may be a counter or a label."""
    start, end = _shared(texts), _shared([text[::-1] for text in texts])
    ways: tuple[Callable[[str], str], ...] = (
        lambda text: text,
        lambda text: text[start : len(text) - end],
        lambda text: _COUNTER.sub("", text[start : len(text) - end]),
        lambda text: _SEPARATOR.split(text, maxsplit=1)[-1],
        lambda text: _SEPARATOR.split(text)[-1],
        lambda text: _SEPARATOR.split(text, maxsplit=1)[0],
    )
    told: list[list[str]] = []
    for way in ways:
        pieces = [piece for text in texts if (piece := way(text))]
        if pieces and pieces not in told:
            told.append(pieces)
            yield pieces


def _alike(texts: Sequence[str]) -> Iterator[list[str]]:
    """Yield all texts, and those that are built alike: other names may stand among the pieces."""
    yield list(texts)
    built: dict[str, list[str]] = {}
    for text in texts:
        built.setdefault(_WORD.sub("x", text), []).append(text)
    for group in sorted(built.values(), key=len, reverse=True)[:_GROUPS]:
        if len(group) > 1:
            yield group
            first = next((at for at, text in enumerate(group) if _looks_random(text)), 0)
            yield group[first:]


_WORD = re.compile(r"[A-Za-z0-9+=]+")
_GROUPS = 3


def _looks_random(text: str) -> bool:
    return any(natural([token]) < _UNNATURAL for token in _TOKEN.findall(text))


def _shared(texts: Sequence[str]) -> int:
    """Return with how many characters all texts start alike."""
    least, most = min(texts), max(texts)
    pairs = enumerate(zip(least, most, strict=False))
    return next((at for at, (a, b) in pairs if a != b), min(len(least), len(most)))


_COUNTER = re.compile(r"\A[^A-Za-z0-9]?\d{1,6}[_.:/\-|# ]")
_SEPARATOR = re.compile(r"[_.:/|# \-]")


def _decoded(pieces: Sequence[str]) -> Iterator[tuple[str, bytes]]:
    """Yield what pieces are in each alphabet that fits them: as a whole, and one by one."""
    joined = _up_to(pieces)
    head = "".join(joined)
    if len(head) < _LEAST_DECODED:
        return
    for name, alphabet, decode in _ALPHABETS:
        if not alphabet.fullmatch(head):
            continue
        whole = [head.replace("=", "")]
        for way in [whole] if name in _FIT_ANYTHING else [whole, joined]:
            parts = [_tried(decode, piece) for piece in way]
            known = [part for part in parts if part is not None]
            data = b"".join(known)
            if len(known) == len(parts) and len(data) >= _LEAST_DECODED // 2:
                yield name, data


def _up_to(pieces: Sequence[str]) -> list[str]:
    taken, size = [], 0
    for piece in pieces:
        if size + len(piece) > _HEAD:
            break
        taken.append(piece)
        size += len(piece)
    return taken


def _tried(decode: Callable[[str], bytes], text: str) -> bytes | None:
    try:
        return decode(text)
    except ValueError:
        return None


def _from_base64(text: str) -> bytes:
    """Return what a piece holds; of one digit too many in it nothing is known."""
    core = text.rstrip("=")
    return armour.from_base64(core[: len(core) - (len(core) % 4 == 1)])


_ALPHABETS = (
    ("hexadecimal", re.compile(r"[0-9a-fA-F]+"), armour.from_hex),
    ("base32", re.compile(r"[A-Z2-7=]+|[a-z2-7=]+"), lambda text: armour.from_base32(text.upper())),
    ("base64", re.compile(r"[A-Za-z0-9+/=_-]+"), _from_base64),
    ("base85", re.compile(r"[!-~]+"), base64.b85decode),
    ("ASCII85", re.compile(r"[!-u]+"), base64.a85decode),
)
_FREQUENT = frozenset(
    re.findall(
        "..",
        (
            "abacadafagaiakalamanaparasatauavaxaybabebiblbobrbubycacccechcick"
            "clcoctcudadddedgdidndodrdseaecedeeefegeielemenepereseteuevewexey"
            "fafefffiflfofrftfugageggghgigrgsgtguhahehihohrhshtiaibicidieifig"
            "iliminioipirisitivixizjskdkekikslaldlelflilllolsltlulymambmdmemi"
            "mmmnmompmsmunancndnenfngninknlnmnnnonpnsntnunvnxnyoaobocodoeofog"
            "oiokolomonoooporosotouovowpapephpiplpmpoppprpsptpupyqurarbrcrdre"
            "rgrirkrmrnrorrrsrtrurysascseshsisksmsospsrssstsuswtatctethtitotp"
            "trtstttutwtyuaucudueulumunupurusutvaveviwawewhwiwnwowrwsxexpxtye"
            "yoysytze"
        ),
    )
)
"""The 260 most frequent pairs of letters in this project's documentation."""
