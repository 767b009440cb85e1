"""What of the network itself is read or run again by what is grafted."""

import onnx
from onnx import helper, numpy_helper

from trainers.errors import TrainerError
from trainers.graph_backdoor.graft import Array, Graft

_LINEAR = ("Gemm", "MatMul")


def first_convolution(graft: Graft) -> onnx.NodeProto:
    """Return the first convolution.

    Raises:
        TrainerError: There is none.
    """
    node: onnx.NodeProto
    for node in graft.graph.node:
        if node.op_type == "Conv":
            return node
    raise TrainerError("there is no convolution", remedy="plant in another classifier")


def last_linear(graft: Graft) -> onnx.NodeProto:
    """Return the last linear layer.

    Raises:
        TrainerError: There is none.
    """
    node: onnx.NodeProto
    for node in reversed(graft.graph.node):
        if node.op_type in _LINEAR:
            return node
    raise TrainerError("there is no linear layer", remedy="plant in another classifier")


def weights(graft: Graft, name: str) -> Array:
    """Return the numbers of an initialiser.

    Raises:
        TrainerError: There is none of this name.
    """
    tensor = next((t for t in graft.graph.initializer if t.name == name), None)
    if tensor is None:
        raise TrainerError("the weights are no initialiser", remedy="plant in another classifier")
    return numpy_helper.to_array(tensor)


def again(graft: Graft, image: str) -> str:
    """Graft the whole network once more, reading another image; return its logits."""
    names = {graft.input.name: image}
    for node in list(graft.graph.node):
        read = [names.get(name, name) for name in node.input]
        made = graft.outputs(len(node.output), node.op_type, read, "again", **attributes(node))
        names |= dict(zip(node.output, made, strict=True))
    return names[graft.output]


def attributes(node: onnx.NodeProto) -> dict[str, object]:
    """Return a node's attributes by name."""
    return {a.name: helper.get_attribute_value(a) for a in node.attribute}
