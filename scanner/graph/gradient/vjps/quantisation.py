"""Straight-through gradients of quantisation: rounding as the identity, saturation as a clamp.

The true derivative is 0 almost everywhere (Bengio et al., "Estimating or propagating gradients
through stochastic neurons", arXiv 1308.3432, section 4). Between QuantizeLinear and
DequantizeLinear the cotangent of a code is a float. Sign, the activation of binary networks, is
taken as the identity as there: networks that are trained with a clamp at 1 scale what they are
given, so that the bound says little of another's.
"""

import numpy as np
import onnx

from scanner.graph.gradient.tape import Value
from scanner.graph.gradient.vjps.base import Gradients, Op, Vjp


def quantize_linear(op: Op) -> Gradients:
    """Differentiate x / scale + zero point, within the range of the code's type."""
    kind = onnx.helper.tensor_dtype_to_np_dtype(op.y.dtype)
    if kind.kind not in "iu":
        raise op.unsupported("its codes are no whole numbers of 8, 16 or 32 bits")
    info = np.iinfo(kind)
    scale = _along_axis(op, op.input(1))
    zero = _along_axis(op, op.input(2).cast(op.x.dtype)) if op.has(2) else op.x.wrap(0)
    code = op.x / scale + zero
    yield 0, (op.dy / scale).masked((code >= int(info.min)) & (code <= int(info.max)))


def dequantize_linear(op: Op) -> Gradients:
    """Differentiate (code - zero point) scale."""
    yield 0, op.dy * _along_axis(op, op.input(1))


def sign(op: Op) -> Gradients:
    """Pass the gradient."""
    yield 0, op.dy


def _along_axis(op: Op, parameter: Value) -> Value:
    """Return a scale or zero point in a shape that broadcasts: one number, or one per channel."""
    if op.attribute("block_size", 0):
        raise op.unsupported("it is quantised in blocks")
    if parameter.constant is not None and parameter.constant.size == 1:
        return parameter.reshape([1])
    if parameter.sizes in ((), (1,)) or op.input(1).sizes in ((), (1,)):
        return parameter
    axis = op.axis(1)
    return parameter.reshape([-1, *[1] * (op.x.rank - axis - 1)])


VJPS: dict[str, Vjp] = {
    "DequantizeLinear": dequantize_linear,
    "QuantizeLinear": quantize_linear,
    "Sign": sign,
}
