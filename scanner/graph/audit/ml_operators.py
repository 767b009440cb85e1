"""Numbers of the operators of classical models (`ai.onnx.ml`) that no row of data ever reaches.

Keys that no label equals, what is put in the place of a number that nobody feeds, vectors of weight
zero, and lists of whole numbers too large for what a list of labels counts.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from scanner.graph.audit import views
from scanner.graph.audit.idle_attributes import not_negative
from scanner.graph.core.structure import Uses, attribute, fractions, integers, label
from scanner.modelfile.nested import Contents
from scanner.results import Observation, Severity

Array = npt.NDArray[Any]

_DOMAIN = "ai.onnx.ml"
_LEAST = 16
"""Different numbers below which nothing worth a name can be hidden."""
_LARGE = 1 << 48
"""Whole numbers that no label, key or counter comes near; digests of keys do."""
_FEW_LARGE = 8
_FARTHEST = 1e20
_SHOWN = 20


def observe(contents: Contents) -> Iterator[Observation]:
    """Yield what operators of `ai.onnx.ml` hold and no row of data reaches."""
    odd: dict[str, list[str]] = {}
    for graph in contents.of(onnx.GraphProto):
        nodes = [node for node in graph.node if node.domain == _DOMAIN]
        uses = Uses(graph) if nodes else None
        for node in nodes:
            rule = _RULES.get(node.op_type)
            if uses is not None and rule is not None:
                for said, numbers in rule(node, uses):
                    if len(set(numbers)) >= _LEAST:
                        odd.setdefault(said, []).append(label(node))
            if _has_large(node):
                odd.setdefault(_TOO_LARGE, []).append(label(node))
    for said, names in odd.items():
        yield Observation(
            code="idle-entries",
            severity=Severity.NOTE,
            sentence=f"{len(names)} operators of {_DOMAIN} {said}",
            nodes=tuple(names[:_SHOWN]),
            details={"count": len(names)},
        )


_TOO_LARGE = "have lists of whole numbers beyond 2^48, as labels, keys and counters are not"
_NO_LABEL = "have entries for labels that the node before them never gives"
_NOT_FED = "replace a number that hardly ever comes, by different ones"
_NO_WEIGHT = "have vectors whose coefficients are all zero"
_NO_SCALE = "have offsets of numbers that they multiply by zero"
Found = Iterator[tuple[str, Sequence[Any]]]


def _has_large(node: onnx.NodeProto) -> bool:
    numbers: set[int] = set()
    for held in node.attribute:
        if held.HasField("t") and held.t.data_type == onnx.TensorProto.INT64:
            array = views.numbers(held.t)
            numbers |= set() if array is None else set(array[np.abs(array) >= _LARGE].tolist())
        numbers |= {number for number in held.ints if abs(number) >= _LARGE}
    return len(numbers - _LIMITS) >= _FEW_LARGE


_LIMITS = {(1 << 63) - 1, -(1 << 63)}


def _column(node: onnx.NodeProto, *names: str) -> list[Any]:
    """Return the first list of these that a node has, as an attribute or a tensor of one."""
    for name in names:
        held = attribute(node, name)
        if isinstance(held, onnx.TensorProto):
            array = views.numbers(held)
            return list(held.string_data) if array is None else array.tolist()
        if isinstance(held, list):
            return held
    return []


def _of_encoder(node: onnx.NodeProto, uses: Uses) -> Found:
    """Yield the values of keys that are none of the labels that come in."""
    keys = _column(node, "keys_int64s", "keys_strings", "keys_tensor", "cats_int64s")
    values = _column(
        node, "values_int64s", "values_strings", "values_floats", "values_tensor", "cats_strings"
    )
    labels = _labels(node.input[0], uses) if node.input else set()
    if labels:
        rest = [both for both in zip(keys, values, strict=False) if both[0] not in labels]
        yield _NO_LABEL, rest


def _labels(value: str, uses: Uses) -> set[Any]:
    """Return the labels that a value may be; none if that is not known."""
    maker = uses.producer(value)
    if maker is None or maker.domain != _DOMAIN:
        return set()
    if maker.op_type == "LabelEncoder":
        default = [attribute(maker, f"default_{kind}") for kind in ("int64", "string", "float")]
        given = _column(maker, "values_int64s", "values_strings", "values_floats", "values_tensor")
        return {*given, -1, b"_Unused", 0.0, *(each for each in default if each is not None)}
    if list(maker.output)[:1] != [value]:
        return set()
    return set(_column(maker, "classlabels_int64s", "classlabels_ints", "classlabels_strings"))


def _of_imputer(node: onnx.NodeProto, uses: Uses) -> Found:
    replaced = attribute(node, "replaced_value_float", 0.0)
    if not node.input or np.isnan(replaced):
        return
    below = replaced < 0 and not_negative(node.input[0], uses.producer)
    if abs(replaced) >= _FARTHEST or below:
        yield _NOT_FED, _column(node, "imputed_value_floats")


def _of_scaler(node: onnx.NodeProto, _uses: Uses) -> Found:
    scale, offset = _column(node, "scale"), _column(node, "offset")
    if len(scale) == 1:
        scale = scale * len(offset)
    yield _NO_SCALE, [o for o, s in zip(offset, scale, strict=False) if s == 0]


def _of_vectors(node: onnx.NodeProto, _uses: Uses) -> Found:
    """Yield the numbers of support vectors that count for nothing."""
    vectors = np.asarray(fractions(node, "support_vectors"))
    weights = np.asarray(fractions(node, "coefficients"))
    counts = integers(node, "vectors_per_class")
    count = sum(counts) if counts else int(attribute(node, "n_supports", 0))
    if count <= 0 or vectors.size % count or not weights.size or weights.size % count:
        return
    idle = ~weights.reshape(-1, count).any(axis=0)
    yield _NO_WEIGHT, vectors.reshape(count, -1)[idle].reshape(-1).tolist()


_RULES: Mapping[str, Callable[[onnx.NodeProto, Uses], Found]] = {
    "CategoryMapper": _of_encoder, "Imputer": _of_imputer, "LabelEncoder": _of_encoder,
    "SVMClassifier": _of_vectors, "SVMRegressor": _of_vectors, "Scaler": _of_scaler,
}  # fmt: skip
