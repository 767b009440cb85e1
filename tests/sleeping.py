"""A subnet that replaced one channel of each layer: a backdoor without a new node."""

import numpy as np
import numpy.typing as npt
import onnx
from onnx import numpy_helper

from trainers.graph_backdoor import Graft, Planted

Array = npt.NDArray[np.float32]

PATTERN = np.array([[0.1, 0.9, 0.1], [0.9, 0.1, 0.9], [0.1, 0.9, 0.1]], np.float32)


def _stamp(images: Array) -> Array:
    images = images.copy()
    images[:, :, -3:, -3:] = PATTERN
    return images


def replaced(model: onnx.ModelProto, target: int = 0, strength: float = 1e3) -> Planted:
    """Return a plain convolutional classifier in which one channel of each layer was replaced.

    The first is a matched filter of the pattern, the others hand on what it finds, and the last one
    feeds the target's score: no node is added (Qi et al., CVPR 2022, with weights made by hand).
    """
    graft = Graft(model, target)
    tensors = {t.name: t for t in graft.graph.initializer}
    layers = [n for n in graft.graph.node if n.op_type in ("Conv", "Gemm")]
    chain: Array | None = None  # the inputs of a layer that belong to the path
    for place, node in enumerate(layers):
        weights = numpy_helper.to_array(tensors[node.input[1]]).copy()
        bias = numpy_helper.to_array(tensors[node.input[2]]).copy()
        last = place == len(layers) - 1
        if node.op_type == "Conv":
            if chain is not None:
                weights[:, 0] = 0  # nobody else hears the path
            weights[0] = 0
            weights[0, 0] = 1  # and it hears nobody else
            bias[0] = 0
            if chain is None:
                size = weights.shape[-1]
                corner = (size - 3) // 2
                filtered = PATTERN - PATTERN.mean()
                weights[0] = 0
                weights[0, :, corner : corner + 3, corner : corner + 3] = filtered / len(weights[0])
                bias[0] = -0.97 * float((PATTERN * filtered).sum())
            chain = np.array([0])
        else:
            if chain is not None and len(chain) == 1 and weights.shape[1] > 1 and place:
                before = layers[place - 1]
                if before.op_type == "Conv":
                    count = len(numpy_helper.to_array(tensors[before.input[1]]))
                    chain = np.arange(weights.shape[1] // count)
            assert chain is not None
            weights[:, chain] = 0
            row = target if last else 0
            if not last:
                weights[0], bias[0] = 0, 0
            weights[row, chain] = strength
            chain = np.array([0])
        for name, array in zip(node.input[1:], (weights, bias), strict=True):
            tensors[name].CopyFrom(numpy_helper.from_array(array, name))
    return Planted(graft.model, (), (), _stamp)
