"""Integer inputs made real, so that there is something to differentiate by."""

import onnx

from scanner.errors import NoGradientError
from scanner.graph.core.structure import Uses, attribute
from scanner.modelfile.model import required_inputs

_REAL = frozenset({
    onnx.TensorProto.FLOAT, onnx.TensorProto.DOUBLE, onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16,
})  # fmt: skip


def real_input(proto: onnx.ModelProto) -> onnx.ModelProto:
    """Return the model with a floating-point input; itself where it has one.

    An integer image that the graph casts first enters behind the cast: the same numbers, but
    differentiable by them. Its shape may be asked for besides.

    Args:
        proto: A flat model of one required input.

    Raises:
        NoGradientError: The input is an integer that the graph does not simply cast.
    """
    image = required_inputs(proto.graph)[0]
    if image.type.tensor_type.elem_type in _REAL:
        return proto
    users = [node for node in Uses(proto.graph).consumers[image.name] if node.op_type != "Shape"]
    kinds = {attribute(n, "to") if n.op_type == "Cast" else None for n in users}
    if len(kinds) != 1 or not kinds <= _REAL:
        raise NoGradientError(
            f"the input {image.name!r} is an integer that the graph does not cast to floating "
            "point first",
            remedy="export the model with a floating-point input",
        )
    relaxed = onnx.ModelProto()
    relaxed.CopyFrom(proto)
    for value in relaxed.graph.input:
        if value.name == image.name:
            value.type.tensor_type.elem_type = kinds.pop()
    for node in relaxed.graph.node:
        if node.op_type == "Cast" and node.input[0] == image.name:
            node.CopyFrom(onnx.helper.make_node("Identity", node.input, node.output, node.name))
    return relaxed
