"""Carried goods: data in a model file that no network needs, recognised by what it is.

Every field that may hold bytes is looked at, wherever onnx's schema allows it;
`scanner.graph.audit.places` says which are not, and why.
"""

import itertools
import re
from collections.abc import Iterable, Iterator
from typing import Any

import numpy.typing as npt
import onnx
from onnx import numpy_helper
from onnx.external_data_helper import uses_external_data

from scanner.graph.audit import (
    certificates,
    content,
    geometry,
    idle_numbers,
    ledger,
    ml_operators,
    neutral,
    silent_units,
    spare_rows,
    spare_units,
    subnormal,
    trees,
    views,
    wire,
)
from scanner.graph.audit.content import Content
from scanner.graph.audit.idle_attributes import IdleAttributes
from scanner.graph.audit.names import OddNames, strays
from scanner.graph.audit.odd_bits import OddBits
from scanner.graph.audit.places import places
from scanner.graph.audit.signatures import WINDOW, Family
from scanner.graph.audit.streams import Streams
from scanner.graph.audit.unread import Unread
from scanner.graph.audit.writing import Writing
from scanner.graph.core.facts import FLOATING
from scanner.graph.core.structure import label
from scanner.modelfile.nested import Contents
from scanner.results import Observation, Severity

_SEVERITIES = {
    Family.PROGRAM: Severity.SUSPICIOUS,
    Family.PICKLE: Severity.SUSPICIOUS,
    Family.ARCHIVE: Severity.SUSPICIOUS,
    Family.SCRIPT: Severity.SUSPICIOUS,
    Family.DOCUMENT: Severity.WARNING,
    Family.MEDIA: Severity.WARNING,
    Family.MODEL: Severity.WARNING,
    Family.KEY: Severity.WARNING,
    Family.CERTIFICATE: Severity.NOTE,
    Family.UNKNOWN: Severity.WARNING,
}
_LARGE_UNREAD = 1 << 16
_SHORTEST = 24
"""Characters below which a text holds neither a script nor an encoded start worth a name."""
_FEW_PLACES = 20
"""Things found in one file that are told one by one."""


Array = npt.NDArray[Any]
Found = tuple[str, Content, int]
"""A place, what was recognised there, and how many bytes or characters it has."""


def observe(proto: onnx.ModelProto, data: bytes) -> Iterator[Observation]:
    """Yield what a model file carries.

    Args:
        proto: The parsed file; its external data is looked at where it has been read.
        data: The file's bytes.
    """
    contents = Contents(proto)
    unread, idle = Unread(proto, contents), IdleAttributes(contents)
    unread.attributes |= idle.attributes
    unread.tensors |= {id(tensor): why for tensor, why in idle.tensors()}
    odd, streams, writing = OddNames(), Streams(), Writing()
    graphs = contents.of(onnx.GraphProto)
    spare = [row for graph in graphs for row in spare_units.rows(graph)]
    silent = [row for graph in graphs for row in silent_units.rows(graph)]
    followed = [spare_rows.Followed(graph) for graph in graphs]
    kept = [row for uses in followed for row in geometry.rows(uses)]
    tiny = subnormal.find(contents)
    rows, neutrals = spare_rows.find(followed), neutral.find(contents)
    bits = OddBits(contents)
    met = itertools.chain(
        _in_fields(contents, unread, odd, streams, writing),
        _in_tensors(contents, unread),
        bits.found,
        _in_spare_units([*spare, *silent], "units"),
        _in_spare_units(kept, "places of it"),
        _in_spare_rows(rows),
        _in_subnormal(tiny),
        _in_neutral(neutrals),
    )
    found = {(str(seen), place): (place, seen, size) for place, seen, size in met}
    told = {seen.kind for _, seen, _ in found.values()}
    # The file as a whole says less of where something is: it is asked only for what is left.
    rest = [each for each in _in_file(data) if each[1].kind not in told]
    yield from _told([*found.values(), *rest])
    yield from _polyglot(data)
    yield from _unread(contents, unread)
    yield from spare_units.told(spare)
    yield from silent_units.told(silent)
    yield from geometry.told(kept)
    yield from spare_rows.told(rows)
    yield from neutral.told(neutrals)
    yield from idle_numbers.observe(contents)
    yield from trees.observe(contents)
    yield from ml_operators.observe(contents)
    yield from subnormal.told(tiny)
    yield from streams.told()
    yield from odd.told()
    yield from writing.told()
    yield from strays(proto.graph)
    yield from bits.told()
    yield from idle.told()
    yield from ledger.observe(proto, contents)


