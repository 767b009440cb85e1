"""Integer inputs made real, so that the model can be differentiated with respect to them."""

import onnx

from scanner.errors import NoGradientError
from scanner.graph.core.draft import copied
from scanner.graph.core.facts import FLOATING
from scanner.graph.core.structure import Uses, attribute
from scanner.modelfile.model import required_inputs


def real_input(proto: onnx.ModelProto) -> onnx.ModelProto:
    """Return the model with a floating-point input; itself where it has one.

    Before: the model is flat and has one required input.
    After: that input is of a floating type. An integer image that the graph casts first now enters
    behind the cast, with the same numbers; the graph may also read its shape.

    Raises:
        NoGradientError: The input is an integer that the graph does not simply cast.
    """
    image = required_inputs(proto.graph)[0]
    if image.type.tensor_type.elem_type in FLOATING:
        return proto
    users = [node for node in Uses(proto.graph).consumers[image.name] if node.op_type != "Shape"]
    kinds = {attribute(n, "to") if n.op_type == "Cast" else None for n in users}
    if len(kinds) != 1 or not kinds <= FLOATING:
        raise NoGradientError(
            f"the input {image.name!r} is an integer that the graph does not cast to floating "
            "point first",
            remedy="export the model with a floating-point input",
        )
    relaxed = copied(proto)
    for value in relaxed.graph.input:
        if value.name == image.name:
            value.type.tensor_type.elem_type = kinds.pop()
    for node in relaxed.graph.node:
        if node.op_type == "Cast" and node.input[0] == image.name:
            node.CopyFrom(onnx.helper.make_node("Identity", node.input, node.output, node.name))
    return relaxed
