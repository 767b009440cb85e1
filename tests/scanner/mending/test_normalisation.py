"""Batch normalisation takes the statistics of the images that it is shown."""

import models
import numpy as np
from mended import SETTINGS, opened
from onnx import helper

from scanner.graph.surgery import parameters
from scanner.mending.normalisation import measured_anew
from scanner.modelfile.model import Model

IMAGES = np.random.default_rng(0).random((8, 1, models.SIDE, models.SIDE), dtype=np.float32)


def test_means_and_variances_are_those_of_the_images() -> None:
    norm = helper.make_node("BatchNormalization", ["image", *"sbmv"], ["normal"], name="norm")
    ones, zeros = np.ones(1, np.float32), np.zeros(1, np.float32)
    proto = models.build(
        [norm, models.convolution("normal"), models.relu(), *models.head("activated")],
        {**models.weights(False), "s": ones, "b": zeros, "m": zeros, "v": ones},
    )

    def rebuilt(values: dict[str, np.ndarray]) -> Model:
        return opened(parameters.replaced(proto, values))

    found = measured_anew(opened(proto), SETTINGS, IMAGES, rebuilt)
    assert np.isclose(found["m"][0], IMAGES.mean(), atol=1e-5)
    assert np.isclose(found["v"][0], IMAGES.var(), atol=1e-5)


def test_a_model_without_normalisation_has_none() -> None:
    assert not measured_anew(
        opened(models.plain()), SETTINGS, IMAGES, lambda _: opened(models.plain())
    )
