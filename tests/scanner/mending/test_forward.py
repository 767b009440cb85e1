"""Answers to images, whatever batch the model takes."""

from typing import Any

import models
import numpy as np
import onnx
import pytest
from mended import SETTINGS, opened

from scanner.errors import UnsupportedModelError
from scanner.mending.forward import reader, scorer
from scanner.modelfile.model import Model

IMAGES = np.random.default_rng(0).random((70, 1, models.SIDE, models.SIDE), dtype=np.float32)


@pytest.mark.parametrize("batch", ["N", 1, 16])
def test_each_image_gets_its_own_answer(batch: int | str) -> None:
    shape = (batch, 1, models.SIDE, models.SIDE)
    forward = scorer(opened(models.plain(input_shape=shape)), SETTINGS)
    scores = forward.scores(IMAGES)
    assert scores.shape == (70, models.CLASSES)
    assert np.allclose(scores[5:6], forward.scores(IMAGES[5:6]), atol=1e-6)
    assert (forward.classes(IMAGES) == scores.argmax(axis=1)).all()


def _with_output(operator: str, inputs: list[str], **options: Any) -> Model:
    """A model with a second output, made of its scores."""
    proto = models.plain(input_shape=("N", 1, models.SIDE, models.SIDE))
    proto.graph.node.append(onnx.helper.make_node(operator, inputs, ["more"], **options))
    proto.graph.output.append(onnx.helper.make_tensor_value_info("more", 1, None))
    return opened(proto)


def test_a_value_without_an_axis_of_images_comes_once_for_each_batch() -> None:
    model = _with_output("ReduceMean", ["logits"], keepdims=0)
    (found,) = reader(model, model.proto, ["more"], SETTINGS).run(IMAGES)
    scores = scorer(model, SETTINGS).scores(IMAGES)
    np.testing.assert_allclose(found, [scores[:64].mean(), scores[64:].mean()], atol=1e-5)


def test_a_value_with_images_along_two_axes_is_refused() -> None:
    model = _with_output("Einsum", ["logits", "logits"], equation="ik,jk->ij")
    with pytest.raises(UnsupportedModelError, match="'more' depends on how many images"):
        reader(model, model.proto, ["more"], SETTINGS).run(IMAGES)
