"""Numbers that reach no output although a node reads the tensor or attribute that holds them.

What a cast takes off, the thresholds of leaves, the signs of zeros: an operator takes the whole and
leaves these. Where an honest file has such numbers they are the same few.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from scanner.graph.audit import views
from scanner.graph.core.facts import FLOATING
from scanner.graph.core.structure import attribute, held_tensor, label
from scanner.modelfile.nested import Contents
from scanner.results import Observation, Severity

Array = npt.NDArray[Any]

_LEAST = 32
"""Numbers below which nothing worth a name can be hidden."""
_DIFFERENT = 16
"""So many of them differ: fillers are alike."""
_SIGNS = 256
"""Zeros of a tensor, of which each sign is a bit."""
_SHOWN = 20
_HEAD = 1 << 14
"""Numbers among which a zero is looked for first."""
_NARROW: Mapping[int, type] = {
    onnx.TensorProto.FLOAT: np.float32, onnx.TensorProto.FLOAT16: np.float16,
    onnx.TensorProto.INT32: np.int32, onnx.TensorProto.UINT32: np.uint32,
    onnx.TensorProto.INT16: np.int16, onnx.TensorProto.UINT16: np.uint16,
    onnx.TensorProto.INT8: np.int8, onnx.TensorProto.UINT8: np.uint8,
}  # fmt: skip


def observe(contents: Contents) -> Iterator[Observation]:
    """Yield what numbers within a model reach no output."""
    nodes = contents.of(onnx.NodeProto)
    yield from _casts(contents, nodes)
    for node in nodes:
        yield from _leaves(node)
    yield from _signs(contents)


def _casts(contents: Contents, nodes: Sequence[onnx.NodeProto]) -> Iterator[Observation]:
    """Yield the constants of which a cast takes bits off that are set."""
    held = {tensor.name: tensor for tensor in contents.of(onnx.TensorProto)}
    for node in nodes:
        own = held_tensor(node, "value") if node.op_type == "Constant" and node.output else None
        if own is not None:
            held[node.output[0]] = own
    for node in nodes:
        tensor = held.get(node.input[0]) if node.op_type == "Cast" and node.input else None
        if tensor is None:
            continue
        count = _taken_off(tensor, int(attribute(node, "to", 0)))
        if count >= _LEAST:
            # Fractions are stored in double precision by honest exporters too.
            real = tensor.data_type in FLOATING
            yield Observation(
                code="idle-bits",
                severity=Severity.NOTE if real else Severity.WARNING,
                sentence=f"{label(node)!r} takes bits off {count} numbers that reach no output",
                nodes=(label(node),),
                details={"tensor": tensor.name, "count": count},
            )


def _taken_off(tensor: onnx.TensorProto, to: int) -> int:
    """Return how many numbers of a tensor lose bits in a cast; 0 where these are the same few."""
    kind = _NARROW.get(to)
    numbers = views.numbers(tensor)
    if kind is None or numbers is None or numbers.size < _LEAST or numbers.dtype.kind not in "fiu":
        return 0
    if (tensor.data_type in FLOATING) != (to in FLOATING):
        return 0  # from fractions to whole numbers is a conversion
    with np.errstate(invalid="ignore", over="ignore"):
        lost = numbers - numbers.astype(kind).astype(numbers.dtype)
    lost = lost[np.isfinite(lost) & (lost != 0)]
    return int(lost.size) if len(np.unique(lost)) > _DIFFERENT else 0


def _leaves(node: onnx.NodeProto) -> Iterator[Observation]:
    """Yield the thresholds of leaves, which are compared with nothing.

    Converters write a zero or another filler there.
    """
    modes = attribute(node, "nodes_modes")
    if not node.op_type.startswith("TreeEnsemble") or not isinstance(modes, list | tuple):
        return
    held = held_tensor(node, "nodes_values_as_tensor")
    values = attribute(node, "nodes_values", ()) if held is None else _row(held)
    idle = [value for value, mode in zip(values, modes, strict=False) if mode in ("LEAF", b"LEAF")]
    if len(set(idle)) > _DIFFERENT:
        yield Observation(
            code="idle-numbers",
            severity=Severity.WARNING,
            sentence=f"{len(idle)} leaves of {label(node)!r} have thresholds, which nothing reads",
            nodes=(label(node),),
            details={"count": len(idle)},
        )


def _row(tensor: onnx.TensorProto) -> list[float]:
    numbers = views.numbers(tensor)
    return [] if numbers is None else numbers.tolist()


def _signs(contents: Contents) -> Iterator[Observation]:
    """Yield the tensors with zeros of both signs: all of their numbers, or very many.

    Weights times zero are such too, as where a normalisation that was never trained was folded, or
    where a mask took out what was pruned.
    """
    found: dict[str, int] = {}
    for tensor in contents.of(onnx.TensorProto):
        if tensor.data_type not in (onnx.TensorProto.FLOAT, onnx.TensorProto.DOUBLE):
            continue
        numbers = views.numbers(tensor)
        if numbers is None or numbers.size < _SIGNS or numbers[:_HEAD].all():
            continue
        zeros = numbers[numbers == 0]
        negative = int(np.signbit(zeros).sum())
        rarer = min(negative, zeros.size - negative)
        if rarer >= _SIGNS or (rarer and zeros.size == numbers.size):
            found[tensor.name] = int(zeros.size)
    if found:
        yield Observation(
            code="idle-bits",
            severity=Severity.NOTE,
            sentence=f"{sum(found.values())} numbers of {len(found)} tensors are zeros of both "
            "signs, and nothing depends on the sign of a zero",
            nodes=tuple(found)[:_SHOWN],
            details={"count": sum(found.values()), "tensors": len(found)},
        )
