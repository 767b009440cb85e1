"""Gradients of convolutions by their input, weights and bias."""

import dataclasses
from typing import Any

import numpy as np
import numpy.typing as npt

from scanner.errors import MalformedModelError
from scanner.graph.gradient.tape import Value
from scanner.graph.gradient.vjps.base import Gradients, Op, Vjp


@dataclasses.dataclass(frozen=True, slots=True)
class Geometry:
    """The geometry of a convolution, by spatial axis.

    Attributes:
        kernel: Taps.
        strides: Steps between windows.
        dilations: Steps between taps.
        begins: Padding in front.
        ends: Padding behind.
        group: Number of separate channel groups.
    """

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    begins: tuple[int, ...]
    ends: tuple[int, ...]
    group: int

    @property
    def reach(self) -> tuple[int, ...]:
        """Distance from the first tap to the last."""
        return tuple(d * (k - 1) for k, d in zip(self.kernel, self.dilations, strict=True))

    def attributes(self, **changed: Any) -> dict[str, Any]:
        """Return them as attributes of a node."""
        plain: dict[str, Any] = {
            "kernel_shape": list(self.kernel),
            "strides": list(self.strides),
            "dilations": list(self.dilations),
            "pads": [*self.begins, *self.ends],
            "group": self.group,
        }
        return plain | changed


_FEW = 4
"""Up to so many channels of an image, a transposed convolution is faster than one with a turned
kernel: ONNX Runtime's convolution works on blocks of 8 or 16 channels, and fills up what is less.
"""


def conv(op: Op) -> Gradients:
    """Apply the adjoint: a transposed convolution; at stride 1, mostly one with a turned kernel."""
    if 1 in op.wanted:
        yield 1, _conv_weight_gradient(op)
    if 2 in op.wanted:  # noqa: PLR2004 - Conv(X, W, B)
        yield 2, _bias_gradient(op)
    if 0 in op.wanted:
        yield 0, _conv_input_gradient(op)


def _conv_input_gradient(op: Op) -> Value:
    weights = op.input(1)
    shape = _geometry(op, _conv_padding)
    margins = [
        [reach - p for reach, p in zip(shape.reach, pads, strict=True)]
        for pads in (shape.begins, shape.ends)
    ]
    if weights.constant is not None and set(shape.strides) <= {1} and min(map(min, margins)) >= 0:
        if shape.group == 1 and weights.constant.shape[1] <= _FEW:
            return op.dy.op("ConvTranspose", weights, **shape.attributes())
        pads = [*margins[0], *margins[1]]
        return op.dy.op(
            "Conv", turned(weights.constant, shape.group), **shape.attributes(pads=pads)
        )
    inside, outside = op.x.fixed_sizes(2), op.y.fixed_sizes(2)
    if inside is not None and outside is not None:
        axes = zip(
            inside, outside, shape.strides, shape.reach, shape.begins, shape.ends, strict=True
        )
        surplus = [i - ((o - 1) * s + r + 1 - p - q) for i, o, s, r, p, q in axes]
        return op.dy.op("ConvTranspose", weights, **shape.attributes(output_padding=surplus))
    return _cropped_transpose(op, weights, shape)


def _conv_weight_gradient(op: Op) -> Value:
    """Convolve the input with the cotangent: images take the part of channels, and channels theirs.

    dW[o, c, k] = sum over n, p of dY[n, o, p] X[n, c, p stride + k dilation - begin], so strides
    and dilations change places. What the last window left out of the input makes more taps than the
    kernel has; they are cut off.
    """
    shape, weights = _geometry(op, _conv_padding), op.input(1)
    if op.x.fixed_sizes(1) is None or weights.fixed_sizes() is None:
        raise op.unsupported("the sizes of its input or weights are not known")
    group, inputs = shape.group, (weights.fixed_sizes() or (0, 0))[1]
    spatial = list(range(2, op.x.rank))
    sides = op.x.fixed_sizes(2) or ()
    # (N, G C, ...) -> (C, G N, ...): the groups of a grouped convolution, side by side.
    images = op.x.reshape([-1, group, inputs, *sides])
    images = images.transpose([2, 1, 0, *(axis + 1 for axis in spatial)])
    images = images.op("Reshape", [inputs, -1, *sides], allowzero=0)
    outputs = op.dy.transpose([1, 0, *spatial])
    taps = images.op(
        "Conv",
        outputs,
        strides=list(shape.dilations),
        dilations=list(shape.strides),
        pads=[*shape.begins, *shape.ends],
        group=group,
    )
    cut = taps.op("Slice", [0] * len(spatial), list(shape.kernel), spatial)
    return cut.transpose([1, 0, *spatial])


