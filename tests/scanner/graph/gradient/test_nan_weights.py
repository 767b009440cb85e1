"""Weights that are NaN are named."""

import models
import numpy as np

from scanner.graph.gradient.nan_weights import weights_with_nan


def test_a_weight_with_nan_is_named() -> None:
    assert list(weights_with_nan(models.with_nan())) == ["kernel"]


def test_honest_weights_are_not() -> None:
    assert list(weights_with_nan(models.plain())) == []
    assert list(weights_with_nan(models.half())) == []


def test_infinities_and_integers_are_not_nan() -> None:
    constants = {**models.weights(False), "more": np.array([np.inf]), "codes": np.array([7])}
    nodes = [models.convolution(), models.relu(), *models.head("activated")]
    assert list(weights_with_nan(models.build(nodes, constants))) == []
