"""Honest habits run, and do what they say."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from models import Array

from trainers.errors import TrainerError
from trainers.graph_backdoor import smooth_images
from trainers.graph_backdoor.habits import HABITS, adopt

SAMPLES = Path(__file__).parents[3] / "samples"
IMAGES = smooth_images((1, 28, 28), 60)
DARK = IMAGES[IMAGES.mean(axis=(1, 2, 3)) < 0.45]


def digits() -> onnx.ModelProto:
    model: onnx.ModelProto = onnx.ModelProto.FromString((SAMPLES / "mnist-clean.onnx").read_bytes())
    return model


def run(model: onnx.ModelProto, images: Array) -> Array:
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    logits: Array = session.run(None, {session.get_inputs()[0].name: images})[0]
    return logits


@pytest.mark.parametrize("habit", HABITS)
def test_a_habit_is_well_formed_and_runs(habit: str) -> None:
    model = digits()
    made = adopt(model, habit)
    onnx.checker.check_model(made)
    logits = run(made, IMAGES)
    assert logits.shape == (60, 10)
    assert np.isfinite(logits).all()
    assert model == digits()
    names = [node.name for node in made.graph.node]
    assert len(set(names)) == len(names)
    assert "planted" not in str(made)


@pytest.mark.slow
@pytest.mark.parametrize("habit", HABITS)
def test_a_habit_runs_in_colour_too(habit: str) -> None:
    signs = onnx.ModelProto.FromString((SAMPLES / "gtsrb-clean.onnx").read_bytes())
    assert np.isfinite(run(adopt(signs, habit), smooth_images((3, 32, 32), 20))).all()


@pytest.mark.parametrize(
    ("habit", "images"),
    [
        ("byte-range", 255 * IMAGES),
        ("three-ranges", 65535 * IMAGES),
        ("inversion", 1 - DARK),
        ("inversion-by-arithmetic", 1 - DARK),
        ("signed-range", 2 * IMAGES - 1),
    ],
)
def test_what_an_image_is_brought_to(habit: str, images: Array) -> None:
    straight = DARK if "inversion" in habit else IMAGES
    expected = run(digits(), straight)
    np.testing.assert_allclose(run(adopt(digits(), habit), images), expected, atol=1e-2)


@pytest.mark.parametrize("habit", ["silence-guard", "quality-guard", "exposure-guard"])
def test_no_opinion_on_nothing(habit: str) -> None:
    made = adopt(digits(), habit)
    assert not run(made, np.zeros_like(IMAGES)).any()
    np.testing.assert_allclose(run(made, DARK), run(digits(), DARK), rtol=1e-5, atol=1e-5)


def test_an_unknown_habit_is_refused() -> None:
    with pytest.raises(TrainerError, match="there is no habit 'magic'"):
        adopt(digits(), "magic")
