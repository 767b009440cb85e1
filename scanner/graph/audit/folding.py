"""What constants come to among themselves, before any image is seen.

Two tables that cancel, the smallest of a table cut off at zero, a mean times nothing: a node that
reads only constants is one, whatever it is called, and where it is zero nothing of them is left.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from scanner.graph.audit import views
from scanner.graph.core.structure import attribute, held_tensor
from scanner.modelfile.domains import STANDARD_DOMAINS

Array = npt.NDArray[Any]

_MOST = 1 << 20
"""Numbers of a constant that are worked on."""
_ALL = 1 << 25
"""Numbers that are read, multiplied or made in all of a model."""


class Budget:
    """How many numbers may still be read, multiplied or made, in all graphs of a model together."""

    def __init__(self) -> None:
        self.left = _ALL


def fold(
    nodes: Iterable[onnx.NodeProto], tensors: Iterable[onnx.TensorProto], budget: Budget
) -> dict[str, Array]:
    """Return the numbers of the values that depend on constants only.

    Args:
        nodes: Those of a graph or function, in order.
        tensors: Its initialisers.
        budget: What the work is taken from.

    Returns:
        By the name of the value; what is too large, or of an operator not known here, is missing.
    """
    held = {tensor.name: tensor for tensor in tensors}
    known: dict[str, Array] = {}
    folded: dict[str, Array] = {}
    for node in nodes:
        rule = _RULES.get(node.op_type) if node.domain in STANDARD_DOMAINS else None
        if node.op_type == "Constant" and node.output:
            value = held_tensor(node, "value")
            if value is not None:
                held[node.output[0]] = value
        if rule is None or not node.input or len(node.output) != 1:
            continue
        arrays = [_array(name, held, known) if name else None for name in node.input]
        if any(a is None for a, name in zip(arrays, node.input, strict=True) if name):
            continue
        try:
            needed = _work(node, [a for a in arrays if a is not None])
            if not 0 < needed <= budget.left:
                continue
            budget.left -= needed
            with np.errstate(all="ignore"):
                result = np.asarray(rule(node, arrays))
        except (ValueError, TypeError, IndexError, KeyError, AttributeError, ZeroDivisionError):
            continue  # the runtime will refuse it, or it is beyond these rules
        if result.dtype.kind in _KINDS:
            known[node.output[0]] = folded[node.output[0]] = result
    return folded


_PLAIN = frozenset({
    onnx.TensorProto.FLOAT, onnx.TensorProto.DOUBLE, onnx.TensorProto.FLOAT16,
    onnx.TensorProto.INT8, onnx.TensorProto.INT16, onnx.TensorProto.INT32, onnx.TensorProto.INT64,
    onnx.TensorProto.UINT8, onnx.TensorProto.UINT16, onnx.TensorProto.UINT32,
    onnx.TensorProto.UINT64, onnx.TensorProto.BOOL,
})  # fmt: skip
"""Of the other types only the codes are at hand, and codes are not added as their numbers are."""
_KINDS = "fiub"
"""Whole numbers of Python would grow without end."""


def _work(node: onnx.NodeProto, arrays: list[Array]) -> int:
    """Return how many numbers a node reads, multiplies or makes, before it does; 0 for none.

    Raises:
        ValueError: Its inputs do not fit one another.
    """
    if any(array.dtype.kind not in _KINDS or not array.size for array in arrays):
        return 0
    read = sum(array.size for array in arrays)
    if node.op_type == "MatMul":
        one, other = arrays
        # Each row of the one meets each column of the other, in each matrix of a batch.
        batch = np.broadcast_shapes(one.shape[:-2], other.shape[:-2])
        rows = one.shape[-2] if one.ndim > 1 else 1
        columns = other.shape[-1] if other.ndim > 1 else 1
        return int(read + math.prod(batch) * rows * one.shape[-1] * columns)
    if node.op_type in _ONE_BY_ONE:
        made = math.prod(np.broadcast_shapes(*(array.shape for array in arrays)))
        return read + made * max(len(arrays) - 1, 1)  # each but the first makes all of it again
    return read


def _array(
    name: str, held: Mapping[str, onnx.TensorProto], known: dict[str, Array]
) -> Array | None:
    if name not in known and name in held and held[name].data_type in _PLAIN:
        numbers = views.numbers(held[name])
        fits = numbers is not None and numbers.size == np.prod(held[name].dims, dtype=np.float64)
        if numbers is not None and fits and numbers.size <= _MOST:
            known[name] = numbers.reshape(tuple(held[name].dims))
    return known.get(name)


Rule = Callable[[onnx.NodeProto, list[Any]], Any]


def _plain(function: Callable[..., Any]) -> Rule:
    return lambda _node, arrays: function(*arrays)


def _several(function: Callable[[Any, Any], Any]) -> Rule:
    def rule(_node: onnx.NodeProto, arrays: list[Any]) -> Any:
        result = arrays[0]
        for array in arrays[1:]:
            result = function(result, array)
        return result

    return rule


def _reduced(function: Callable[..., Any]) -> Rule:
    def rule(node: onnx.NodeProto, arrays: list[Any]) -> Any:
        axes = attribute(node, "axes") or (arrays[1].tolist() if len(arrays) > 1 else None)
        keep = bool(attribute(node, "keepdims", 1))
        return function(arrays[0], axis=tuple(axes) if axes else None, keepdims=keep)

    return rule


def _cast(node: onnx.NodeProto, arrays: list[Any]) -> Any:
    kind = onnx.helper.tensor_dtype_to_np_dtype(int(attribute(node, "to")))
    if kind.kind not in _KINDS:
        raise TypeError(kind)
    return arrays[0].astype(kind)


def _clip(node: onnx.NodeProto, arrays: list[Any]) -> Any:
    low, high = (*arrays[1:], None, None)[:2]
    low, high = attribute(node, "min", low), attribute(node, "max", high)
    result = arrays[0] if low is None else np.maximum(arrays[0], low)
    return result if high is None else np.minimum(result, high)


def _reshape(_node: onnx.NodeProto, arrays: list[Any]) -> Any:
    shape = [arrays[0].shape[at] if n == 0 else n for at, n in enumerate(arrays[1].tolist())]
    return arrays[0].reshape(shape)


def _quotient(one: Array, other: Array) -> Any:
    """Divide; what is left of whole numbers is cut off towards zero, and not rounded down."""
    if one.dtype.kind == "f":
        return one / other
    down = one // other
    return down + ((down < 0) & (down * other != one)).astype(down.dtype)


_RULES: Mapping[str, Rule] = {
    "Abs": _plain(np.abs), "Add": _plain(np.add), "And": _plain(np.logical_and), "Cast": _cast,
    "Clip": _clip, "Div": _plain(_quotient),
    "Ceil": _plain(np.ceil), "Cos": _plain(np.cos), "Equal": _plain(np.equal),
    "Exp": _plain(np.exp), "Floor": _plain(np.floor), "Greater": _plain(np.greater),
    "GreaterOrEqual": _plain(np.greater_equal), "Less": _plain(np.less),
    "LessOrEqual": _plain(np.less_equal), "MatMul": _plain(np.matmul),
    "Max": _several(np.maximum), "Min": _several(np.minimum), "Mul": _plain(np.multiply),
    "Neg": _plain(np.negative), "Not": _plain(np.logical_not), "Or": _plain(np.logical_or),
    "ReduceMax": _reduced(np.max), "ReduceMean": _reduced(np.mean), "ReduceMin": _reduced(np.min),
    "ReduceSum": _reduced(np.sum), "Relu": _plain(lambda a: np.maximum(a, 0)),
    "Reshape": _reshape, "Sign": _plain(np.sign), "Sub": _plain(np.subtract),
    "Sum": _several(np.add),
}  # fmt: skip
_ONE_BY_ONE = _RULES.keys() - {
    "Cast", "MatMul", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceSum", "Reshape",
}  # fmt: skip
"""Operators whose inputs are brought to one shape."""
