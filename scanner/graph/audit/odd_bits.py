"""Weights whose bits are none that training leaves, told together for all tensors of a model."""

from collections.abc import Iterator

import onnx

from scanner.graph.audit import mantissas, views
from scanner.graph.audit.content import Content
from scanner.modelfile.nested import Contents
from scanner.results import Observation, Severity

_SHOWN = 20


class OddBits:
    """The tensors whose numbers are none that training leaves.

    Args:
        contents: All that lies within a model.

    Attributes:
        found: What their low bytes hold, where it is of a known format: place, content, size.
    """

    def __init__(self, contents: Contents) -> None:
        self.found: list[tuple[str, Content, int]] = []
        self._odd: dict[str, list[tuple[str, int]]] = {kind: [] for kind in _ODD}
        for tensor in contents.of(onnx.TensorProto):
            seen = mantissas.look(tensor)
            for kind, odd in self._odd.items():
                if count := getattr(seen, kind):
                    odd.append((tensor.name, count))
            if seen.found is not None:
                self.found.append((f"tensor {tensor.name!r}", seen.found, views.size(tensor)))

    def told(self) -> Iterator[Observation]:
        """Yield one observation for each kind of oddness."""
        for kind, (code, severity, said) in _ODD.items():
            odd = self._odd[kind]
            if odd:
                count = sum(each for _, each in odd)
                yield Observation(
                    code=code,
                    severity=severity,
                    sentence=f"{count} numbers of {len(odd)} tensors {said}",
                    nodes=tuple(name for name, _ in odd[:_SHOWN]),
                    details={"count": count, "tensors": len(odd)},
                )


_REPLACED = (
    "have evenly distributed exponents and mantissas, as no training leaves them: three bytes of "
    "four were replaced by compressed or encrypted data (EvilModel does that), or all four"
)
_CHANGED = (
    "are of another precision than the rest of their tensor, or have low bits that the rest, which "
    "was widened from 16 bits, lacks: they were written afterwards"
)
_ODD = {
    "even": (
        "replaced-bytes",
        Severity.SUSPICIOUS,
        _REPLACED,
    ),
    "text": ("low-bits", Severity.SUSPICIOUS, "have bytes that are text"),
    "periodic": (
        "low-bits",
        Severity.WARNING,
        "have low bits that repeat after 32 numbers, as those of text or of other weights do",
    ),
    "mixed": (
        "low-bits",
        Severity.WARNING,
        _CHANGED,
    ),
}
