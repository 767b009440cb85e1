"""What a model does to its input first: how it scales the pixels, and its first linear layer.

Only the nodes in front of the first convolution or dense layer are looked at, so a file that
`scanner.modelfile.fast_reader` reads need not be parsed by onnx for it.
"""

import contextlib
import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from scanner.modelfile.model import Model

Numbers = npt.NDArray[np.float64]

_TYPES = {1: "<f4", 2: "u1", 3: "i1", 6: "<i4", 7: "<i8", 10: "<f2", 11: "<f8"}  # of TensorProto
_EXTERNAL = 1  # TensorProto.DataLocation
_SAME_VALUES = frozenset({
    "Cast", "Dropout", "Flatten", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze",
})  # fmt: skip
_LINEAR = frozenset({"Conv", "Gemm", "MatMul"})
_LONGEST = 32  # nodes in front of the first layer
_CODES = {2: (0, 255), 3: (-128, 127)}  # lowest and highest code of uint8 and int8
_MOST_ELEMENTS = 2**24  # of a tensor that is read: 128 MiB in double precision
_CHANNELS = 4  # a factor for each channel has no more entries


class Entrance(NamedTuple):
    """How an input enters a model.

    Attributes:
        centre: The input value that the graph maps to 0 in front of its first layer, averaged over
            channels; 0 where it subtracts nothing.
        width: The difference of input values that the graph maps to 1; 1 where it divides by
            nothing.
        limits: Lowest and highest input that a Clip or a QuantizeLinear lets through; None without
            one.
        weights: Of the first layer, (outputs, inputs); None where there is none, or its weights
            cannot be read.
        bias: Of the first layer, (outputs,), a normalisation right behind it included.
    """

    centre: float = 0.0
    width: float = 1.0
    limits: tuple[float, float] | None = None
    weights: Numbers | None = None
    bias: Numbers | None = None


def entrance(model: Model) -> Entrance:
    """Return how an input enters a model; of what cannot be read, what is known without it.

    Raises:
        ModelError: A tensor in front of the first layer, or of it, lies outside the model's folder,
            is missing or too short.
    """
    graph = (model.plain or model.proto).graph
    # Where shapes contradict one another, the runtime will say so, and say it better.
    with contextlib.suppress(ValueError, IndexError), np.errstate(all="ignore"):
        return _Walk(graph, model).result()
    return Entrance()


