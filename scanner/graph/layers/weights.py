"""The weights of convolutions and dense layers as plain numbers, however the file stores them."""

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping

import numpy as np
import numpy.typing as npt
import onnx

from scanner.graph.core.draft import copied
from scanner.graph.core.simplify import fold_batch_normalisation, fold_constants
from scanner.graph.core.sparse import write_out_sparse
from scanner.graph.core.structure import attribute, numbers_of

Weights = npt.NDArray[np.float64]
"""Of one layer, in double precision: (output channels, input channels per group, taps)."""
Tensors = Mapping[str, onnx.TensorProto]
Readers = dict[str, Callable[[onnx.NodeProto, Tensors], Weights | None]]

_MATRIX, _RANK = 2, 3
_QUANTISED = 3  # inputs that hold quantised weights: codes, scale, zero point


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class LinearLayer:
    """One convolution or dense layer with constant weights.

    Attributes:
        name: Of its output value.
        operator: Its operator.
        weights: Shape (output channels, input channels of its group, taps); a dense layer has one
            tap.
    """

    name: str
    operator: str
    weights: Weights


def linear_layers(proto: onnx.ModelProto) -> tuple[LinearLayer, ...]:
    """Return the convolutions and dense layers in graph order.

    Weights behind a Cast, a DequantizeLinear or any other computation on constants are computed
    first, and every BatchNormalization right behind a convolution is folded into it.

    Args:
        proto: The model, flat (`scanner.graph.core.flatten.flatten`) and with its external data
            inside.

    Raises:
        MalformedModelError: The graph's shapes contradict one another, or a tensor's data its
            shape.
    """
    graph = _folded(proto)
    return tuple(_layers(graph.node, graph, _READERS))


def from_the_last(proto: onnx.ModelProto) -> Iterator[LinearLayer]:
    """Yield what `linear_layers` returns and what recurrent layers do to their input, last first.

    One at a time: all of them take twice the memory of the file. A recurrent layer's gates are one
    matrix, as they are stored.

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


def spectral_norms(weights: Weights) -> Weights:
    """Return sigma_max of each output channel's matrix of (input channels, taps).

    It is the root of the largest eigenvalue of the smaller Gram matrix.

    Args:
        weights: Shape (output channels, input channels, taps).

    Returns:
        Shape (output channels,).
    """
    rows = weights if weights.shape[1] <= weights.shape[2] else weights.transpose(0, 2, 1)
    gram = rows @ rows.transpose(0, 2, 1)
    return np.asarray(np.sqrt(np.maximum(np.linalg.eigvalsh(gram)[:, -1], 0)), dtype=np.float64)


def _layers(
    nodes: Iterable[onnx.NodeProto], graph: onnx.GraphProto, readers: Readers
) -> Iterator[LinearLayer]:
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    for node in nodes:
        read = readers.get(node.op_type)
        weights = read(node, tensors) if read else None
        # Weights of another rank than (output channels, input channels, taps) are not what the
        # operator takes: the runtime will say so.
        if weights is not None and weights.ndim == _RANK and weights.size:
            name = next(filter(None, node.output), "")
            yield LinearLayer(name=name, operator=node.op_type, weights=weights)


def _constant(name: str, tensors: Tensors) -> Weights | None:
    if name not in tensors:
        return None
    return numbers_of(tensors[name]).astype(np.float64)


def _second(node: onnx.NodeProto) -> str:
    return node.input[1] if len(node.input) > 1 else ""


def _taps(weights: Weights) -> Weights | None:
    """Return weights of shape (M, C, ...) as (M, C, taps); None where there are none."""
    return weights.reshape(*weights.shape[:2], -1) if weights.ndim > 1 and weights.size else None


def _convolution(node: onnx.NodeProto, tensors: Tensors) -> Weights | None:
    weights = _constant(_second(node), tensors)
    return None if weights is None else _taps(weights)


def _transposed_convolution(node: onnx.NodeProto, tensors: Tensors) -> Weights | None:
    """Turn (input channels, output channels per group, ...) into the order of a convolution."""
    weights = _constant(_second(node), tensors)
    if weights is None or weights.ndim <= _MATRIX:
        return None
    groups = int(attribute(node, "group", 1))
    if groups < 1 or len(weights) % groups or not weights.size:
        return None
    grouped = weights.reshape(groups, len(weights) // groups, weights.shape[1], -1).swapaxes(1, 2)
    return grouped.reshape(-1, *grouped.shape[2:])


def _gemm(node: onnx.NodeProto, tensors: Tensors) -> Weights | None:
    weights = _constant(_second(node), tensors)
    if weights is None:
        return None
    scaled = float(attribute(node, "alpha", 1.0)) * weights
    return (scaled if attribute(node, "transB", 0) else scaled.T)[..., None]


def _product(node: onnx.NodeProto, tensors: Tensors) -> Weights | None:
    weights = _constant(_second(node), tensors)
    return None if weights is None or weights.ndim != _MATRIX else weights.T[..., None]


def _quantised_convolution(node: onnx.NodeProto, tensors: Tensors) -> Weights | None:
    constants = [_constant(name, tensors) for name in node.input[3:6]]
    codes, scale, zero = constants if len(constants) == _QUANTISED else (None, None, None)
    if codes is None or scale is None or zero is None:
        return None
    if codes.ndim <= _MATRIX or not {scale.size, zero.size} <= {1, len(codes)}:
        return None
    flat = _taps(codes)
    return None if flat is None else (flat - zero.reshape(-1, 1, 1)) * scale.reshape(-1, 1, 1)


def _quantised_product(node: onnx.NodeProto, tensors: Tensors) -> Weights | None:
    constants = [_constant(name, tensors) for name in node.input[3:6]]
    codes, scale, zero = constants if len(constants) == _QUANTISED else (None, None, None)
    if codes is None or scale is None or zero is None or codes.ndim != _MATRIX:
        return None
    return ((codes - zero) * scale).T[..., None]


def _recurrent(node: onnx.NodeProto, tensors: Tensors) -> Weights | None:
    """Return the matrix of the input, of all gates and directions."""
    weights = _constant(_second(node), tensors)
    if weights is None or weights.ndim != _RANK or not weights.size:
        return None
    return weights.reshape(-1, weights.shape[2], 1)


_READERS: Readers = {
    "Conv": _convolution,
    "FusedConv": _convolution,
    "ConvTranspose": _transposed_convolution,
    "Gemm": _gemm,
    "MatMul": _product,
    "QLinearConv": _quantised_convolution,
    "QLinearMatMul": _quantised_product,
}
_OF_RECURRENT: Readers = dict.fromkeys(("GRU", "LSTM", "RNN"), _recurrent)
