"""Types of inner values, as far as ONNX's shape inference tells."""

from typing import NamedTuple

import onnx


class ValueType(NamedTuple):
    """Element type (`onnx.TensorProto.DataType`) and shape; an open dimension is a string."""

    dtype: int
    shape: tuple[int | str, ...]


def value_types(proto: onnx.ModelProto) -> dict[str, ValueType]:
    """Return the inferred type of each value; what inference cannot tell is left out."""
    try:
        graph = onnx.shape_inference.infer_shapes(proto).graph
    except onnx.shape_inference.InferenceError:
        graph = proto.graph
    found = {}
    for value in (*graph.input, *graph.value_info, *graph.output):
        kind = value.type.tensor_type
        if kind.HasField("shape"):
            dims = tuple(
                d.dim_value if d.HasField("dim_value") else d.dim_param or "?"
                for d in kind.shape.dim
            )
            found[value.name] = ValueType(kind.elem_type, dims)
    return found
