"""Graphs that take images of another size than their file says."""

from collections.abc import Mapping, Sequence

import onnx

from scanner.graph.core import map_sizes, shapes
from scanner.graph.core.structure import attribute, integers
from scanner.modelfile.model import required_inputs


def taking(flat: onnx.ModelProto, shape: Sequence[int]) -> onnx.ModelProto:
    """Return a flat graph whose image has another shape.

    Before: it has one input, whose first axis counts images.
    After: nothing is said of the sizes inside, what averaged over a whole map does so still, and
    no map is without pixels. Whether the operators take the image shows when it runs.

    Args:
        flat: The graph.
        shape: Of one image, without the batch axis.

    Raises:
        UnsupportedModelError: A map has no pixels, or may have none.
    """
    types = shapes.value_types(flat)
    resized = onnx.ModelProto()
    resized.CopyFrom(flat)
    for node in resized.graph.node:
        if node.op_type == "AveragePool" and _is_global(node, types):
            node.op_type = "GlobalAveragePool"
            del node.attribute[:]
    image = required_inputs(resized.graph)[0]
    for dimension, size in zip(image.type.tensor_type.shape.dim[1:], shape, strict=True):
        dimension.dim_value = size
    del resized.graph.value_info[:]
    map_sizes.check(resized.graph, types, image.name, shape)
    return resized


def _is_global(node: onnx.NodeProto, types: Mapping[str, shapes.ValueType]) -> bool:
    """Whether a pool's window is the whole map, as older exporters write a global one."""
    known = types.get(node.input[0])
    padded = any(integers(node, "pads", []) or ()) or (
        attribute(node, "auto_pad", b"NOTSET") not in {b"NOTSET", b"VALID"}
    )
    return (
        known is not None
        and not padded
        and integers(node, "kernel_shape", []) == list(known.shape[2:])
    )
