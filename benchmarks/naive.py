"""The naive way to the first ReLU: load everything, run the whole graph, fetch the map.

Prints mean(S_A) of each model named, over 200 uniform noise images of seed 0.
"""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime

IMAGES = 200
BATCH = 8  # of 224 x 224 images: a larger one takes more memory and no less time


def first_relu(path: Path) -> tuple[onnxruntime.InferenceSession, str]:
    """Return a session of the whole model with its first ReLU exposed, and that value's name."""
    model = onnx.load(path)
    onnx.checker.check_model(model)
    name = next(node.output[0] for node in model.graph.node if node.op_type == "Relu")
    model.graph.output.append(onnx.helper.make_empty_tensor_value_info(name))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1  # as the scanner's default
    return onnxruntime.InferenceSession(
        model.SerializeToString(), options, ["CPUExecutionProvider"]
    ), name


def mean_maximum(path: Path) -> float:
    """Return mean(S_A) of a model."""
    session, name = first_relu(path)
    source = session.get_inputs()[0]
    images: Any = np.random.default_rng(0).random((IMAGES, *source.shape[1:]), dtype=np.float32)
    maps = (
        session.run([name], {source.name: images[i : i + BATCH]})[0]
        for i in range(0, IMAGES, BATCH)
    )
    return float(np.mean([np.max(image) for batch in maps for image in batch]))


if __name__ == "__main__":
    for argument in sys.argv[1:]:
        print(mean_maximum(Path(argument)))