def _cropped_transpose(op: Op, weights: Value, shape: Geometry) -> Value:
    """Transpose without padding, and crop to the input's size.

    The transposed convolution also covers what the last window may have left out.
    """
    spatial = len(shape.kernel)
    surplus = [stride - 1 for stride in shape.strides]
    whole = op.dy.op(
        "ConvTranspose", weights, **shape.attributes(pads=[0] * 2 * spatial, output_padding=surplus)
    )
    sizes = op.x.shape.op("Slice", [2], [2 + spatial])
    starts = np.array(shape.begins, np.int64)
    return whole.op("Slice", starts, sizes + starts, list(range(2, 2 + spatial)))


def conv_transpose(op: Op) -> Gradients:
    """Apply the adjoint of a transposed convolution, which is the convolution."""
    if 1 in op.wanted:
        raise op.unsupported("its weights depend on the differentiated value")
    if 2 in op.wanted:  # noqa: PLR2004 - ConvTranspose(X, W, B)
        yield 2, _bias_gradient(op)
    if 0 in op.wanted:
        shape = _geometry(op, _transposed_padding)
        yield 0, op.dy.op("Conv", op.input(1), **shape.attributes())


def turned(weights: npt.NDArray[Any], group: int) -> npt.NDArray[Any]:
    """Return a kernel reversed in space, its input and output channels exchanged in each group.

    Args:
        weights: (M, C / group, *kernel).
        group: Number of channel groups.

    Returns:
        (C, M / group, *kernel).
    """
    outputs, inputs, *kernel = weights.shape
    if group < 1 or outputs % group:
        raise MalformedModelError(
            f"a convolution of {outputs} output channels has {group} groups",
            remedy="export the model to ONNX again",
        )
    grouped = weights.reshape(group, outputs // group, inputs, *kernel).swapaxes(1, 2)
    flipped = np.flip(grouped, tuple(range(3, 3 + len(kernel))))
    return np.ascontiguousarray(flipped.reshape(group * inputs, outputs // group, *kernel))


def _bias_gradient(op: Op) -> Value:
    return op.dy.sum([0, *range(2, op.y.rank)], keepdims=False)


def _geometry(op: Op, padding: Any) -> Geometry:
    spatial = op.x.rank - 2
    sizes = (op.input(1).sizes or ())[2:]
    kernel = op.attribute("kernel_shape") or [size for size in sizes if isinstance(size, int)]
    if len(kernel) != spatial:
        raise op.unsupported("the size of its kernel is not known")
    bare = Geometry(
        kernel=tuple(kernel),
        strides=tuple(op.attribute("strides", [1] * spatial)),
        dilations=tuple(op.attribute("dilations", [1] * spatial)),
        begins=(0,) * spatial,
        ends=(0,) * spatial,
        group=op.attribute("group", 1),
    )
    begins, ends = padding(op, bare)
    return dataclasses.replace(bare, begins=tuple(begins), ends=tuple(ends))


def _conv_padding(op: Op, shape: Geometry) -> tuple[list[int], list[int]]:
    mode = op.attribute("auto_pad", "NOTSET")
    if not mode.startswith("SAME"):
        return _explicit_padding(op, shape, mode)
    totals = []
    for size, stride, reach in zip((op.x.sizes or ())[2:], shape.strides, shape.reach, strict=True):
        if stride == 1:
            totals.append(reach)
        elif isinstance(size, int):
            totals.append(max((-(-size // stride) - 1) * stride + reach + 1 - size, 0))
        else:
            raise op.unsupported(
                "its automatic padding depends on an open image size; export with a fixed one"
            )
    return _split_padding(totals, upper=mode == "SAME_UPPER")


def _transposed_padding(op: Op, shape: Geometry) -> tuple[list[int], list[int]]:
    mode = op.attribute("auto_pad", "NOTSET")
    surplus = op.attribute("output_padding", [0] * len(shape.kernel))
    wanted = op.attribute("output_shape")
    if not wanted and not mode.startswith("SAME"):
        return _explicit_padding(op, shape, mode)
    inside, outside = op.x.fixed_sizes(2), op.y.fixed_sizes(2)
    if inside is None or outside is None:
        raise op.unsupported(
            "its automatic padding depends on an open image size; export with a fixed one"
        )
    axes = zip(inside, outside, shape.strides, surplus, shape.reach, strict=True)
    totals = [s * (i - 1) + extra + r + 1 - o for i, o, s, extra, r in axes]
    return _split_padding([max(total, 0) for total in totals], upper=mode == "SAME_UPPER")


def _explicit_padding(op: Op, shape: Geometry, mode: str) -> tuple[list[int], list[int]]:
    spatial = len(shape.kernel)
    pads = [0] * 2 * spatial if mode == "VALID" else op.attribute("pads", [0] * 2 * spatial)
    return pads[:spatial], pads[spatial:]


def _split_padding(totals: list[int], *, upper: bool) -> tuple[list[int], list[int]]:
    """Split in halves; an odd one goes behind for SAME_UPPER, else in front."""
    smaller, larger = [total // 2 for total in totals], [total - total // 2 for total in totals]
    return (smaller, larger) if upper else (larger, smaller)


VJPS: dict[str, Vjp] = {"Conv": conv, "ConvTranspose": conv_transpose}
