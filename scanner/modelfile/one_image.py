"""Files that take one image without a batch axis, read with a batch axis of one.

Whether the first axis of an input counts images, no file says. Here it does not where all sizes are
fixed, no output has as many entries on its first axis, and one has the shape of one image's scores:
(classes,) or (1, classes).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import onnx

_FLOATS = frozenset({1, 10, 11})  # FLOAT, FLOAT16 and DOUBLE of TensorProto.DataType
_LEAST_CLASSES = 2


def takes_one(inputs: Sequence[Any], outputs: Sequence[Any]) -> bool:
    """Whether a file takes one image.

    Args:
        inputs: Those without a default, as onnx or `scanner.modelfile.fast_reader` describes them.
        outputs: The outputs, likewise.
    """
    sizes = [_sizes(value) for value in (*inputs, *outputs)]
    if len(inputs) != 1 or not sizes[0] or any(0 in size for size in sizes):
        return False
    count = sizes[0][0]
    scores = [
        size
        for value, size in zip(outputs, sizes[1:], strict=True)
        if value.type.tensor_type.elem_type in _FLOATS
    ]
    if count == 1:
        return any(len(size) == 1 and size[0] >= _LEAST_CLASSES for size in scores)
    return all(size[:1] != [count] for size in sizes[1:]) and any(
        (len(size) == 1 and size[0] >= _LEAST_CLASSES)
        or (len(size) > 1 and size[0] == 1 and size[1] >= _LEAST_CLASSES)
        for size in scores
    )


def _sizes(value: Any) -> list[int]:
    """Return the sizes of a value, 0 for an open one; of one of unknown rank, a single 0."""
    tensor = value.type.tensor_type
    if not tensor.HasField("shape"):
        return [0]
    return [d.dim_value if d.HasField("dim_value") else 0 for d in tensor.shape.dim]


def give_batch_axis(proto: onnx.ModelProto, inputs: Sequence[onnx.ValueInfoProto]) -> bool:
    """Give a file that takes one image a batch axis of one, in place; return whether it is one.

    After: values keep their names, but the input and outputs inside the graph. What has no batch
    axis there has none.

    Args:
        proto: The file. One with branches or loops stays as it is.
        inputs: Its inputs without a default.
    """
    import numpy as np  # noqa: PLC0415 - onnx, which a scan can often do without
    from onnx import helper, numpy_helper  # noqa: PLC0415 - as above

    from scanner.modelfile.nested import subgraphs  # noqa: PLC0415 - as above

    graph = proto.graph
    if not takes_one(inputs, graph.output) or any(subgraphs(node) for node in graph.node):
        return False
    (image,) = inputs
    made = {name for node in graph.node for name in node.output}
    shapes = {value.name: _sizes(value) for value in graph.output if value.name in made}
    alone = {name: f"{name}/of one image" for name, size in shapes.items() if size[:1] != [1]}
    renamed = alone | {image.name: f"{image.name}/one"}
    if made.intersection(renamed.values()):
        return False
    for node in graph.node:
        for names in (node.input, node.output):
            names[:] = [renamed.get(name, name) for name in names]
    nodes = list(graph.node)

    def reshaped(source: str, target: str, sizes: Sequence[int]) -> list[onnx.NodeProto]:
        shape = numpy_helper.from_array(np.array(sizes, np.int64))
        return [
            helper.make_node("Constant", [], [f"{target}/shape"], value=shape),
            helper.make_node("Reshape", [source, f"{target}/shape"], [target]),
        ]

    ends = [
        node for name, inner in alone.items() for node in reshaped(inner, name, [1, *shapes[name]])
    ]
    begin = reshaped(image.name, renamed[image.name], _sizes(image))
    kept = type(graph)(node=[*begin, *nodes, *ends])
    del graph.node[:]
    graph.node.extend(kept.node)
    for value in (image, *(value for value in graph.output if value.name in alone)):
        sizes = [1, *_sizes(value)]
        kind = value.type.tensor_type.elem_type
        value.CopyFrom(helper.make_tensor_value_info(value.name, kind, sizes))
    return True
