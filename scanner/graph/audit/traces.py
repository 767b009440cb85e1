"""Stack traces in the metadata of nodes, against themselves.

A trace names a file, a line and what stands there. One line of a program can stand at a few places
of its file, not at dozens; a file has a few thousand lines, and those that make a model are near
one another. Whoever writes data as line numbers has one text at all of them, lines far behind the
end of any file, or each line of a file in any order.
"""

import collections
import itertools
import re
from collections.abc import Iterator, Mapping, Sequence

import onnx

from scanner.modelfile.nested import Contents
from scanner.results import Observation, Severity

_FRAME = re.compile(r'File "([^"\n]+)", line (\d+)[^\n]*\n[ \t]*([^\n]+)')
_PLACES = (
    re.compile(r'File "([^"\n]{1,300})", line (\d{1,20})'),
    re.compile(r"([\w./\\<>-]{1,300}\.py)(?::|\()(\d{1,20})"),
    re.compile(r"# ([^\s:]{1,300}):(\d{1,20}):"),
)
"""How Python, `torch.jit` and older versions of PyTorch name a line of a file."""
_MOST_LINES = 16
"""Lines of a file that quote one text; the most of 135 honest files with traces: 4."""
_LAST = 30_000
"""Lines of the longest files of programs."""
_FEW = 8
_MANY = 48
_DENSE = 0.25
"""Share of the lines of a file up to the last that is named; call sites are rarer."""
_UNSORTED = 0.35
_MOST = 1 << 20
"""Characters of traces that are read."""
_SHOWN = 20


def observe(contents: Contents) -> Iterator[Observation]:
    """Yield what the lines of stack traces cannot be, or hardly are."""
    quotes: dict[tuple[str, str], set[str]] = collections.defaultdict(set)
    lines: dict[str, list[int]] = collections.defaultdict(list)
    for text in _texts(contents):
        for file, line, quoted in _FRAME.findall(text):
            if not quoted.startswith("File "):
                quotes[file, quoted].add(line)
        for file, line in itertools.chain.from_iterable(p.findall(text) for p in _PLACES):
            lines[file].append(int(line))
    odd = {file: len(found) for (file, _), found in quotes.items() if len(found) > _MOST_LINES}
    if odd:
        yield Observation(
            code="forged-traces",
            severity=Severity.WARNING,
            sentence=f"Stack traces quote one and the same text at up to {max(odd.values())} "
            "different lines of a file: their line numbers are of no program",
            nodes=tuple(odd)[:_SHOWN],
            details={"files": len(odd)},
        )
    yield from _of_numbers(lines)


def _of_numbers(lines: Mapping[str, Sequence[int]]) -> Iterator[Observation]:
    """Yield one observation for the files whose lines are too many, or too far."""
    far = [file for file, found in lines.items() if len({n for n in found if n > _LAST}) >= _FEW]
    everywhere = [file for file, found in lines.items() if _is_everywhere(found)]
    if odd := dict.fromkeys((*far, *everywhere)):
        most = max(len(set(lines[file])) for file in odd)
        yield Observation(
            code="odd-traces",
            severity=Severity.NOTE,
            sentence=f"Stack traces name lines of {len(odd)} files that no program is likely to "
            f"have, up to {most} of one file: far behind the end of long files, or a large share "
            "of all lines, in no order",
            nodes=tuple(odd)[:_SHOWN],
            details={"files": len(odd), "lines": most},
        )


def _is_everywhere(lines: Sequence[int]) -> bool:
    """Whether many different lines fill a file, in no order."""
    first = list(dict.fromkeys(lines))
    if len(first) < _MANY or len(first) < _DENSE * max(first):
        return False
    rising = sum(a < b for a, b in itertools.pairwise(first)) / (len(first) - 1)
    return _UNSORTED < rising < 1 - _UNSORTED


def _texts(contents: Contents) -> Iterator[str]:
    told: set[str] = set()
    left = _MOST
    for node in contents.of(onnx.NodeProto):
        for text in (node.doc_string, *(entry.value for entry in node.metadata_props)):
            if left > 0 and text and text not in told and _NUMBER.search(text):
                told.add(text)
                left -= len(text)
                yield text[:_MOST]


_NUMBER = re.compile(r"(?:line |\(|:)\d")
