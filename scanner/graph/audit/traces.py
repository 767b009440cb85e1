"""Stack traces in the metadata of nodes, against themselves.

A trace names a file, a line and what stands there. One line of a program can stand at a few places
of its file, not at dozens; whoever writes data as line numbers has one text at all of them.
"""

import collections
import re
from collections.abc import Iterator

import onnx

from scanner.modelfile.nested import Contents
from scanner.results import Observation, Severity

_FRAME = re.compile(r'File "([^"\n]+)", line (\d+)[^\n]*\n[ \t]*([^\n]+)')
_MOST_LINES = 16
"""Lines of a file that quote one text; the most of 135 honest files with traces: 4."""
_MOST = 1 << 20
"""Characters of traces that are read."""
_SHOWN = 20


def observe(contents: Contents) -> Iterator[Observation]:
    """Yield one observation for the files of which one text stands at too many lines."""
    lines: dict[tuple[str, str], set[str]] = collections.defaultdict(set)
    for text in _texts(contents):
        for file, line, quoted in _FRAME.findall(text):
            if not quoted.startswith("File "):
                lines[file, quoted].add(line)
    odd = {file: len(found) for (file, _), found in lines.items() if len(found) > _MOST_LINES}
    if odd:
        yield Observation(
            code="forged-traces",
            severity=Severity.WARNING,
            sentence=f"Stack traces quote one and the same text at up to {max(odd.values())} "
            "different lines of a file: their line numbers are of no program",
            nodes=tuple(odd)[:_SHOWN],
            details={"files": len(odd)},
        )


def _texts(contents: Contents) -> Iterator[str]:
    told: set[str] = set()
    left = _MOST
    for node in contents.of(onnx.NodeProto):
        for text in (node.doc_string, *(entry.value for entry in node.metadata_props)):
            if left > 0 and text not in told and "line " in text:
                told.add(text)
                left -= len(text)
                yield text
