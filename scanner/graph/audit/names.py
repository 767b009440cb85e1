"""Names and comments such as no exporter writes, and descriptions of what is not there."""

import re
from collections.abc import Iterable, Iterator
from collections.abc import Set as AbstractSet

import onnx

from scanner.graph.audit.places import Place
from scanner.results import Observation, Severity

_LONG = 1024
"""Characters that no exporter writes but in prose; the longest of 1,900 honest files: 369."""
_LARGE = 1 << 16
_SHOWN = 20
_PROSE = frozenset({
    "ModelProto.doc_string", "GraphProto.doc_string", "NodeProto.doc_string",
    "FunctionProto.doc_string", "StringStringEntryProto.value",
})  # fmt: skip
"""Fields that may hold licences, stack traces and tables; not those of tensors and attributes."""


class OddNames:
    """Names and comments such as no exporter writes."""

    def __init__(self) -> None:
        self._long: list[Place] = []
        self._broken: list[Place] = []

    def look(self, place: Place, text: str) -> None:
        """Keep a place if its text is odd."""
        if place.spelt in _PROSE:
            return
        if len(text) > _LONG:
            self._long.append(place)
        if _CONTROL.search(text):
            self._broken.append(place)

    def told(self) -> Iterator[Observation]:
        """Yield one observation for each kind of oddness."""
        if self._long:
            size = max(len(place.held) for place in self._long)
            said = f"are longer than exporters write them, up to {size} characters"
            yield _said_of("long-text", said, self._long)
        if self._broken:
            said = "have line breaks or control characters, which a terminal or a shell obeys"
            yield _said_of("control-characters", said, self._broken)


_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


def _said_of(code: str, said: str, found: list[Place]) -> Observation:
    return Observation(
        code=code,
        severity=Severity.WARNING,
        sentence=f"{len(found)} names or comments {said}",
        nodes=tuple(place.name for place in found[:_SHOWN]),
        details={"count": len(found)},
    )


def strays(graph: onnx.GraphProto) -> Iterator[Observation]:
    """Yield what is described in a graph and is not in it."""
    known = {name for node in graph.node for name in node.output}
    known |= {value.name for value in graph.input} | {tensor.name for tensor in graph.initializer}
    known |= {tensor.values.name for tensor in graph.sparse_initializer}
    stray = [value for value in graph.value_info if value.name not in known]
    if stray:
        size = sum(value.ByteSize() for value in stray)
        yield Observation(
            code="stray-values",
            severity=Severity.WARNING if size > _LARGE else Severity.NOTE,
            sentence=f"{len(stray)} values of {size} bytes are described that are not in the graph",
            nodes=tuple(value.name for value in stray[:_SHOWN]),
            details={"count": len(stray), "bytes": size},
        )


_IMPORTED = {"org.pytorch.aten", "com.microsoft.mlfeaturizers", "com.microsoft.dlfeaturizers"}
"""Domains that ONNX Runtime imports into what it writes, used or not."""
_SEVERAL = 4
"""More operator sets than this no exporter imports without a use."""


def unused_domains(imported: Iterable[str], known: AbstractSet[str]) -> Iterator[Observation]:
    """Yield the operator sets that are neither used nor known: their names are room."""
    known = known | _IMPORTED
    idle = [domain for domain in imported if domain not in known]
    if idle:
        yield Observation(
            code="unused-domains",
            severity=Severity.WARNING if len(idle) > _SEVERAL else Severity.NOTE,
            sentence=f"{len(idle)} operator sets of unknown origin are imported that no node uses",
            nodes=tuple(idle[:_SHOWN]),
            details={"count": len(idle)},
        )
