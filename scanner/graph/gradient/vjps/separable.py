"""Adjoints of linear maps along one axis, found by applying the operator to the identity matrix.

So the runtime itself tells what the operator does at borders and between pixels, in every mode.
Where sizes are fixed, ONNX Runtime folds the matrix into a constant when the session starts.
"""

from collections.abc import Callable, Iterable

import onnx

from scanner.graph.gradient.tape import Value


def identity(value: Value, axis: int) -> Value:
    """Return the identity matrix of the size of one axis of a value."""
    size = value.shape.op("Slice", [axis], [axis + 1])
    sizes = value.sizes
    if sizes is not None and isinstance(sizes[axis], int):
        size = size.wrap([int(sizes[axis])])
    square = size.op("Concat", size, axis=0)
    zeros = square.op(
        "ConstantOfShape", value=onnx.helper.make_tensor("zero", value.dtype, [1], [0])
    )
    eye = zeros.op("EyeLike")
    return Value(eye.tape, eye.name, value.dtype)


def adjoint(cotangent: Value, axis: int, rank: int, matrix: Value) -> Value:
    """Contract one axis of a cotangent with a matrix of (inputs, outputs) of that axis."""
    if axis == rank - 2:
        return matrix.op("MatMul", cotangent)
    columns = matrix.transpose([1, 0])
    if axis == rank - 1:
        return cotangent.op("MatMul", columns)
    order = [i for i in range(rank) if i != axis] + [axis]
    back = [order.index(i) for i in range(rank)]
    return cotangent.transpose(order).op("MatMul", columns).transpose(back)


def pull_back(
    cotangent: Value, value: Value, axes: Iterable[int], along: Callable[[Value, int], Value]
) -> Value:
    """Return the gradient by `value` of a map that is a product of linear maps along axes.

    Args:
        cotangent: Of the map's result.
        value: The map's argument.
        axes: The axes it acts along.
        along: Applies the map of one axis to the rows of a matrix.
    """
    for axis in axes:
        cotangent = adjoint(cotangent, axis, value.rank, along(identity(value, axis), axis))
    return cotangent
