"""What of the network itself is read or run again by what is grafted."""

import numpy as np
import onnx
from onnx import helper, numpy_helper

from trainers.errors import TrainerError
from trainers.graph_backdoor.graft import Array, Graft, Operand

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


def again(
    graft: Graft, image: str, spread: float = 0.0, generator: np.random.Generator | None = None
) -> str:
    """Graft the whole network once more; return its logits.

    Args:
        graft: The model.
        image: What the further network reads.
        spread: Of a tensor's deviation, by how much its weights are moved.
        generator: Where from the moves are drawn.
    """
    names: dict[str, Operand] = {graft.input.name: image}
    if generator is not None:
        names |= {
            tensor.name: held + generator.normal(0, spread * held.std(), held.shape)
            for tensor in list(graft.graph.initializer)
            if (held := numpy_helper.to_array(tensor)).dtype.kind == "f"
        }
    for node in list(graft.graph.node):
        read = [names.get(name, name) for name in node.input]
        made = graft.outputs(len(node.output), node.op_type, read, "again", **attributes(node))
        names |= dict(zip(node.output, made, strict=True))
    return str(names[graft.output])


def attributes(node: onnx.NodeProto) -> dict[str, object]:
    """Return a node's attributes by name."""
    return {a.name: helper.get_attribute_value(a) for a in node.attribute}
