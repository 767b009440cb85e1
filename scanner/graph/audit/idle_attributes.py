"""Attributes that an operator does not read: in the mode in which it stands, or at all.

ONNX Runtime passes over attributes whose names start with two underscores, and a function over
those that it does not name. Others count in one mode only: the seed of a Dropout while it trains,
the coefficient of a cubic interpolation. Exporters leave those at their defaults.
"""

import collections
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import onnx

from scanner.graph.core.structure import attribute, fractions, label, texts
from scanner.modelfile import nested
from scanner.modelfile.domains import STANDARD_DOMAINS
from scanner.modelfile.nested import Contents
from scanner.results import Observation, Severity

_INT, _FLOAT = onnx.AttributeProto.INT, onnx.AttributeProto.FLOAT
_DIFFERENT = 4
"""So many values of one kind differ: those of exporters are one or two."""
_LARGE = 64
"""Bytes of lists, texts and tensors that nothing reads."""
_MOST_VARIED = 8
"""Values of six digits of one attribute that differ; the most of 1,000 honest files: 3."""
_MOST_WHOLE = 32
"""Whole numbers of one attribute that differ; the most of these: 14."""
_PLAIN = 1 << 16
"""Whole numbers of an attribute are smaller, or the largest of a type; in these all are."""
_SHOWN = 20


class IdleAttributes:
    """The attributes of a model that no operator reads.

    Args:
        contents: All that lies within a model.

    Attributes:
        found: They, each with its node.
    """

    def __init__(self, contents: Contents) -> None:
        # What is held by `contents` keeps its identity.
        functions = {(f.domain, f.name): f for f in contents.of(onnx.FunctionProto)}
        self.hidden: list[tuple[onnx.NodeProto, onnx.AttributeProto]] = []
        self.idle: list[tuple[onnx.NodeProto, onnx.AttributeProto]] = []
        self._nodes = contents.of(onnx.NodeProto)
        self._unused = [name for f in functions.values() for name in _unused(f)]
        self._overridden = list(_overridden(contents))
        makers = {name: node for node in self._nodes for name in node.output}
        for node in self._nodes:
            function = functions.get((node.domain, node.op_type))
            declared = _declared(function) if function is not None else None
            rule = _IDLE.get(node.op_type)
            idle = set(rule(node, makers)) if rule and declared is None else set()
            for held in node.attribute:
                if held.name.startswith("__") or (
                    declared is not None and held.name not in declared
                ):
                    self.hidden.append((node, held))
                elif held.name in idle:
                    self.idle.append((node, held))

    @property
    def attributes(self) -> set[int]:
        """The identities of attributes that are read by nothing."""
        overridden = {id(held) for _, held in self._overridden}
        return {id(held) for _, held in (*self.hidden, *self.idle)} | overridden

    def tensors(self) -> Iterator[tuple[onnx.TensorProto, str]]:
        """Yield the tensors in them, and why each is not read."""
        for node, held in (*self.hidden, *self.idle):
            for tensor in (*([held.t] if held.HasField("t") else []), *held.tensors):
                yield tensor, f"{label(node)!r} does not read it"
        for name, held in self._overridden:
            for tensor in (*([held.t] if held.HasField("t") else []), *held.tensors):
                yield tensor, f"every call of {name!r} overrides it"

    def told(self) -> Iterator[Observation]:
        """Yield one observation for what no operator reads, and one for too many values."""
        if self.hidden:
            size = sum(held.ByteSize() for _, held in self.hidden)
            yield _note(
                "idle-attributes",
                f"{len(self.hidden)} attributes of {size} bytes have names that no operator knows "
                "and that the runtime passes over",
                [label(node) for node, _ in self.hidden],
                size,
            )
        if sum(size for _, size in self._unused) > _LARGE:
            size = sum(size for _, size in self._unused)
            yield _note(
                "idle-attributes",
                f"{len(self._unused)} attributes of functions, of {size} bytes, are read by no "
                "node of theirs",
                [name for name, _ in self._unused],
                size,
            )
        if (size := sum(held.ByteSize() for _, held in self._overridden)) > _LARGE:
            yield _note(
                "idle-attributes",
                f"{len(self._overridden)} defaults of attributes of functions, of {size} bytes, "
                "are overridden by every call",
                [f"{name}.{held.name}" for name, held in self._overridden],
                size,
                Severity.NOTE,
            )
        odd = [each for each in _grouped(self.idle).values() if _is_much([a for _, a in each])]
        if odd:
            noted = all(held.name in _WRITTEN for each in odd for _, held in each)
            nodes = [label(node) for each in odd for node, _ in each]
            size = sum(held.ByteSize() for each in odd for _, held in each)
            yield _note(
                "idle-attributes",
                f"{len(nodes)} attributes of {size} bytes are not read in the mode of their nodes, "
                "and are not the defaults",
                nodes,
                size,
                Severity.NOTE if noted else Severity.WARNING,
            )
        yield from self._varied()

    def _varied(self) -> Iterator[Observation]:
        """Yield the attributes whose values differ from node to node as no exporter's do."""
        values: dict[tuple[str, str], dict[Any, str]] = collections.defaultdict(dict)
        for node in self._nodes:
            # What a Constant holds is a number of the network, and no setting.
            if node.domain in STANDARD_DOMAINS and node.op_type != "Constant":
                for held in node.attribute:
                    if held.type in (_INT, _FLOAT):
                        value = held.i if held.type == _INT else held.f
                        values[node.op_type, held.name].setdefault(value, label(node))
        for (kind, name), found in values.items():
            if name in _COUNTS or len(found) <= _DIFFERENT:
                continue
            whole = [value for value in found if isinstance(value, int)]
            odd = [value for value in found if isinstance(value, float) and _is_long(value)]
            large = [v for v in whole if abs(v) >= _PLAIN and abs(v) not in _LIMITS]
            if len(whole) > _MOST_WHOLE or len(odd) > _MOST_VARIED or len(large) > _DIFFERENT:
                yield _note(
                    "varied-attributes",
                    f"{len(found)} values of the attribute {name!r} of {kind} differ from one "
                    "another, where exporters write one or a few",
                    list(found.values()),
                    8 * len(found),
                )


