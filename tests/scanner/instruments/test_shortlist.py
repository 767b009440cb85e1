"""The class that a backdoor leads to is among the first, without a search."""

from pathlib import Path

import models
import numpy as np
import pytest
import triggered
from hypothesis import given
from hypothesis import strategies as st
from onnx import helper

from scanner.graph.gradient.backward import Objective
from scanner.instruments import shortlist
from scanner.instruments.detector import Subject
from scanner.instruments.differentiable import differentiable
from scanner.instruments.shortlist import climbed, ranking, without_gradient

CLASSES = 12


def opened(tmp_path: Path, *, planted: bool = True, **more: object) -> Subject:
    made = triggered.classifier(planted, classes=CLASSES, **more)  # type: ignore[arg-type] # theirs
    return triggered.subject(made, tmp_path)


@pytest.mark.parametrize("objective", [Objective.CROSS_ENTROPY, Objective.MARGIN])
@pytest.mark.parametrize("ascents", [0, 5, CLASSES])
def test_every_class_has_a_place_and_the_target_an_early_one(
    objective: Objective, ascents: int, tmp_path: Path
) -> None:
    subject = opened(tmp_path)
    found = ranking(subject, differentiable(subject, objective), ascents)
    assert sorted(found.classes) == list(range(CLASSES))
    assert found.ascents == ascents
    assert triggered.TARGET in found.classes[:2]


def test_it_is_made_once_for_all_searches(tmp_path: Path) -> None:
    subject = opened(tmp_path)
    model = differentiable(subject, Objective.MARGIN)
    assert ranking(subject, model, CLASSES) is ranking(subject, model, 0)


@pytest.mark.parametrize(("shape", "batch"), [((1, 8, 8), 4), ((64,), "N")])
def test_the_layers_behind_a_latent_are_read_off_its_answers(
    shape: tuple[int, ...], batch: int | str, tmp_path: Path
) -> None:
    """The whole classifier is one linear layer, whose latent is the image itself."""
    subject = opened(tmp_path, shape=shape, batch=batch)
    seen, latent = without_gradient(subject)
    assert seen.shape == (CLASSES,)
    assert latent is not None
    assert int(latent.argmax()) == triggered.TARGET


def test_a_model_without_a_linear_layer_is_ranked_by_its_answers(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Flatten", ["image"], ["flat"], axis=1),
        helper.make_node("Sin", ["flat"], ["logits"]),
    ]
    made = models.build(nodes, {}, input_shape=("N", 1, 2, 4), output="logits")
    seen, latent = without_gradient(triggered.subject(made, tmp_path))
    assert seen.shape == (8,)
    assert latent is None


def test_a_latent_too_large_to_read_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shortlist, "_LARGEST", 63)
    assert without_gradient(opened(tmp_path))[1] is None


@given(st.integers(0, 2**32 - 1), st.integers(2, 300))
def test_no_margin_in_the_box_is_smaller_than_that_of_the_start(seed: int, classes: int) -> None:
    generator = np.random.default_rng(seed)
    weights, biases = generator.normal(size=(classes, 3)), generator.normal(size=classes)
    start = np.full(3, 0.5)
    logits = weights @ start + biases
    others = [np.delete(logits, t).max() for t in range(classes)]
    found = climbed(weights, biases, (0.0, 1.0), start)
    assert (found >= logits - others - 1e-9).all()
    # Nor larger than a single rival allows.
    bound = np.maximum(weights - weights[::-1], 0).sum(axis=1) + biases - biases[::-1]
    middle = np.arange(classes) != classes - 1 - np.arange(classes)
    assert (found[middle] <= bound[middle] + 1e-9).all()


def test_one_score_stands_for_two_classes(tmp_path: Path) -> None:
    weights = np.random.default_rng(0).normal(0, 0.3, (8, 1)).astype(np.float32)
    nodes = [
        helper.make_node("Flatten", ["image"], ["flat"], axis=1),
        helper.make_node("MatMul", ["flat", "weights"], ["score"]),
        helper.make_node("Sigmoid", ["score"], ["logits"]),
    ]
    made = models.build(nodes, {"weights": weights}, input_shape=("N", 1, 2, 4))
    seen, latent = without_gradient(triggered.subject(made, tmp_path))
    assert latent is not None
    assert seen[0] == pytest.approx(-seen[1])
    assert latent.shape == (2,)
    assert (latent > 0).all(), "either class can be reached"
