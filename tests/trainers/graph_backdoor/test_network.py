"""What is read off the network that something is grafted onto."""

import numpy as np
import onnx
import onnxruntime
import pytest
from models import plain

from trainers.errors import TrainerError
from trainers.graph_backdoor import Graft
from trainers.graph_backdoor.network import again, first_convolution, last_linear, weights


def test_the_first_and_the_last_layer() -> None:
    graft = Graft(plain(), 0)
    assert first_convolution(graft).name == "conv"
    assert last_linear(graft).name == "classifier"
    assert weights(graft, "kernel").shape == (4, 1, 3, 3)


def test_the_whole_network_again_answers_as_before() -> None:
    graft = Graft(plain(), 0)
    second = again(graft, graft.node("Neg", [graft.input.name], "turn"))
    graft.replace_logits(second)
    images = np.random.default_rng(0).random((5, 1, 8, 8)).astype(np.float32)
    one, other = (
        onnxruntime.InferenceSession(model.SerializeToString()).run(None, {"image": given})[0]
        for model, given in ((plain(), -images), (graft.planted().model, images))
    )
    np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("find", [first_convolution, last_linear])
def test_what_is_not_there_is_said(find: object) -> None:
    graft = Graft(plain(), 0)
    del graft.graph.node[:]
    graft.graph.node.append(onnx.helper.make_node("Identity", ["image"], ["logits"]))
    with pytest.raises(TrainerError, match="there is no"):
        find(graft)  # type: ignore[operator]
    with pytest.raises(TrainerError, match="no initialiser"):
        weights(graft, "nothing")
