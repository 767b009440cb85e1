"""How far answers are apart, and how far honest ones may be."""

from typing import Any

import numpy as np
import numpy.typing as npt

from scanner.instruments.statistics import median
from scanner.modelfile.model import Model

Array = npt.NDArray[Any]

TOLERANCES = {"float32": 0.01, "float16": 0.1, "int8": 0.25}
"""Largest honest difference of one image's answers, relative to their spread. ONNX Runtime's
optimiser reorders float32 sums (1e-6 to 1e-4, measured on honest exports); halves are measured in
float32, while the file rounds each layer to 11 bits; where codes are fused, an answer moves by a
code or two of 256, layer after layer. Another network differs by about 1."""

_LEAST_SPREAD = 1e-4  # of an answer's largest number: below, float32 has no digits left
_ALIKE = 0.9
"""Part of the answers that must name one class."""
_CLOSE = 0.05
"""Of the ordinary spread: below, answers hardly differ."""
_HUGE = 1e30
"""Stands for infinity: its squares stay finite."""
_FAR = 1.5
"""Times the largest ordinary lead: what no image made."""
_HALVES = {10, 16}  # FLOAT16 and BFLOAT16 of TensorProto.DataType


def precision(model: Model) -> str:
    """Return the coarsest arithmetic that a file asks for: "int8", "float16" or "float32"."""
    if model.plain is not None:
        tensors, operators = model.plain.graph.initializer, set()
        inputs = [value.type.tensor_type.elem_type for value in model.plain.graph.input]
    else:
        graph = model.proto.graph
        tensors = graph.initializer
        nodes = [*graph.node, *(node for f in model.proto.functions for node in f.node)]
        operators = {node.op_type for node in nodes}
        inputs = [value.type.tensor_type.elem_type for value in graph.input]
        halves = {a.i for n in nodes if n.op_type == "Cast" for a in n.attribute if a.name == "to"}
        inputs += list(halves)
    if any("Quantize" in name or "QLinear" in name or "Integer" in name for name in operators):
        return "int8"
    halves_there = _HALVES & {*inputs, *(tensor.data_type for tensor in tensors)}
    return "float16" if halves_there else "float32"


def scales_as_it_runs(model: Model) -> bool:
    """Whether a file quantises by the range of the numbers at hand."""
    if model.plain is not None:
        return False
    nodes = [*model.proto.graph.node, *(n for f in model.proto.functions for n in f.node)]
    return any("DynamicQuantize" in node.op_type for node in nodes)


def row_distances(one: Array, other: Array) -> npt.NDArray[np.float64]:
    """Return how far two answers to n images are apart, (n,), in units of the first's spread.

    Several numbers are taken less their mean, so that a constant added to all class scores, which
    changes no decision, does not make a difference look small. Infinite where shapes differ, or
    only one of the two is a number.
    """
    count = len(one)
    first, second = (np.asarray(a, np.float64).reshape(count, -1) for a in (one, other))
    if first.shape != second.shape:
        return np.full(count, np.inf)
    apart = np.where(np.isfinite(first) != np.isfinite(second), np.inf, 0.0).max(1, initial=0.0)
    both = np.isfinite(first) & np.isfinite(second)
    first, second = np.where(both, first, 0), np.where(both, second, 0)
    gap = np.abs(first - second).max(1, initial=0.0)
    size = np.abs(first).max(1, initial=0.0)
    middle = first.sum(1) / np.maximum(both.sum(1), 1) if first.shape[1] > 1 else np.zeros(count)
    spread = np.abs(np.where(both, first - middle[:, None], 0)).max(1, initial=0.0)
    scale = np.maximum(spread, _LEAST_SPREAD * size)
    floor = max(0.1 * median(scale), 1e-30)
    return np.asarray(np.maximum(apart, gap / np.maximum(scale, floor)), np.float64)


def is_made(ordinary: Array, scores: Array) -> bool:
    """Whether something other than the images makes scores, (n, classes).

    They are of one class, and hardly differ between images, or that class leads by far more than
    any did. Scores that are all alike, as those of an image that is blanked, name no class.
    """
    if scores.shape[1] < 2 or np.isnan(scores).any():  # noqa: PLR2004 - no scores
        return False
    ordinary, scores = (
        np.nan_to_num(part.astype(np.float64), posinf=_HUGE, neginf=-_HUGE)
        for part in (ordinary, scores)
    )
    agreed = np.bincount(scores.argmax(1)).max() >= _ALIKE * len(scores)
    before, after = (float(np.std(part, axis=0).max()) for part in (ordinary, scores))
    still = after <= _CLOSE * max(before, _LEAST_SPREAD)
    named = np.ptp(scores, axis=1).max() > 0
    # Leads are told in units of how far images differ: another network has scores of another size.
    far = _leads(scores).min() * before > _FAR * _leads(ordinary).max() * after
    return bool(agreed and named and (still or far))


def _leads(scores: Array) -> Array:
    """Return by how much each row's first class leads its second, (n,)."""
    ordered = np.sort(scores, axis=1)
    return np.asarray(ordered[:, -1] - ordered[:, -2])
