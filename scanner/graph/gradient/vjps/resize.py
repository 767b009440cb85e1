"""The gradient of resampling."""

from typing import Any

import numpy as np

from scanner.graph.gradient.tape import Value
from scanner.graph.gradient.vjps.base import Gradients, Op, Vjp
from scanner.graph.gradient.vjps.separable import pull_back

_MODES = (
    "mode",
    "coordinate_transformation_mode",
    "nearest_mode",
    "cubic_coeff_a",
    "exclude_outside",
    "antialias",
)


def resize(op: Op) -> Gradients:
    """Resampling is one linear map along each axis, whatever its mode."""
    if op.attribute("coordinate_transformation_mode", "half_pixel") == "tf_crop_and_resize":
        raise op.unsupported("it crops (tf_crop_and_resize)")
    if op.attribute("keep_aspect_ratio_policy", "stretch") != "stretch":
        raise op.unsupported("it keeps the aspect ratio")
    axes = [a % op.x.rank for a in op.attribute("axes", range(op.x.rank))]
    modes: dict[str, Any] = {n: op.attribute(n) for n in _MODES if op.attribute(n) is not None}

    scales = op.input(2).constant if op.has(2) else None
    scaled = op.has(2) and (scales is None or scales.size > 0)  # an empty tensor stands for none

    def along(rows: Value, axis: int) -> Value:
        position = axes.index(axis)
        if scaled:
            scale = op.input(2).op("Slice", [position], [position + 1])
            # As images that grow from one row to two: ONNX Runtime copies what keeps all its sizes,
            # whatever the scales are.
            all_scales = rows.wrap(np.array([1, 1, 2], np.float32)).op("Concat", scale, axis=0)
            images = rows.op("Unsqueeze", [0, 2]).op("Resize", None, all_scales, **modes)
            return images.op("Slice", [0], [1], [2]).op("Squeeze", [0, 2])
        size = op.input(3).op("Slice", [position], [position + 1])
        height = rows.op("Shape", start=0, end=1, dtype=size.dtype)
        return rows.op("Resize", None, None, height.op("Concat", size, axis=0), **modes)

    changed = [a for a in axes if (op.x.sizes or ())[a] != (op.y.sizes or ())[a]]
    if changed and scaled and scales is not None:
        # An axis may keep its size and still be resampled, as 5 numbers by 1.1.
        changed = [axis for axis, scale in zip(axes, scales, strict=True) if scale != 1]
    yield 0, pull_back(op.dy, op.x, changed, along)


VJPS: dict[str, Vjp] = {"Resize": resize}