def beside(path: str, size: int, data: bytes) -> Observation:
    """Return what a file of external data holds that belongs to no tensor.

    Args:
        path: The file, as the model names it.
        size: How many bytes belong to no tensor.
        data: The first of them.
    """
    if (seen := recognise(data)) is not None:
        (found,) = _told([(f"{path!r} that belong to no tensor", seen, size)])
        return found
    return Observation(
        code="spare-external-data",
        severity=Severity.NOTE,
        sentence=f"{size} bytes of {path!r} belong to no tensor of the model",
        nodes=(path,),
        details={"bytes": size},
    )


def severity(seen: Content) -> Severity:
    """Return what something weighs that lies where no network needs it."""
    return _SEVERITIES[seen.family]


def _in_fields(
    contents: Contents, unread: Unread, odd: OddNames, streams: Streams, writing: Writing
) -> Iterator[Found]:
    """Yield what texts, attributes and lists hold, and what many short texts hold together.

    Args:
        contents: All that lies within a model.
        unread: What of it no output depends on.
        odd: The names that no exporter writes are added to it.
        streams: All texts are added to it.
        writing: The texts that are written oddly are added to it.
    """
    known: set[str] = set()
    pieces: dict[str, list[str]] = {}
    for place in places(contents):
        held = place.held
        if isinstance(held, bytes):
            # The noise that an operator reads is its own affair, such as a compiled vocabulary.
            seen = recognise(held, unknown=id(place.message) in unread.attributes)
            if seen is not None:
                yield place.name, seen, len(held)
            if place.spelt in _STRINGS:
                streams.look(place, held.decode("utf-8", "replace"))
            continue
        streams.look(place, held)
        if held in known:
            continue
        known.add(held)
        odd.look(place, held)
        writing.look(place, held)
        if _PIECE.fullmatch(held):
            pieces.setdefault(place.spelt, []).append(held)
        if (seen := _of_text(held)) is not None:
            streams.named.add(place.spelt)
            yield place.name, seen, len(held)
    for spelt, texts in pieces.items():
        if len(texts) > 1 and (seen := _together(texts)) is not None:
            streams.named.add(spelt)
            yield f"{len(texts)} texts, each a {spelt}, put together", seen, sum(map(len, texts))
    yield from streams.found()


_STRINGS = frozenset({"AttributeProto.strings", "AttributeProto.s", "TensorProto.string_data"})


def recognise(data: bytes, *, unknown: bool = True) -> Content | None:
    """Return what bytes are, or hold; text counts as text.

    Args:
        data: Any bytes.
        unknown: Whether it is told if they look compressed or encrypted.
    """
    words = data.isascii() and b"\0" not in data[:_SHORT]  # zeros are ASCII, and no text
    seen = content.of_bytes(data) or (_of_text(data.decode()) if words else None)
    return seen or (_NOISE if unknown and content.noise(data) else None)


def _of_text(text: str) -> Content | None:
    if len(text) < _SHORTEST or (len(text) < _SHORT and not _WORTH.search(text)):
        return None
    if (seen := content.of_text(text)) is not None:
        return seen
    # What is shorter than noise is not told anyway.
    if len(text) >= content.LEAST_UNKNOWN and (kind := certificates.of_text(text)) is not None:
        return Content(kind=kind, family=Family.CERTIFICATE)
    return _NOISE if content.noisy_text(text) else _ENCODED if content.encoded(text) else None


_NOISE = Content(kind="what looks compressed or encrypted", family=Family.UNKNOWN)
_ENCODED = Content(kind="encoded data of no known kind", family=Family.UNKNOWN)
_PIECE = re.compile(r"[A-Za-z0-9+/=_-]{8,}")
_SHORT = 256
_WORTH = re.compile(r"[A-Za-z0-9+/_-]{32}|[^\x00-\x7f]|[(<#|;]|\\x|(\d+, ?){8}|[!-,:-@\[-`{-~]{2}")
"""What a short text needs to have, to be worth a closer look."""
_MOST_STARTS = 64
_MOST_OF_NAMES = 40  # different characters: base 64 has more
_STARTS = re.compile(
    r"f0VM|TV[pqoro]|UEsD|H4sI|gA[SWFQJMN]|/Td6|QlpoO|N3q8|JVBE|iVBO|IyEv|KLUv|eJ|eN|eA"
    r"|(?i:7f454c46|4d5a|504b0304|1f8b08|800[2345]|fd377a|425a68|23212f|255044|89504e)"
)