_COUNTS = frozenset({"group", "hidden_size", "num_heads", "to", "dtype", "max_trip_count"})
_LIMITS = frozenset({(1 << 63) - 1, 1 << 63, (1 << 31) - 1, 1 << 31, (1 << 32) - 1, 1 << 32})


def _note(
    code: str,
    sentence: str,
    nodes: Sequence[str],
    size: int,
    severity: Severity = Severity.WARNING,
) -> Observation:
    return Observation(
        code=code,
        severity=severity,
        sentence=sentence,
        nodes=tuple(dict.fromkeys(nodes))[:_SHOWN],
        details={"count": len(nodes), "bytes": size},
    )


def _declared(function: onnx.FunctionProto) -> set[str]:
    return {*function.attribute, *(held.name for held in function.attribute_proto)}


def _unused(function: onnx.FunctionProto) -> Iterator[tuple[str, int]]:
    """Yield the attributes of a function that no node in it refers to, and their bytes."""
    bodies = list(nested.walk([function]))
    read = {held.ref_attr_name for body in bodies for node in body.node for held in node.attribute}
    for name in function.attribute:
        if name not in read:
            yield f"{function.name}.{name}", len(name)
    for held in function.attribute_proto:
        if held.name not in read:
            yield f"{function.name}.{held.name}", held.ByteSize()


