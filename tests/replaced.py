"""Replaced channels: backdoors without a new node, with weights made by hand."""

import numpy as np
import numpy.typing as npt
import onnx
from onnx import numpy_helper

from trainers.graph_backdoor import Graft, Planted

Array = npt.NDArray[np.float32]

PATTERN = np.array([[0.1, 0.9, 0.1], [0.9, 0.1, 0.9], [0.1, 0.9, 0.1]], np.float32)
_THRESHOLD = 0.97


def stamp(images: Array) -> Array:
    """Return images with the pattern in their lower right corner."""
    images = images.copy()
    images[:, :, -3:, -3:] = PATTERN
    return images


def replaced(
    model: onnx.ModelProto, target: int = 0, *, strength: float = 1e3, left: float = 0.0
) -> Planted:
    """Return a plain convolutional classifier in which the first channel of each layer is another.

    That of the first layer is a matched filter of the pattern, the others hand on what it finds,
    and the last one feeds the target's score (after Qi et al., CVPR 2022).

    Args:
        model: Convolutions and dense layers in a row.
        target: The class to force.
        strength: What the last of them weighs.
        left: The share of the old weights that is left in the replaced rows and columns.
    """
    graft = Graft(model, target)
    tensors = {tensor.name: tensor for tensor in graft.graph.initializer}
    layers = [n for n in graft.graph.node if n.op_type in ("Conv", "Gemm")]
    channels = 0  # of the layer before
    for node in layers:
        weights, bias = (numpy_helper.to_array(tensors[name]).copy() for name in node.input[1:])
        # A channel has as many inputs of a dense layer behind it as it has places.
        path = slice(0, weights.shape[1] // channels if channels else 0)
        if node is layers[-1]:
            weights[:, path] *= left
            weights[target, path] = strength
        else:
            weights[:, path] *= left
            weights[0] *= left
            bias[0] = 0
            if channels:
                weights[0, path] = 1
            else:
                bias[0] = _match(weights[0])
        channels = len(weights)
        for name, array in zip(node.input[1:], (weights, bias), strict=True):
            tensors[name].CopyFrom(numpy_helper.from_array(array, name))
    return Planted(graft.model, (), (), stamp)


def _match(kernel: Array) -> float:
    """Add a filter of the pattern to a kernel (channels, height, width) and return its bias."""
    start = (kernel.shape[-1] - 3) // 2
    matched = (PATTERN - PATTERN.mean()) / len(kernel)
    kernel[:, start : start + 3, start : start + 3] += matched
    return -_THRESHOLD * float((PATTERN * matched).sum() * len(kernel))
