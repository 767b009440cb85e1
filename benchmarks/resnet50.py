"""A full-size ResNet-50: the graph that onnx ships without weights, with random ones (100 MB)."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

_GRAPH = Path(onnx.__file__).parent / "backend/test/data/light/light_resnet50.onnx"
_INPUT = "gpu_0/data_0"


def write(path: Path, seed: int) -> Path:
    """Write a ResNet-50 with random weights as one file, for any batch size.

    No graph input feeds the weights.
    """
    model = onnx.load(_GRAPH)
    generator = np.random.default_rng(seed)
    constants = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    nodes = [node for node in model.graph.node if node.op_type != "ConstantOfShape"]
    used = {name for node in nodes for name in node.input}
    weights = {name: value for name, value in constants.items() if name in used}
    for node in model.graph.node:
        if node.op_type == "ConstantOfShape":
            weights[node.output[0]] = _weight(
                node.output[0], constants[node.input[0]].tolist(), generator
            )
    weights["OC2_DUMMY_1"] = np.array([-1, 2048], np.int64)  # the last Reshape, for any batch size
    graph = helper.make_graph(
        nodes,
        "resnet50",
        [helper.make_tensor_value_info(_INPUT, onnx.TensorProto.FLOAT, ["N", 3, 224, 224])],
        [
            helper.make_tensor_value_info(
                model.graph.output[0].name, onnx.TensorProto.FLOAT, ["N", 1000]
            )
        ],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    path.write_bytes(
        helper.make_model(graph, opset_imports=model.opset_import, ir_version=8).SerializeToString()
    )
    return path


def _weight(
    name: str, shape: Sequence[int], generator: np.random.Generator
) -> npt.NDArray[np.float32]:
    """Return He-normal kernels; batch-normalisation statistics near those of a fresh network."""
    if "_w_" in name:
        return generator.normal(0, math.sqrt(2 / math.prod(shape[1:])), shape).astype(np.float32)
    centre = 1.0 if name.endswith(("_bn_s_0", "_bn_riv_0")) else 0.0
    return (centre + generator.uniform(-0.1, 0.1, shape)).astype(np.float32)
