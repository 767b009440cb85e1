"""Channels of ordinary layers that are unlike their siblings: lone ones and heavy ones.

A narrow network can be put into a wide one without a new node: in each layer one channel is
replaced, reads only the replaced channel before it, and the last one feeds the target's score
(Qi et al., "Towards Practical Deployment-Stage Backdoor Attack on Deep Neural Networks", CVPR 2022,
section 3; handcrafted weights, Hong et al., NeurIPS 2022, do likewise). Trained channels read all
channels before them, more or less. So a channel's *breadth* tells it: how much it reads, through
all layers, beside the median of its siblings.

Where a network has no layers between the replaced channel and the scores, nothing is lone. But a
channel that is silent on ordinary images and decides the answer on others must be *heavy*: what its
filter can make of an image, times what the next layer makes of that, is far beyond its siblings'.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from scanner.graph.core import facts
from scanner.graph.core.structure import Uses, attribute, label, numbers_of
from scanner.modelfile.model import required_inputs

Array = npt.NDArray[np.float64]

_FEW_READ = 3.0
"""A lone channel reads no more than so many of the channels before it."""
_NARROWEST, _WIDEST = 0.02, 0.25
"""What that may be as a share of what its siblings read: of 166 trained networks of the development
recipes no channel reads less than 0.39; of wide layers trained on photographs some read 0.18."""
_HEAVY, _ORDINARY = 14.0, 0.75
"""A heavy channel weighs more than so many times this quantile of its layer. In the layers of the
87 clean networks of the development recipes none weighs more than 7 times as much."""
_TOO_HEAVY = 100.0
"""A channel that weighs so many times what the others do never came of training: in real networks
trained on photographs we saw 50."""
_SPARSE, _DENSE = 0.2, 0.9
"""A sparse channel has at most the one share of weights that are not 0, its siblings the other."""
_NOTHING = 1e-3
"""Of the largest weight of a channel: below, a weight is 0."""
_SEVERAL = 16
"""Weights that a channel needs for the share of those that are 0 to say anything."""
_AT_ONCE = 1 << 24
"""Weights that are looked at together: in double precision they take 128 MiB, and again as much."""
_FEWEST = 4
"""Channels that a layer needs for one of them to be an exception."""
_KEEPING = frozenset({
    "Relu", "LeakyRelu", "PRelu", "Clip", "Sigmoid", "HardSigmoid", "HardSwish", "Tanh", "Elu",
    "Selu", "Celu", "Softplus", "Gelu", "Mish", "Erf", "Identity", "Dropout", "Cast", "MaxPool",
    "AveragePool", "GlobalAveragePool", "GlobalMaxPool", "BatchNormalization", "QuantizeLinear",
    "DequantizeLinear", "Pad", "Resize", "Mul", "Div", "Add", "Sub", "Max", "Min", "Swish",
    "InstanceNormalization", "ReduceMean", "ReduceMax", "Abs", "Neg", "Sqrt", "Exp",
})  # fmt: skip
"""Operators that leave every channel in its place."""


@dataclasses.dataclass(frozen=True, slots=True)
class Channels:
    """What is known of the channels of one value.

    Attributes:
        axis: Of the channels.
        breadths: By channel, how much it has read; 1 is the median of its layer.
        narrow: Breadth below which a channel is alone.
        strengths: By channel, the norm of the weights that made it; None where that is not known.
        filled: By channel, the share of the weights that made it that are not 0; None as above.
    """

    axis: int
    breadths: Array
    narrow: float = 0.0
    strengths: Array | None = None
    filled: Array | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Odd:
    """Channels of one value that are unlike their siblings.

    Attributes:
        value: Name of the value, which further layers read.
        node: Label of the node that makes it.
        axis: Of the channels.
        channels: Their numbers.
        lone: Whether they read almost nothing of what the others read; else they are heavy.
        figure: The least of their breadths, or the largest of their weights beside their siblings'.
    """

    value: str
    node: str
    axis: int
    channels: tuple[int, ...]
    lone: bool
    figure: float

    @property
    def made(self) -> bool:
        """Whether they are heavier than any training makes them."""
        return not self.lone and self.figure >= _TOO_HEAVY


def find(flat: onnx.ModelProto, known: facts.Facts) -> list[Odd]:
    """Return the odd channels that a further layer reads: lone ones first, then from the output on.

    Before: the model is flat, and its tensors' data lie inside it.
    """
    uses = Uses(flat.graph)
    walk = _Walk(flat, known, uses)
    found: list[Odd] = []
    for node in flat.graph.node:
        if node.op_type in _LAYERS and walk.weights(node) is not None:
            found += _odd(walk, node)
        walk.add(node)
    unique = {(odd.value, odd.lone): odd for odd in found}
    from_the_output = list(unique.values())[::-1]
    return sorted(from_the_output, key=lambda odd: not odd.lone)


def _odd(walk: "_Walk", node: onnx.NodeProto) -> Iterator[Odd]:
    """Yield the odd channels that a layer reads."""
    read = walk.channels.get(node.input[0])
    if read is None:
        return
    maker = walk.uses.producer(node.input[0])
    name = label(maker) if maker is not None else node.input[0]
    heavy, sparse = walk.heaviness(node, read), _sparse(read)
    for lone, figures, chosen in (
        (True, read.breadths, read.breadths < read.narrow),
        (True, read.filled, sparse),
        (False, heavy, None if heavy is None else heavy > _HEAVY),
    ):
        if figures is None or chosen is None:
            continue
        odd = np.flatnonzero(chosen)
        # Where many are odd, that is how the layer is built.
        if 0 < len(odd) <= len(figures) / _FEWEST:
            yield Odd(
                value=node.input[0],
                node=name,
                axis=read.axis,
                channels=tuple(map(int, odd)),
                lone=lone,
                figure=float(figures[odd].min() if lone else figures[odd].max()),
            )


def _sparse(read: Channels) -> npt.NDArray[np.bool_] | None:
    """Return which channels read few numbers, where their siblings read nearly all."""
    if read.filled is None or np.median(read.filled) < _DENSE:
        return None
    return (read.filled > 0) & (read.filled <= _SPARSE)


class _Walk:
    """The channels of all values, made in the order of the graph."""

    def __init__(self, flat: onnx.ModelProto, known: facts.Facts, uses: Uses) -> None:
        self.known, self.uses = known, uses
        self.channels: dict[str, Channels] = {}
        self._inputs = {value.name for value in required_inputs(flat.graph)}
        self._arrays: dict[str, npt.NDArray[np.generic] | None] = {}

    def add(self, node: onnx.NodeProto) -> None:
        """Work out the channels of what a node makes, where they can be followed."""
        if not node.output:
            return
        found: Channels | None
        if node.op_type in _LAYERS:
            found = _LAYERS[node.op_type](self, node)
        elif node.op_type in _KEEPING:
            found = self._kept(node)
        else:
            rule = _MOVES.get(node.op_type)
            found = rule(self, node) if rule else None
        if found is not None:
            self.channels[node.output[0]] = found

    def weights(self, node: onnx.NodeProto) -> npt.NDArray[np.generic] | None:
        """Return the weights of a layer, its second input, where the file holds them."""
        return self.constant(node.input[1]) if len(node.input) > 1 else None

    def constant(self, name: str) -> npt.NDArray[np.generic] | None:
        """Return the numbers of a constant, scaled or turned by a node or not."""
        if name not in self._arrays:
            self._arrays[name] = self._computed(name)
        return self._arrays[name]

    def rank(self, name: str) -> int:
        """Return how many axes a value has; 0 where that is not known."""
        return len(self.known.shapes.get(name, ()))

    def of(self, name: str, axis: int, count: int) -> Array:
        """Return breadths along an axis; where they were not followed, all channels are alike."""
        found = self.channels.get(name)
        if found is None or found.axis != axis or len(found.breadths) != count:
            return np.ones(count)
        return found.breadths

    def _computed(self, name: str) -> npt.NDArray[np.generic] | None:
        tensor = self.uses.constants.get(name)
        if tensor is not None:
            return numbers_of(tensor)
        node = self.uses.producer(name)
        if node is None or not node.input:
            return None
        array = self.constant(node.input[0])
        if array is None:
            return None
        if node.op_type == "Transpose":
            return array.transpose(attribute(node, "perm"))
        # A scale for each row changes no row's own proportions; codes of a zero point do.
        if node.op_type == "DequantizeLinear" and len(node.input) > 2:  # noqa: PLR2004 - x, scale, zero
            zero = self.constant(node.input[2])
            if zero is not None and zero.size == 1:
                return array.astype(np.float64) - float(zero.reshape(-1)[0])
        return array if node.op_type in {"Cast", "Identity", "DequantizeLinear"} else None

    def _kept(self, node: onnx.NodeProto) -> Channels | None:
        rows = [self.channels[name] for name in node.input if name in self.channels]
        if not rows or any(
            row.axis != rows[0].axis or len(row.breadths) != len(rows[0].breadths) for row in rows
        ):
            return None
        # A sum has read what any of its terms has read; a term that was not followed, everything.
        followed = all(
            name in self.channels or name in self._inputs or not self._is_wide(name, rows[0])
            for name in node.input
            if name
        )
        if not followed:
            return None
        # A channel times what a function makes of it, as in GELU and SiLU, is still that channel.
        alone = all(
            row.strengths is rows[0].strengths and row.filled is rows[0].filled for row in rows
        )
        return Channels(
            rows[0].axis,
            np.max([row.breadths for row in rows], axis=0),
            min(row.narrow for row in rows),
            self._scaled(node, rows[0]) if alone else None,
            rows[0].filled if alone else None,
        )

    def _scaled(self, node: onnx.NodeProto, row: Channels) -> Array | None:
        """Return the strengths of channels behind a node; normalisation scales each of them."""
        if node.op_type != "BatchNormalization" or row.strengths is None:
            return row.strengths
        scale, variance = self.constant(node.input[1]), self.constant(node.input[4])
        if scale is None or variance is None or len(scale) != len(row.strengths):
            return None
        deviation = np.sqrt(variance.astype(np.float64) + float(attribute(node, "epsilon", 1e-5)))
        return np.asarray(row.strengths * np.abs(scale.astype(np.float64)) / deviation)

    def heaviness(self, node: onnx.NodeProto, read: Channels) -> Array | None:
        """Return what the channels that a layer reads can do to it, beside their siblings."""
        rows = _strengths(self, node)
        if rows is None or read.strengths is None or rows.shape[1] != len(read.strengths):
            return None
        squares = sum(np.square(part).sum(axis=0) for part in _parts(rows))
        weighed = read.strengths * np.sqrt(squares)
        ordinary = float(np.quantile(weighed, _ORDINARY, method="lower"))
        return np.asarray(weighed / ordinary) if ordinary > 0 else None

    def _is_wide(self, name: str, row: Channels) -> bool:
        """Whether a value has channels of its own, and is no constant."""
        shape = self.known.shapes.get(name, ())
        if name in self.uses.constants or self.constant(name) is not None:
            return False
        return len(row.breadths) in shape


def _mixed(axis: int, strengths: npt.NDArray[Any], before: Array, filled: Array | None) -> Channels:
    """Return breadths after a layer, given how strongly each output (row) reads each input."""
    rows = [_read(part, before) for part in _parts(strengths)]
    largest, read, norms = map(np.concatenate, zip(*rows, strict=True))
    alive = read[largest > 0]
    middle = float(np.median(alive)) if len(alive) else 0.0
    # A channel without weights reads nothing and says nothing: it is no path.
    found = np.where(largest > 0, read / middle if middle > 0 else 1.0, 1.0)
    narrow = float(np.clip(_FEW_READ / max(middle, 1e-9), _NARROWEST, _WIDEST))
    return Channels(axis, np.minimum(found, 1.0), narrow, norms, filled)


def _read(strengths: Array, before: Array) -> tuple[Array, Array, Array]:
    """Return of each row its largest strength, what it reads of the inputs' breadths, its norm."""
    largest = strengths.max(axis=1, keepdims=True)
    shares = np.divide(strengths, largest, out=np.zeros_like(strengths), where=largest > 0)
    return largest[:, 0], shares @ before, np.sqrt(np.square(strengths).sum(axis=1))