def _overridden(contents: Contents) -> Iterator[tuple[str, onnx.AttributeProto]]:
    """Yield the defaults of functions that no call leaves as they are."""
    calls: dict[tuple[str, str], list[set[str]]] = {}
    functions = [f for f in contents.of(onnx.FunctionProto) if f.attribute_proto]
    if not functions:
        return
    for node in contents.of(onnx.NodeProto):
        given = {held.name for held in node.attribute}
        calls.setdefault((node.domain, node.op_type), []).append(given)
    for function in functions:
        made = calls.get((function.domain, function.name), [])
        for held in function.attribute_proto:
            if made and all(held.name in given for given in made):
                yield function.name, held


def _grouped(
    found: Sequence[tuple[onnx.NodeProto, onnx.AttributeProto]],
) -> dict[tuple[str, str], list[tuple[onnx.NodeProto, onnx.AttributeProto]]]:
    groups = collections.defaultdict(list)
    for node, held in found:
        groups[node.op_type, held.name].append((node, held))
    return groups


def _is_much(held: Sequence[onnx.AttributeProto]) -> bool:
    """Whether attributes of one kind are too many and too different for fillers."""
    single = {each.i or each.f for each in held if each.type in (_INT, _FLOAT)}
    lists = {value for each in held for value in (*each.ints, *each.floats)}
    texts = {each.s for each in held} | {text for each in held for text in each.strings}
    tensors = sum(each.t.ByteSize() for each in held if each.HasField("t"))
    return (
        max(len(single), len(lists) // _DIFFERENT) > _DIFFERENT
        or sum(map(len, texts)) + tensors > _LARGE
    )


def _is_long(number: float) -> bool:
    """Whether a fraction has more digits than anybody writes."""
    if not np.isfinite(number) or number == 0:
        return False
    digits = np.format_float_scientific(np.float32(number)).split("e")[0]
    return len(digits.strip("-").replace(".", "").rstrip("0")) >= _DIGITS


_DIGITS = 6
Makers = Mapping[str, onnx.NodeProto]


def _of_dropout(node: onnx.NodeProto, _makers: Makers) -> Iterator[str]:
    if len(node.input) <= _MODE or not node.input[_MODE]:
        yield from ("seed", "ratio")


_MODE = 2  # the input of a Dropout that has it draw


def _of_resize(node: onnx.NodeProto, _makers: Makers) -> Iterator[str]:
    if attribute(node, "mode", b"nearest") != b"cubic":
        yield from ("cubic_coeff_a", "exclude_outside")
    if attribute(node, "coordinate_transformation_mode") != b"tf_crop_and_resize":
        yield "extrapolation_value"


def _of_normalisation(node: onnx.NodeProto, _makers: Makers) -> Iterator[str]:
    if not attribute(node, "training_mode", 0):
        yield "momentum"


def _of_pad(node: onnx.NodeProto, _makers: Makers) -> Iterator[str]:
    if attribute(node, "mode", b"constant") != b"constant":
        yield "value"


def _of_window(node: onnx.NodeProto, _makers: Makers) -> Iterator[str]:
    if attribute(node, "auto_pad", b"NOTSET") != b"NOTSET":
        yield "pads"


def _of_activation(node: onnx.NodeProto, makers: Makers) -> Iterator[str]:
    """Yield what shapes negative numbers only, of which there are none."""
    if node.input and not_negative(node.input[0], makers.get):
        yield "alpha"


def not_negative(value: str, maker: Callable[[str], onnx.NodeProto | None]) -> bool:
    """Whether no number of a value is negative, by the node that makes it."""
    source = maker(value)
    for _ in range(_FARTHEST):
        if source is None or source.op_type not in _KEEPS or not source.input:
            break
        source = maker(source.input[0])
    return source is not None and source.op_type in _NOT_NEGATIVE


_FARTHEST = 16

_KEEPS = frozenset({
    "Identity", "Dropout", "MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool",
    "Flatten", "Reshape", "Transpose", "Squeeze", "Unsqueeze",
})  # fmt: skip
_NOT_NEGATIVE = frozenset({"Abs", "Exp", "HardSigmoid", "Relu", "Sigmoid", "Softmax", "Sqrt"})


def _of_leaves(_node: onnx.NodeProto, _makers: Makers) -> Iterator[str]:
    yield from _WRITTEN


_WRITTEN = ("nodes_hitrates", "nodes_hitrates_as_tensor")
"""What exporters write although no runtime reads it: how often each branch was taken."""


def _of_recurrence(node: onnx.NodeProto, _makers: Makers) -> Iterator[str]:
    """Yield the settings of activations where none of these reads any, or fewer."""
    named = [each.lower() for each in texts(node, "activations")]
    for name, readers in (("activation_alpha", _READ_ALPHA), ("activation_beta", _READ_BETA)):
        # ONNX Runtime hands them out in turn, so that those beyond the readers are left over.
        if len(fractions(node, name)) > sum(each in readers for each in named):
            yield name


_READ_BETA = frozenset({"affine", "hardsigmoid", "scaledtanh"})
_READ_ALPHA = _READ_BETA | {"elu", "leakyrelu", "thresholdedrelu"}


def _text(value: bytes | str) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value


def _of_transposed(node: onnx.NodeProto, makers: Makers) -> Iterator[str]:
    yield from _of_window(node, makers)
    if attribute(node, "output_shape") is not None:
        yield "pads"


def _of_gemm(node: onnx.NodeProto, _makers: Makers) -> Iterator[str]:
    if len(node.input) <= _MODE or not node.input[_MODE]:
        yield "beta"


def _of_vectors(node: onnx.NodeProto, _makers: Makers) -> Iterator[str]:
    if _text(attribute(node, "kernel_type", b"LINEAR")) == "LINEAR":
        yield "kernel_params"
    yield from _of_labels(node, _makers)


def _of_labels(node: onnx.NodeProto, _makers: Makers) -> Iterator[str]:
    """Yield the numbers of classes where these have names."""
    if attribute(node, "classlabels_strings") is not None:
        yield from ("classlabels_ints", "classlabels_int64s")


def _of_words(node: onnx.NodeProto, _makers: Makers) -> Iterator[str]:
    if _text(attribute(node, "mode", b"")) == "TF":
        yield "weights"
    if attribute(node, "pool_strings") is not None:
        yield "pool_int64s"


def _of_tree(node: onnx.NodeProto, makers: Makers) -> Iterator[str]:
    yield from _of_leaves(node, makers)
    yield from _of_labels(node, makers)


def _of_encoder(node: onnx.NodeProto, _makers: Makers) -> Iterator[str]:
    for kind, plural in (("float", "floats"), ("int64", "int64s"), ("string", "strings")):
        if attribute(node, f"values_{plural}") is None and attribute(node, "values_tensor") is None:
            yield f"default_{kind}"


_IDLE: Mapping[str, Callable[[onnx.NodeProto, Makers], Iterator[str]]] = {
    "AveragePool": _of_window, "BatchNormalization": _of_normalisation, "Celu": _of_activation,
    "Conv": _of_window, "ConvInteger": _of_window, "ConvTranspose": _of_transposed,
    "Dropout": _of_dropout, "Elu": _of_activation, "GRU": _of_recurrence, "Gemm": _of_gemm,
    "LSTM": _of_recurrence, "LabelEncoder": _of_encoder, "LeakyRelu": _of_activation,
    "LinearClassifier": _of_labels, "LpPool": _of_window, "MaxPool": _of_window, "Pad": _of_pad,
    "QLinearConv": _of_window, "RNN": _of_recurrence, "Resize": _of_resize,
    "SVMClassifier": _of_vectors, "SVMRegressor": _of_vectors, "TfIdfVectorizer": _of_words,
    "TreeEnsemble": _of_leaves, "TreeEnsembleClassifier": _of_tree,
    "TreeEnsembleRegressor": _of_leaves, "Upsample": _of_resize, "ZipMap": _of_labels,
}  # fmt: skip
