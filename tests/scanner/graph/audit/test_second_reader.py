"""The second reader agrees with the first on honest models, and says so when it cannot read."""

from collections.abc import Callable

import models
import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper

from scanner.graph.audit import second_reader

IMAGES = np.random.default_rng(0).uniform(size=(2, 1, 8, 8)).astype(np.float32)


@pytest.mark.parametrize("make", [models.plain, models.mixing_batch, models.function_relu])
def test_it_reads_as_onnx_runtime_does(make: Callable[[bool], onnx.ModelProto]) -> None:
    model = make(True)
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    answers = second_reader.evaluate(model, {"image": IMAGES})
    assert answers is not None
    expected = session.run(None, {"image": IMAGES})[0]
    np.testing.assert_allclose(answers[0], expected, rtol=1e-4, atol=1e-5)


def test_an_operator_that_it_does_not_know_has_no_answer() -> None:
    assert second_reader.evaluate(models.fused_convolution(), {"image": IMAGES}) is None


def test_a_model_that_draws_numbers_is_not_brief() -> None:
    drawing = models.plain()
    drawing.graph.node.append(helper.make_node("RandomNormalLike", ["logits"], ["noise"]))
    assert second_reader.is_brief(models.plain())
    assert second_reader.is_brief(models.function_relu())
    assert second_reader.is_brief(models.branch_relu())
    assert not second_reader.is_brief(drawing)


def test_a_function_or_branch_that_draws_numbers_is_not_brief() -> None:
    function, branch = models.function_relu(), models.branch_relu()
    function.functions[0].node[0].op_type = "RandomNormalLike"
    branch.graph.node[1].attribute[1].g.node[0].op_type = "RandomNormalLike"
    assert not second_reader.is_brief(function)
    assert not second_reader.is_brief(branch)


def test_small_is_few_nodes_and_few_bytes() -> None:
    many, heavy = models.plain(), models.plain()
    assert second_reader.is_small(many)
    many.graph.node.extend([models.relu()] * 200)
    heavy.graph.initializer[0].raw_data = bytes(4 << 20)
    assert not second_reader.is_small(many)
    assert not second_reader.is_small(heavy)
