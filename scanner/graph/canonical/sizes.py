"""Shapes as all exports have them: numbers where they are numbers, and the batch.

Exporters that leave the batch open compute shapes from it, in as many ways as there are exporters.
What is inferred for two batches of different size tells which sizes are the batch's.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import numpy_helper

from scanner.graph.core.draft import Draft
from scanner.graph.core.facts import infer
from scanner.graph.core.open_sizes import Shape
from scanner.graph.core.structure import attribute, numbers_of
from scanner.modelfile.model import required_inputs

OPEN = "?"
"""A size that is neither a number nor so many times the batch."""
CONTRIB = "com.microsoft."
# Quantised operators: where their float inputs stand, as (value, scale, zero point) slots.
ON_CODES = {
    "QLinearConv": ("Conv", (0, 3)),
    "QLinearMatMul": ("MatMul", (0, 3)),
    f"{CONTRIB}QGemm": ("Gemm", (0, 3)),
    f"{CONTRIB}QLinearAdd": ("Add", (0, 3)),
    f"{CONTRIB}QLinearMul": ("Mul", (0, 3)),
    f"{CONTRIB}QLinearSigmoid": ("Sigmoid", (0,)),
    f"{CONTRIB}QLinearLeakyRelu": ("LeakyRelu", (0,)),
    f"{CONTRIB}QLinearSoftmax": ("Softmax", (0,)),
    f"{CONTRIB}QLinearGlobalAveragePool": ("GlobalAveragePool", (0,)),
    f"{CONTRIB}QLinearAveragePool": ("AveragePool", (0,)),
}
_BATCHES = (3, 5)  # small: what inference carries along is bounded
_LAST = 2**31
_LONGEST = 64  # sizes of one value
Vector = npt.NDArray[Any]


def known(model: Draft, shapes: Mapping[str, Shape]) -> dict[str, Shape]:
    """Return the shapes of a model's values; a size that is k times the batch is written "kN"."""
    inputs = required_inputs(model.graph)
    sizes = inputs[0].type.tensor_type.shape.dim if inputs else []
    if not sizes:
        return dict(shapes)
    found = [_inferred(model, sizes[0], batch) for batch in _BATCHES]
    return {
        name: tuple(_size(*(f[name][place] for f in found)) for place in range(len(found[0][name])))
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
    told = onnx.GraphProto(value_info=model.graph.value_info, node=model.graph.node)
    del model.graph.value_info[:]
    for node in model.graph.node:
        _write_on_numbers(node)
    try:
        return infer(model).shapes
    finally:
        size.CopyFrom(before)
        del model.graph.node[:]
        model.graph.node.extend(told.node)
        model.graph.value_info.extend(told.value_info)


def _write_on_numbers(node: onnx.NodeProto) -> None:
    """Turn ONNX Runtime's own operator on codes into the standard one that gives the same shape.

    ONNX knows no other shapes than those of its own operators.
    """
    known = ON_CODES.get(f"{node.domain}.{node.op_type}")
    if known is None or attribute(node, "channels_last", 0):
        return
    operator, slots = known
    inputs = [node.input[slot] for slot in slots if slot < len(node.input)]
    node.op_type, node.domain = operator, ""
    del node.input[:]
    node.input.extend(inputs)


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
    """Replace what is picked from values' shapes by its numbers; return whether anything was.

    The batch is never picked: what depends on it stays.
    """
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    vectors: dict[str, Vector] = {}
    kept = onnx.GraphProto()
    for node in model.graph.node:
        vector = _vector(node, shapes, tensors, vectors) if node.output else None
        if vector is not None:
            vectors[node.output[0]] = vector
        if vector is None or node.output[0] in keep or vector.dtype.kind != "i":
            kept.node.append(node)
        else:
            model.graph.initializer.append(numpy_helper.from_array(vector, node.output[0]))
    if len(kept.node) == len(model.graph.node):
        return False
    del model.graph.node[:]
    model.graph.node.extend(kept.node)
    return True


def _vector(
    node: onnx.NodeProto,
    shapes: Mapping[str, Shape],
    tensors: Mapping[str, onnx.TensorProto],
    vectors: Mapping[str, Vector],
) -> Vector | None:
    """Return the sizes that a node makes of others; those that are no numbers are texts."""
    if node.op_type == "Shape":
        shape = shapes.get(node.input[0])
        if shape is None or attribute(node, "start", 0) or attribute(node, "end", None):
            return None
        return _sizes(np.array(shape, object))
    if node.op_type not in {"Concat", "Gather", "Slice"} or node.input[0] not in vectors:
        return None
    given = [
        vectors[name] if name in vectors else numbers_of(tensors[name])
        for name in node.input
        if name in vectors or name in tensors
    ]
    if len(given) < len(node.input) or any(part.size > _LONGEST for part in given):
        return None
    try:
        return _sizes(np.asarray(_picked(node.op_type, given), object))
    except (IndexError, ValueError):
        return None


def _picked(operator: str, given: Sequence[Vector]) -> Vector:
    if operator == "Concat":
        return np.concatenate([part.astype(object) for part in given])
    if operator == "Gather":
        return np.asarray(given[0][given[1].astype(np.int64)])
    start, end, *rest = (int(part.reshape(-1)[0]) for part in given[1:])
    stride = rest[1] if len(rest) > 1 else 1
    return np.asarray(given[0][start : min(end, _LAST) : stride])


def _sizes(picked: Vector) -> Vector:
    """Return sizes as whole numbers where all are."""
    whole = not any(isinstance(size, str) for size in picked.reshape(-1))
    return picked.astype(np.int64) if whole else picked


def written(shape: Sequence[int | str]) -> str:
    """Return a shape in words."""
    return ",".join(map(str, shape))