def _parts(rows: npt.NDArray[Any]) -> Iterator[Array]:
    """Yield the magnitudes of a matrix, some rows at a time: all of them may not fit in memory."""
    step = max(1, _AT_ONCE // max(1, rows.shape[1]))
    for start in range(0, max(1, len(rows)), step):
        yield np.abs(rows[start : start + step].astype(np.float64))


def _strengths(walk: _Walk, node: onnx.NodeProto) -> npt.NDArray[Any] | None:
    """Return how strongly each output of a layer (row) reads each input, signs apart."""
    weights = walk.weights(node)
    if weights is None:
        return None
    if node.op_type != "Conv":
        if weights.ndim != 2:  # noqa: PLR2004 - (inputs, outputs)
            return None
        return weights if node.op_type == "Gemm" and attribute(node, "transB", 0) else weights.T
    groups = int(attribute(node, "group", 1))
    if weights.ndim < 3 or not 1 <= groups <= len(weights):  # noqa: PLR2004 - (outputs, inputs, ...)
        return None
    squares = np.square(weights.astype(np.float64))
    narrow = np.sqrt(squares.sum(axis=tuple(range(2, weights.ndim))))
    if groups == 1:
        return np.asarray(narrow)
    outputs, inputs = len(narrow) // groups, narrow.shape[1]
    whole = np.zeros((len(narrow), inputs * groups))
    for row, strength in enumerate(narrow):
        start = row // outputs * inputs
        whole[row, start : start + inputs] = strength
    return whole


def _layer(walk: _Walk, node: onnx.NodeProto) -> Channels | None:
    rows = _strengths(walk, node)
    axis = 1 if node.op_type == "Conv" else walk.rank(node.input[0]) - 1
    if rows is None or axis < 1 or len(rows) < _FEWEST:
        return None
    return _mixed(axis, rows, walk.of(node.input[0], axis, rows.shape[1]), _filled(walk, node))


def _filled(walk: _Walk, node: onnx.NodeProto) -> Array | None:
    """Return the share of the weights of each output that are not 0; None where there are few."""
    weights = walk.weights(node)
    if weights is None:
        return None
    rows = weights
    if node.op_type == "MatMul" or (node.op_type == "Gemm" and not attribute(node, "transB", 0)):
        rows = rows.T
    rows = rows.reshape(len(rows), -1)
    if rows.shape[1] < _SEVERAL:
        return None
    # What no channel reads, as the border of all pictures, says nothing.
    read = functools.reduce(np.maximum, (part.max(axis=0) for part in _parts(rows))) > 0
    return np.concatenate([_share(part[:, read]) for part in _parts(rows)])


def _share(rows: Array) -> Array:
    """Return the share of each row that is not 0."""
    largest = rows.max(axis=1, keepdims=True, initial=0.0)
    return np.asarray((rows > _NOTHING * largest).mean(axis=1) * (largest[:, 0] > 0))


def _flattened(walk: _Walk, node: onnx.NodeProto) -> Channels | None:
    """Follow channels into rows of features: each channel becomes as many as it has places."""
    found = walk.channels.get(node.input[0])
    shape = walk.known.shapes.get(node.output[0], ())
    if found is None or found.axis != 1 or len(shape) < 2 or not isinstance(shape[1], int):  # noqa: PLR2004
        return None
    each, rest = divmod(shape[1], len(found.breadths))
    if rest or each < 1 or any(size != 1 for size in shape[2:] if each > 1):
        return None
    strengths = None if found.strengths is None else np.repeat(found.strengths, each)
    filled = None if found.filled is None else np.repeat(found.filled, each)
    return Channels(1, np.repeat(found.breadths, each), found.narrow, strengths, filled)


def _transposed(walk: _Walk, node: onnx.NodeProto) -> Channels | None:
    found = walk.channels.get(node.input[0])
    order = attribute(node, "perm")
    if found is None or order is None:
        return None
    axis = list(order).index(found.axis)
    return Channels(axis, found.breadths, found.narrow, found.strengths, found.filled)


def _joined(walk: _Walk, node: onnx.NodeProto) -> Channels | None:
    axis = int(attribute(node, "axis", 1))
    parts = []
    for name in node.input:
        shape = walk.known.shapes.get(name, ())
        axis = axis % len(shape) if shape else axis
        if len(shape) <= axis or not isinstance(shape[axis], int):
            return None
        parts.append(walk.of(name, axis, int(shape[axis])))
    narrow = [walk.channels[name].narrow for name in node.input if name in walk.channels]
    return Channels(axis, np.concatenate(parts), min(narrow, default=0.0))


Rule = Callable[[_Walk, onnx.NodeProto], Channels | None]
_LAYERS: Mapping[str, Rule] = dict.fromkeys(("Conv", "Gemm", "MatMul"), _layer)
_MOVES: Mapping[str, Rule] = {
    "Flatten": _flattened,
    "Reshape": _flattened,
    "Squeeze": _flattened,
    "Transpose": _transposed,
    "Concat": _joined,
}
"""Operators that move channels to other places."""


def index_of(shape: Sequence[int], axis: int, chosen: Sequence[int]) -> tuple[Any, ...]:
    """Return the index of chosen channels of a value."""
    index: list[Any] = [slice(None)] * len(shape)
    index[axis] = list(chosen)
    return tuple(index)
