"""Graphs that take images of another size than their file says."""

from collections.abc import Sequence

import onnx

from scanner.modelfile.model import required_inputs


def taking(flat: onnx.ModelProto, shape: Sequence[int]) -> onnx.ModelProto:
    """Return a flat graph whose image has another shape.

    Before: it has one input, whose first axis counts images.
    After: nothing is said of the sizes inside. Whether the operators take the image shows when it
    runs.

    Args:
        flat: The graph.
        shape: Of one image, without the batch axis.
    """
    resized = onnx.ModelProto()
    resized.CopyFrom(flat)
    (image,) = required_inputs(resized.graph)
    for dimension, size in zip(image.type.tensor_type.shape.dim[1:], shape, strict=True):
        dimension.dim_value = size
    del resized.graph.value_info[:]
    return resized
