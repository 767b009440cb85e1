"""Shapes as all exports have them: numbers where they are numbers, and the batch.

Exporters that leave the batch open compute shapes from it, in as many ways as there are exporters.
What is inferred for two batches of different size tells which sizes are the batch's.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import onnx
from onnx import numpy_helper

from scanner.graph.core.draft import Draft
from scanner.graph.core.facts import Shape, infer
from scanner.graph.core.structure import attribute
from scanner.modelfile.model import required_inputs

OPEN = "?"
"""A size that is neither a number nor so many times the batch."""
_BATCHES = (1009, 1013)  # primes, and larger than what sizes are usually multiples of
_LAST = 2**31


def known(model: Draft, shapes: Mapping[str, Shape]) -> dict[str, Shape]:
    """Return the shapes of a model's values; a size that is k times the batch is written "kN"."""
    inputs = required_inputs(model.graph)
    sizes = inputs[0].type.tensor_type.shape.dim if inputs else []
    if not sizes:
        return dict(shapes)
    found = [_inferred(model, sizes[0], batch) for batch in _BATCHES]
    return {
        name: tuple(
            _size(*(f[name][place] for f in found)) for place in range(len(found[0][name]))
        )
        for name in found[0]
        if len({len(f.get(name, ())) for f in found}) == 1
    }


def _inferred(
    model: Draft, size: onnx.TensorShapeProto.Dimension, batch: int
) -> Mapping[str, Shape]:
    """Return the shapes for one batch; the model is as it was afterwards."""
    before = onnx.TensorShapeProto.Dimension()
    before.CopyFrom(size)
    size.dim_value = batch
    declared = onnx.GraphProto(value_info=model.graph.value_info)
    del model.graph.value_info[:]
    try:
        return infer(model).shapes
    finally:
        size.CopyFrom(before)
        model.graph.value_info.extend(declared.value_info)


def _size(one: int | str, other: int | str) -> int | str:
    if isinstance(one, str) or isinstance(other, str):
        return OPEN
    if one == other:
        return one
    times, rest = divmod(one, _BATCHES[0])
    if rest or times * _BATCHES[1] != other:
        return OPEN
    return "N" if times == 1 else f"{times}N"


def settle(model: Draft, shapes: Mapping[str, Shape], keep: Sequence[str]) -> bool:
    """Replace what is picked from a value's shape by its numbers; return whether anything was.

    The batch is never picked: what depends on it stays.
    """
    makers = {name: node for node in model.graph.node for name in node.output}
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    kept = onnx.GraphProto()
    for node in model.graph.node:
        source = makers.get(node.input[0]) if node.op_type in {"Gather", "Slice"} else None
        shape = shapes.get(source.input[0]) if source and source.op_type == "Shape" else None
        whole = shape is None or attribute(source, "start", 0) or attribute(source, "end", None)
        picked = None if shape is None or whole else _picked(node, shape, tensors)
        if picked is None or node.output[0] in keep:
            kept.node.append(node)
        else:
            model.graph.initializer.append(numpy_helper.from_array(picked, node.output[0]))
    if len(kept.node) == len(model.graph.node):
        return False
    del model.graph.node[:]
    model.graph.node.extend(kept.node)
    return True


def _picked(
    node: onnx.NodeProto, shape: Shape, tensors: Mapping[str, onnx.TensorProto]
) -> np.ndarray | None:
    """Return the sizes that a Gather or Slice picks; None where one is not a number."""
    given = [tensors.get(name) for name in node.input[1:]]
    if not given or None in given:
        return None
    numbers = [numpy_helper.to_array(tensor) for tensor in given if tensor is not None]
    places = np.arange(len(shape))
    try:
        if node.op_type == "Gather":
            chosen = places[numbers[0]]
        else:
            step = int(numbers[3][0]) if len(numbers) > 3 else 1  # noqa: PLR2004 - the last input
            chosen = places[int(numbers[0][0]) : min(int(numbers[1][0]), _LAST) : step]
    except (IndexError, ValueError):
        return None
    sizes = [shape[place] for place in np.asarray(chosen).reshape(-1)]
    if any(isinstance(size, str) for size in sizes):
        return None
    return np.array(sizes, np.int64).reshape(np.shape(chosen))


def written(shape: Sequence[int | str]) -> str:
    """Return a shape in words."""
    return ",".join(map(str, shape))
