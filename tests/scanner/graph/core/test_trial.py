"""The trial model is valid, and computes what it says."""

import numpy as np
import onnx
import onnxruntime

from scanner.graph.core import trial


def test_the_trial_is_a_convolution() -> None:
    onnx.checker.check_model(onnx.load_from_string(trial.model()), full_check=True)
    session = onnxruntime.InferenceSession(trial.model(), providers=["CPUExecutionProvider"])
    x = np.arange(16, dtype=np.float32).reshape(trial.SHAPE)
    (y,) = session.run(None, {"x": x, "w": np.ones(trial.SHAPE, np.float32)})
    assert y.tolist() == [[[[120.0]]]]
