"""Honest networks of other kinds are well formed and run."""

import numpy as np
import onnx
import onnxruntime
import pytest
from models import Array

from trainers.graph_backdoor.strangers import STRANGERS

MANY = 3


def fed(session: onnxruntime.InferenceSession) -> dict[str, Array]:
    generator = np.random.default_rng(0)
    feeds = dict[str, Array]()
    for given in session.get_inputs():
        shape = [size if isinstance(size, int) else MANY for size in given.shape]
        whole = np.ones(shape, np.int64)
        floats = generator.random(shape).astype(np.float32)
        feeds[given.name] = whole if "int64" in given.type else floats
    return feeds


@pytest.mark.parametrize("name", STRANGERS)
def test_a_network_is_well_formed_and_runs(name: str) -> None:
    model = STRANGERS[name]()
    onnx.checker.check_model(model, full_check=True)
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    assert all(np.isfinite(answer).all() for answer in session.run(None, fed(session)))
    assert model == STRANGERS[name]()
