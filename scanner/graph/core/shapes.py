"""Types of inner values, as far as ONNX's shape inference tells."""

from typing import NamedTuple

import onnx

from scanner.errors import MalformedModelError
from scanner.modelfile.inference import infer_shapes
from scanner.modelfile.skeleton import without_weights


class ValueType(NamedTuple):
    """Element type (`onnx.TensorProto.DataType`) and shape; an open dimension is a string."""

    dtype: int
    shape: tuple[int | str, ...]


def value_types(proto: onnx.ModelProto) -> dict[str, ValueType]:
    """Return the inferred type of each value; what inference cannot tell is left out."""
    light = without_weights(proto)
    light.graph.value_info.extend(proto.graph.value_info)
    constants = {value.name for value in light.graph.input}
    constants -= {value.name for value in proto.graph.input}
    try:
        graph = infer_shapes(light, follow_numbers=False).graph
    except MalformedModelError:
        graph = proto.graph
    found = {}
    for value in (*graph.input, *graph.value_info, *graph.output):
        kind = value.type.tensor_type
        if kind.HasField("shape") and value.name not in constants:
            dims = tuple(
                d.dim_value if d.HasField("dim_value") else d.dim_param or "?"
                for d in kind.shape.dim
            )
            found[value.name] = ValueType(kind.elem_type, dims)
    return found