class _Walk:
    """From the input to the first layer, as y = factor * x + shift."""

    def __init__(self, graph: Any, model: Model) -> None:
        self._model = model
        self._tensors = {tensor.name: tensor for tensor in graph.initializer}
        self._nodes: dict[str, list[Any]] = {}
        self._makers: dict[str, Any] = {}
        for node in graph.node:
            for read in node.input:
                self._nodes.setdefault(read, []).append(node)
            for made in node.output:
                self._makers[made] = node
        self._at = model.identity.inputs[0].name
        self._factor: Numbers = np.ones(1)
        self._shift: Numbers = np.zeros(1)
        self._limits: tuple[float, float] | None = None
        self._seen: set[str] = set()

    def result(self) -> Entrance:
        """Return the way to the layer of most channels: what else reads the input is no network."""
        ends = list(self._ends(_LONGEST))
        return max(ends, key=lambda e: 0 if e.weights is None else len(e.weights))

    def _ends(self, steps: int) -> Iterator[Entrance]:
        """Yield where the ways from here end: at a layer, or at what cannot be followed.

        Of several readers each is followed, since a second one would hide the network.
        """
        nodes = [n for n in self._nodes.get(self._at, []) if not self._seen.intersection(n.output)]
        if len(nodes) != 1 or not steps:
            yield self._entrance(None, None)
        here = self._at, self._factor, self._shift, self._limits
        for node in nodes if steps else ():
            self._at, self._factor, self._shift, self._limits = here
            if node.op_type in _LINEAR:
                yield self._entrance(*self._layer(node))
            elif self._passes(node):
                self._at = node.output[0]
                self._seen.add(self._at)
                yield from self._ends(steps - 1)
            else:
                yield self._entrance(None, None)

    def _entrance(self, weights: Numbers | None, bias: Numbers | None) -> Entrance:
        usable = np.isfinite(self._factor).all() and np.all(self._factor != 0)
        if not usable:
            return Entrance()
        return Entrance(
            centre=float(np.mean(-self._shift / self._factor)),
            width=float(np.mean(1 / np.abs(self._factor))),
            limits=self._limits,
            weights=weights,
            bias=bias,
        )

    def _passes(self, node: Any) -> bool:
        """Take a node's step, if it is one that keeps or scales the values."""
        kind = node.op_type
        if kind in _SAME_VALUES or kind == "DequantizeLinear":
            return True
        if kind in {"Clip", "QuantizeLinear"}:
            self._limit(*(self._clipped(node) if kind == "Clip" else self._quantised(node)))
            return True
        if kind == "BatchNormalization":
            return self._normalise(node)
        return kind in {"Add", "Sub", "Mul", "Div"} and self._scale(node)

    def _limit(self, low: float | None, high: float | None) -> None:
        if low is not None and high is not None and self._factor.size == 1 and self._factor[0]:
            ends = sorted((end - self._shift[0]) / self._factor[0] for end in (low, high))
            self._limits = (float(ends[0]), float(ends[1]))

    def _clipped(self, node: Any) -> tuple[float | None, float | None]:
        given = {a.name: a.f for a in node.attribute}
        low, high = (self._one(node, place) for place in (1, 2))
        return low if low is not None else given.get("min"), (
            high if high is not None else given.get("max")
        )

    def _quantised(self, node: Any) -> tuple[float | None, float | None]:
        step, zero = self._one(node, 1), self._one(node, 2)
        tensor = self._tensor(node.input[2]) if len(node.input) > 2 else None  # noqa: PLR2004 - zero point
        codes = _CODES.get(tensor.data_type if tensor is not None else 2)
        if step is None or codes is None:
            return None, None
        low, high = ((code - (zero or 0.0)) * step for code in codes)
        return low, high

    def _normalise(self, node: Any) -> bool:
        factor, shift = self._normalisation(node)
        if factor is None or shift is None or factor.size > _CHANNELS:
            return False
        self._factor, self._shift = factor * self._factor, factor * self._shift + shift
        return True

    def _normalisation(self, node: Any) -> tuple[Numbers | None, Numbers | None]:
        """Return factor and shift of a BatchNormalization, each (channels,)."""
        parts = [self._numbers(name) for name in node.input[1:5]]
        if len(parts) < 4 or any(part is None for part in parts):  # noqa: PLR2004 - as it says
            return None, None
        gain, offset, mean, variance = (np.ravel(np.asarray(part)) for part in parts)
        epsilon = next((a.f for a in node.attribute if a.name == "epsilon"), 1e-5)
        factor = gain / np.sqrt(variance + epsilon)
        return factor, offset - factor * mean

    def _scale(self, node: Any) -> bool:
        first = node.input[0] == self._at
        constant = self._numbers(node.input[1 if first else 0])
        if constant is None or constant.size > _CHANNELS or (not first and node.op_type == "Div"):
            return False
        constant = constant.ravel()
        if node.op_type in {"Mul", "Div"}:
            factor = constant if node.op_type == "Mul" else 1 / constant
            self._factor, self._shift = self._factor * factor, self._shift * factor
        elif node.op_type == "Add":
            self._shift = self._shift + constant
        else:
            sign = 1.0 if first else -1.0
            self._factor, self._shift = sign * self._factor, sign * (self._shift - constant)
        return True

    def _layer(self, node: Any) -> tuple[Numbers | None, Numbers | None]:
        """Return the weights as (outputs, inputs) and the bias of the first layer."""
        weights = self._numbers(node.input[1]) if node.input[0] == self._at else None
        if weights is None or weights.ndim < 2:  # noqa: PLR2004 - a matrix
            return None, None
        turned = any(a.name == "transB" and a.i for a in node.attribute)
        if node.op_type == "MatMul" or (node.op_type == "Gemm" and not turned):
            weights = weights.T
        rows = weights.reshape(len(weights), -1)
        bias = self._numbers(node.input[2]) if len(node.input) > 2 else None  # noqa: PLR2004
        flat = np.zeros(len(rows)) if bias is None else bias.ravel()
        return self._completed(node, rows, flat if flat.size == len(rows) else np.zeros(len(rows)))

    def _completed(self, node: Any, rows: Numbers, bias: Numbers) -> tuple[Numbers, Numbers]:
        """Take a bias or a normalisation right behind the first layer into it."""
        behind = self._nodes.get(node.output[0], [])
        follower = behind[0] if len(behind) == 1 else None
        if follower is not None and follower.op_type == "BatchNormalization":
            factor, shift = self._normalisation(follower)
            if factor is not None and shift is not None and factor.size == len(rows):
                return rows * factor[:, None], bias * factor + shift
        if follower is not None and follower.op_type == "Add":
            added = next(filter(lambda a: a is not None, map(self._numbers, follower.input)), None)
            if added is not None and added.size == len(rows):
                return rows, bias + added.ravel()
        return rows, bias

    def _one(self, node: Any, place: int) -> float | None:
        numbers = self._numbers(node.input[place]) if len(node.input) > place else None
        return float(numbers.ravel()[0]) if numbers is not None and numbers.size == 1 else None

    def _numbers(self, name: str) -> Numbers | None:
        """Return a constant's elements; behind a DequantizeLinear or a Cast, those it makes."""
        tensor = self._tensor(name)
        if tensor is not None:
            return _elements(tensor)
        maker = self._makers.get(name)
        if maker is None or maker.op_type not in {"DequantizeLinear", "Cast", "Identity"}:
            return None
        inner = self._tensor(maker.input[0])
        codes = None if inner is None else _elements(inner)
        if codes is None or maker.op_type != "DequantizeLinear":
            return codes
        step, zero = (
            None if len(maker.input) <= place else self._numbers(maker.input[place])
            for place in (1, 2)
        )
        if step is None or step.size not in {1, len(codes)}:
            return None
        along = (-1,) + (1,) * (codes.ndim - 1)
        start = 0.0 if zero is None else zero.reshape(along) if zero.size > 1 else zero.item()
        return np.asarray((codes - start) * (step.reshape(along) if step.size > 1 else step.item()))

    def _tensor(self, name: str) -> Any:
        if name in self._tensors:
            return self._whole(self._tensors[name])
        maker = self._makers.get(name)
        if maker is None or maker.op_type != "Constant":
            return None
        return next((self._whole(a.t) for a in maker.attribute if a.name == "value"), None)

    def _whole(self, tensor: Any) -> Any:
        """Return a tensor with its data inside: of a large file no other tensor is read."""
        outside = getattr(tensor, "data_location", 0) == _EXTERNAL
        if not outside or math.prod(tensor.dims) > _MOST_ELEMENTS:
            return tensor
        copy = type(tensor)()
        copy.CopyFrom(tensor)
        self._model.folder.inline(copy)
        return copy


def _elements(tensor: Any) -> Numbers | None:
    """Return a tensor's elements; None where they are of another type, or not as many as it says.

    Works on onnx's tensors and on those of the fast reader alike.
    """
    return next(_read(tensor), None)


def _read(tensor: Any) -> Iterator[Numbers]:
    kind, count = _TYPES.get(tensor.data_type), math.prod(tensor.dims)
    if kind is None or not 0 < count <= _MOST_ELEMENTS:
        return
    raw = np.frombuffer(bytes(tensor.raw_data), kind) if len(tensor.raw_data) else None
    if raw is None:
        typed = {1: "float_data", 11: "double_data", 7: "int64_data", 2: "int32_data",
                 3: "int32_data", 6: "int32_data"}.get(tensor.data_type)  # fmt: skip
        raw = np.asarray(getattr(tensor, typed, ()) if typed else ())
    if raw.size == count:
        yield raw.astype(np.float64).reshape(tuple(tensor.dims))