def _together(texts: list[str]) -> Content | None:
    """Return what short texts hold that are one encoded text, cut into pieces."""
    starts = (start for start, text in enumerate(texts) if _STARTS.match(text))
    for start in itertools.islice(starts, _MOST_STARTS):
        joined = _up_to("".join(texts[start : start + WINDOW // 8]), WINDOW)
        if (seen := content.of_text(joined)) is not None and seen.wrapping and not seen.start:
            return seen
    joined = "".join(texts)
    # Names may be digests, of sixteen different characters.
    least = content.LEAST_UNKNOWN * (1 if len(set(joined)) > _MOST_OF_NAMES else 4)
    return _NOISE if len(joined) > least and content.noisy_text(joined) else None


def _up_to(text: str, most: int) -> str:
    return text[: most // 8 * 8]


def _in_tensors(contents: Contents, unread: Unread) -> Iterator[Found]:
    """Yield what tensors hold: in those that nothing reads anything, in others what is certain."""
    small: list[bytes] = []
    first = bytearray()
    cast = _cast(contents)
    for tensor in contents.of(onnx.TensorProto):
        if uses_external_data(tensor):
            continue
        why = unread.tensors.get(id(tensor))
        numbers = views.numbers(tensor)
        seen = _strings(tensor) if tensor.string_data else _numbers(tensor, why is not None)
        if seen is None and numbers is not None and _is_noise(tensor, numbers, cast):
            seen = _NOISE
        if seen is not None:
            place = f"tensor {tensor.name!r}" if tensor.name else "a tensor"
            yield place + (f" ({why})" if why else ""), seen, views.size(tensor)
        elif why and numbers is not None and numbers.nbytes <= _SMALL:
            small.append(numbers.tobytes())
        if (
            tensor.data_type == onnx.TensorProto.FLOAT
            and numbers is not None
            and len(first) < WINDOW
        ):
            first += numbers[: (WINDOW - len(first)) // 4].tobytes()
    if (joined := recognise(b"".join(small))) is not None:
        yield (
            f"{len(small)} small tensors that nothing reads, put together",
            joined,
            sum(map(len, small)),
        )
    whole = onnx.TensorProto(data_type=onnx.TensorProto.FLOAT, raw_data=bytes(first))
    if (seen := _numbers(whole, unread=False)) is not None and seen.wrapping:
        yield "the first weights of the file, put together", seen, len(first)


_SMALL = 4096


def _in_spare_units(found: Iterable[spare_units.Row], called: str) -> Iterator[Found]:
    """Yield what the weights of units, or of places of a kernel, hold that nothing reads."""
    for name, units, held in found:
        if (seen := _numbers(held, unread=True)) is not None:
            place = f"tensor {name!r} ({units} {called} that nothing reads)"
            yield place, seen, views.size(held)


def _in_spare_rows(rows: Iterable[spare_rows.Spare]) -> Iterator[Found]:
    """Yield what those numbers of tables hold that no index reaches."""
    for spare in rows:
        held = numpy_helper.from_array(spare.numbers)
        if (seen := _numbers(held, unread=True)) is not None:
            place = f"tensor {spare.name!r} ({spare.numbers.size} numbers that no index reaches)"
            yield place, seen, views.size(held)


def _in_neutral(found: Iterable[neutral.Neutral]) -> Iterator[Found]:
    """Yield what those numbers hold by which nodes do nothing."""
    for each in found:
        if (seen := _numbers(numpy_helper.from_array(each.numbers), unread=True)) is not None:
            yield f"{each.numbers.size} numbers that {each.said}", seen, each.numbers.nbytes


def _in_subnormal(found: Iterable[tuple[str, Array]]) -> Iterator[Found]:
    """Yield what the bits of subnormal numbers hold."""
    for name, words in found:
        for stream in subnormal.streams(words):
            if (seen := content.at_start(stream)) is not None:
                yield f"tensor {name!r} (its subnormal numbers)", seen, len(stream)
                break


def _strings(tensor: onnx.TensorProto) -> Content | None:
    texts = [text.decode("utf-8", "replace") for text in tensor.string_data]
    for raw, text in zip(tensor.string_data, texts, strict=True):
        if len(raw) >= _LONG_STRING and (seen := content.of_bytes(raw) or content.of_text(text)):
            return seen
    if any(content.noisy_text(text) for text in texts):
        return _NOISE
    dense = [text for text in texts if _PIECE.fullmatch(text)]
    return _together(dense) or content.of_bytes(b"".join(tensor.string_data[:1000]))


_LONG_STRING = 64
"""Shorter strings are words of a vocabulary, and that of a language of programs has words of it."""


def _numbers(tensor: onnx.TensorProto, unread: bool) -> Content | None:
    for name, stream in views.of_tensor(tensor, whole=unread):
        seen = content.of_bytes(stream) if unread else content.at_start(stream)
        if seen is None and name not in views.PLAIN and content.is_text(stream[:_TEXT]):
            seen = content.of_text(stream[:WINDOW].decode("latin-1")) or _WORDS
        if seen is None and unread and name in views.PLAIN and content.is_text(stream):
            prose = _WORDS if tensor.data_type in FLOATING else None  # as no weights are
            seen = content.of_text(stream.decode()) or prose
        if seen is None and unread and name in views.PLAIN and content.noise(stream):
            seen = _NOISE
        if seen is not None:
            return seen if name == "bytes" else seen.inside(name)
    return None


_TEXT = 512
_WORDS = Content(kind="text", family=Family.UNKNOWN)


def _is_noise(tensor: onnx.TensorProto, numbers: Array, cast: set[int]) -> bool:
    """Whether a tensor that may be read looks compressed, although its type never does.

    Quantised weights that were never trained are evenly distributed, so that bytes count only where
    they are cast to other numbers, which no quantised layer does.
    """
    bytewise = tensor.data_type in _CODES and id(tensor) in cast
    if not bytewise and tensor.data_type not in _INTEGERS:
        return False
    return content.noise(numbers.tobytes()) is not None


_CODES = (onnx.TensorProto.UINT8, onnx.TensorProto.INT8)
_INTEGERS = (onnx.TensorProto.INT32, onnx.TensorProto.INT64)
_LAYOUT = frozenset({
    "Identity", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose", "Slice", "Split",
    "Gather",
})  # fmt: skip


def _cast(contents: Contents) -> set[int]:
    """Return the identities of the tensors that are cast to another type."""
    origin = {tensor.name: tensor for tensor in contents.of(onnx.TensorProto)}
    found: set[int] = set()
    for node in contents.of(onnx.NodeProto):
        if node.op_type == "Constant":
            held = [a.t for a in node.attribute if a.HasField("t")]
            origin.update(zip(node.output, held, strict=False))
        source = origin.get(node.input[0]) if node.input else None
        if source is not None and node.op_type in _LAYOUT:
            origin.update(dict.fromkeys(node.output, source))
        elif source is not None and node.op_type == "Cast":
            found.add(id(source))
    return found


def _in_file(data: bytes) -> Iterator[Found]:
    """Yield what lies anywhere in the file and cannot be taken for something else.

    Fields that ONNX does not define are told as such.
    """
    for seen in content.all_within(data, _FEW_PLACES):
        place = wire.place_of(data, seen.start)
        if not place.endswith(wire.UNDEFINED):
            yield place, seen, seen.size


def _told(found: list[Found]) -> Iterator[Observation]:
    """Yield one observation for each thing found, and one for what is left of many."""
    worst = sorted(found, key=lambda each: -_SEVERITIES[each[1].family])
    for place, seen, size in worst[:_FEW_PLACES]:
        yield Observation(
            code="carried-data",
            severity=_SEVERITIES[seen.family],
            sentence=f"The file carries {seen} in {size} bytes or characters of {place}",
            nodes=(place,),
            details={
                "kind": seen.kind, "family": seen.family.value, "encoding": list(seen.wrapping),
                "place": place, "size": size, "start": seen.start,
            },
        )  # fmt: skip
    if left := worst[_FEW_PLACES:]:
        yield Observation(
            code="carried-data",
            severity=_SEVERITIES[left[0][1].family],
            sentence=f"The file carries such data in {len(left)} further places",
            nodes=tuple(place for place, *_ in left[:_FEW_PLACES]),
            details={"count": len(left)},
        )


def _polyglot(data: bytes) -> Iterator[Observation]:
    if (kind := content.polyglot(data)) is not None:
        yield Observation(
            code="polyglot",
            severity=Severity.SUSPICIOUS,
            sentence=f"The file is also {kind}: another program opens it as that",
            details={"kind": kind},
        )


def _unread(contents: Contents, unread: Unread) -> Iterator[Observation]:
    """Yield how much lies in constants that reach no output, although nodes read them."""
    idle = [
        tensor
        for tensor in contents.of(onnx.TensorProto)
        if unread.tensors.get(id(tensor), "no node reads it") != "no node reads it"
    ]
    size = sum(map(views.size, idle))
    if idle:
        yield Observation(
            code="idle-constants",
            severity=Severity.WARNING if size > _LARGE_UNREAD else Severity.NOTE,
            sentence=f"No output depends on {len(idle)} constants of {size} bytes, although nodes "
            "read them",
            nodes=tuple(tensor.name for tensor in idle[:_FEW_PLACES]),
            details={"count": len(idle), "bytes": size},
        )
    if unread.nodes:
        size = sum(node.ByteSize() for node in unread.nodes)
        yield Observation(
            code="idle-nodes",
            severity=Severity.WARNING if size > _LARGE_UNREAD else Severity.NOTE,
            sentence=f"No output depends on {len(unread.nodes)} nodes of {size} bytes",
            nodes=tuple(label(node) for node in unread.nodes[:_FEW_PLACES]),
            details={"count": len(unread.nodes), "bytes": size},
        )
