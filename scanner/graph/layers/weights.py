"""The weights of convolutions and dense layers as plain numbers, however the file stores them."""

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from scanner.graph.core.draft import copied
from scanner.graph.core.simplify import fold_batch_normalisation, fold_constants
from scanner.graph.core.sparse import write_out_sparse
from scanner.graph.core.structure import attribute, numbers_of
from scanner.modelfile.domains import STANDARD_DOMAINS

Array = npt.NDArray[Any]
Block = npt.NDArray[np.float64]
"""Weights of some output channels: (output channels, input channels per group, taps)."""

_KNOWN_DOMAINS = (*STANDARD_DOMAINS, "com.microsoft")
_BLOCK = 2**16  # weights that are in double precision at a time: 512 KiB, which a cache holds
_MATRIX, _RANK = 2, 3
_SUMS = frozenset({"ConvInteger", "MatMulInteger"})  # of products of codes
_QUANTISED = 3  # inputs that hold quantised weights: codes, scale, zero point


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Weights:
    """Weights of one layer, as they are stored: they stand for (stored - zero) * scale.

    In double precision, those of a large layer would take at least twice their memory at once.

    Attributes:
        stored: Shape (output channels, input channels per group, taps); a dense layer has one tap.
            A view of the file's own numbers where that is possible.
        zero: What stands for zero, of shape (output channels or 1, 1, 1); None for 0.
        scale: The factor, of the same shape; None for 1.
    """

    stored: Array
    zero: Block | None = None
    scale: Block | None = None

    def blocks(self) -> Iterator[Block]:
        """Yield the weights in double precision, some output channels at a time, in order."""
        step = max(1, _BLOCK // max(1, self.stored[:1].size))
        for start in range(0, len(self.stored), step):
            part = slice(start, start + step)
            block = self.stored[part].astype(np.float64)
            if self.zero is not None:
                block -= self.zero if len(self.zero) == 1 else self.zero[part]
            if self.scale is not None:
                block *= self.scale if len(self.scale) == 1 else self.scale[part]
            yield block


Tensors = Mapping[str, onnx.TensorProto]
Readers = dict[str, Callable[[onnx.NodeProto, Tensors], Weights | None]]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LinearLayer:
    """One convolution or dense layer with constant weights.

    Attributes:
        name: Of its output value.
        operator: Its operator.
        weights: Its weights.
    """

    name: str
    operator: str
    weights: Weights


def linear_layers(proto: onnx.ModelProto) -> Iterator[LinearLayer]:
    """Yield the convolutions and dense layers in graph order, one at a time.

    Weights behind a Cast, a DequantizeLinear or any other computation on constants are computed
    first, and every BatchNormalization right behind a convolution is folded into it.

    Args:
        proto: The model, flat (`scanner.graph.core.flatten.flatten`) and with its external data
            inside, or held in memory.

    Raises:
        MalformedModelError: The graph's shapes contradict one another, or a tensor's data its
            shape.
    """
    graph = _folded(proto)
    yield from _layers(graph.node, graph, _READERS)


def from_the_last(proto: onnx.ModelProto) -> Iterator[LinearLayer]:
    """Yield what `linear_layers` yields and what recurrent layers do to their input, last first.

    A recurrent layer's gates are one matrix, as they are stored.

    Raises:
        MalformedModelError: As for `linear_layers`.
    """
    graph = _folded(proto)
    yield from _layers(reversed(graph.node), graph, _READERS | _OF_RECURRENT)


def _folded(proto: onnx.ModelProto) -> onnx.GraphProto:
    model = copied(proto)
    write_out_sparse(model)
    outputs = [value.name for value in model.graph.output]
    fold_constants(model, keep=outputs)
    fold_batch_normalisation(model, keep=outputs)
    return model.graph


def spectral_norms(weights: Weights) -> Block:
    """Return sigma_max of each output channel's matrix of (input channels, taps).

    It is the root of the largest eigenvalue of the smaller Gram matrix.

    Returns:
        Shape (output channels,).
    """
    return np.concatenate([_norms(block) for block in weights.blocks()])


def _norms(block: Block) -> Block:
    rows = block if block.shape[1] <= block.shape[2] else block.transpose(0, 2, 1)
    gram = rows @ rows.transpose(0, 2, 1)
    return np.asarray(np.sqrt(np.maximum(np.linalg.eigvalsh(gram)[:, -1], 0)), dtype=np.float64)


def _layers(
    nodes: Iterable[onnx.NodeProto], graph: onnx.GraphProto, readers: Readers
) -> Iterator[LinearLayer]:
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    for node in nodes:
        # What another domain calls by the same name may keep its weights in another order, as ONNX
        # Runtime's own layout for convolutions does.
        read = readers.get(node.op_type) if node.domain in _KNOWN_DOMAINS else None
        weights = read(node, tensors) if read else None
        # Weights of another rank than (output channels, input channels, taps) are not what the
        # operator takes: the runtime will say so.
        if weights is not None and weights.stored.ndim == _RANK and weights.stored.size:
            name = next(filter(None, node.output), "")
            yield LinearLayer(name=name, operator=node.op_type, weights=weights)


def _constant(name: str, tensors: Tensors) -> Array | None:
    return numbers_of(tensors[name]) if name in tensors else None


def _second(node: onnx.NodeProto) -> str:
    return node.input[1] if len(node.input) > 1 else ""


def _taps(numbers: Array) -> Array | None:
    """Return weights of shape (M, C, ...) as (M, C, taps); None where there are none."""
    return numbers.reshape(*numbers.shape[:2], -1) if numbers.ndim > 1 and numbers.size else None


def _each(numbers: Array) -> Block:
    """Return a number for each output channel, or one for all, in the shape that `Weights` asks."""
    return numbers.astype(np.float64).reshape(-1, 1, 1)


def _convolution(node: onnx.NodeProto, tensors: Tensors) -> Weights | None:
    numbers = _constant(_second(node), tensors)
    stored = None if numbers is None else _taps(numbers)
    return None if stored is None else Weights(stored=stored)


def _transposed_convolution(node: onnx.NodeProto, tensors: Tensors) -> Weights | None:
    """Turn (input channels, output channels per group, ...) into the order of a convolution."""
    numbers = _constant(_second(node), tensors)
    if numbers is None or numbers.ndim <= _MATRIX:
        return None
    groups = int(attribute(node, "group", 1))
    if groups < 1 or len(numbers) % groups or not numbers.size:
        return None
    grouped = numbers.reshape(groups, len(numbers) // groups, numbers.shape[1], -1).swapaxes(1, 2)
    return Weights(stored=grouped.reshape(-1, *grouped.shape[2:]))


def _gemm(node: onnx.NodeProto, tensors: Tensors) -> Weights | None:
    numbers = _constant(_second(node), tensors)
    if numbers is None:
        return None
    alpha = float(attribute(node, "alpha", 1.0))
    return Weights(
        stored=(numbers if attribute(node, "transB", 0) else numbers.T)[..., None],
        scale=None if alpha == 1 else _each(np.array(alpha)),
    )


def _product(node: onnx.NodeProto, tensors: Tensors) -> Weights | None:
    numbers = _constant(_second(node), tensors)
    if numbers is None or numbers.ndim != _MATRIX:
        return None
    return Weights(stored=numbers.T[..., None])


def _quantised_convolution(node: onnx.NodeProto, tensors: Tensors) -> Weights | None:
    codes, scale, zero = _quantised(node, tensors)
    return (
        None if codes is None or codes.ndim <= _MATRIX else _dequantised(_taps(codes), scale, zero)
    )


def _quantised_product(node: onnx.NodeProto, tensors: Tensors) -> Weights | None:
    codes, scale, zero = _quantised(node, tensors)
    if codes is None or codes.ndim != _MATRIX:
        return None
    rows = codes if attribute(node, "transB", 0) else codes.T
    return _dequantised(rows[..., None], scale, zero)


def _quantised(node: onnx.NodeProto, tensors: Tensors) -> tuple[Array | None, ...]:
    """Return codes, scale and zero point, None for each that is missing or not constant.

    Sums of codes are scaled later. If there is one zero point, so is one scale, which can be taken
    as 1; those of channels with scales of their own are not read.
    """
    if node.op_type in _SUMS:
        names = [*node.input, "", "", "", ""]
        zero = _constant(names[3], tensors)
        alike = zero is not None and zero.size == 1
        return _constant(names[1], tensors), np.ones(1) if alike else None, zero
    constants = [_constant(name, tensors) for name in node.input[3:6]]
    return (*constants, *[None] * (_QUANTISED - len(constants)))


def _dequantised(stored: Array | None, scale: Array | None, zero: Array | None) -> Weights | None:
    if stored is None or scale is None or zero is None:
        return None
    if not {scale.size, zero.size} <= {1, len(stored)}:
        return None
    return Weights(stored=stored, zero=_each(zero), scale=_each(scale))


def _recurrent(node: onnx.NodeProto, tensors: Tensors) -> Weights | None:
    """Return the matrix of the input, of all gates and directions."""
    numbers = _constant(_second(node), tensors)
    if numbers is None or numbers.ndim != _RANK or not numbers.size:
        return None
    return Weights(stored=numbers.reshape(-1, numbers.shape[2], 1))


_READERS: Readers = {
    "Conv": _convolution,
    "FusedConv": _convolution,
    "ConvTranspose": _transposed_convolution,
    "Gemm": _gemm,
    "MatMul": _product,
    "ConvInteger": _quantised_convolution,
    "MatMulInteger": _quantised_product,
    "QGemm": _quantised_product,
    "QLinearConv": _quantised_convolution,
    "QLinearMatMul": _quantised_product,
}
_OF_RECURRENT: Readers = dict.fromkeys(("GRU", "LSTM", "RNN"), _recurrent)
