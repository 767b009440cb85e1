"""What no image can be shown to is known before anything runs, and said once."""

import re
from dataclasses import replace
from pathlib import Path

import models
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from scanner.instruments.detector import Needs
from scanner.instruments.probes import multiscale_noise
from scanner.instruments.suitability import images_doubt, nearness, obstacle, unsuitable
from scanner.modelfile.model import Model, open_model
from scanner.settings import Settings

GRADIENTS = Needs.LOGITS | Needs.GRADIENTS


def tokens(path: Path) -> Path:
    """A network that takes sixteen words by number."""
    graph = helper.make_graph(
        [
            helper.make_node("Cast", ["words"], ["real"], to=TensorProto.FLOAT),
            helper.make_node("Relu", ["real"], ["logits"]),
        ],
        "text",
        [helper.make_tensor_value_info("words", TensorProto.INT64, ("N", 16))],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ("N", 16))],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return models.save(model, path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    models.save(models.plain(), tmp_path / "plain.onnx")
    models.save(models.two_inputs(default=False), tmp_path / "two.onnx")
    models.save(models.plain(input_shape=("N", 1, "H", "W")), tmp_path / "open.onnx")
    models.save(models.without_activation(), tmp_path / "linear.onnx")
    tokens(tmp_path / "text.onnx")
    return tmp_path


def opened(folder: Path, name: str) -> Model:
    return open_model(folder / f"{name}.onnx", f"{name}.onnx")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("two", "has 2 required inputs"),
        ("open", "has open sizes"),
        ("text", "takes int64 values, as text and categories are"),
    ],
)
def test_no_image_can_be_shown_to_these(name: str, words: str, folder: Path) -> None:
    why = unsuitable(opened(folder, name), Settings())
    assert why is not None
    assert words in why
    assert re.search(r"\.$", why) is None


def test_a_setting_can_make_it_possible(folder: Path) -> None:
    assert unsuitable(opened(folder, "plain"), Settings()) is None
    shaped = Settings(input_shape=(1, 8, 8))
    assert unsuitable(opened(folder, "open"), shaped) is None
    assert unsuitable(opened(folder, "text"), Settings(input_range=(0.0, 9.0))) is None


def test_a_wrong_setting_is_no_property_of_the_model(folder: Path) -> None:
    wrong = replace(Settings(), input_shape=(3, 9, 9))
    assert unsuitable(opened(folder, "plain"), wrong) is None


def test_the_graph_tells_what_a_detector_would_miss(folder: Path) -> None:
    plain, linear = opened(folder, "plain"), opened(folder, "linear")
    for needs in (Needs.GRAPH, Needs.ACTIVATIONS, Needs.LOGITS, GRADIENTS):
        assert obstacle(needs, plain, Settings()) is None
    assert obstacle(Needs.GRAPH, linear, Settings()) is None
    assert "no activation" in str(obstacle(Needs.ACTIVATIONS, linear, Settings()))


@settings(max_examples=25)
@given(st.integers(0, 1000), st.sampled_from([(1, 28, 28), (3, 32, 32), (32, 32, 3), (16, 16)]))
def test_pixels_of_noise_are_strangers(seed: int, shape: tuple[int, ...]) -> None:
    generator = np.random.default_rng(seed)
    noise = generator.random((20, *shape), dtype=np.float32)
    found = nearness(noise)
    assert found is not None
    assert abs(found) < 0.1
    lit = nearness(np.repeat(np.repeat(noise, 2, axis=1), 2, axis=2))
    assert lit is not None
    assert lit > found


def test_an_image_of_one_colour_is_no_noise() -> None:
    assert nearness(np.full((4, 1, 8, 8), 0.5, np.float32)) == 1.0


def test_most_images_decide() -> None:
    generator = np.random.default_rng(0)
    plain = np.full((6, 1, 9, 9), 0.5, np.float32)
    noise = generator.random((4, 1, 9, 9), dtype=np.float32)
    assert nearness(np.concatenate([plain, noise])) == 1.0
    assert images_of(nearness(np.concatenate([plain[:2], noise]))) < 0.2


def images_of(found: float | None) -> float:
    assert found is not None
    return found


def test_a_table_of_features_has_no_neighbours() -> None:
    assert nearness(np.random.default_rng(0).random((9, 3, 64), dtype=np.float32)) is None


@pytest.mark.parametrize("noise", [False, True])
def test_noise_given_as_images_is_doubted(folder: Path, noise: bool) -> None:
    generator = np.random.default_rng(0)
    coarse = generator.random((20, 1, 2, 2), dtype=np.float32)
    soft = np.repeat(np.repeat(coarse, 4, axis=2), 4, axis=3)
    given = generator.random((20, 1, 8, 8), dtype=np.float32) if noise else soft
    np.savez(folder / "given.npz", images=given)
    chosen = Settings(images_file=str(folder / "given.npz"))
    doubt = images_doubt(opened(folder, "plain"), chosen)
    assert ("holds noise, and no images" in doubt) is noise
    assert "given.npz" in doubt or not noise


def test_images_of_several_scales_are_not_doubted() -> None:
    """What detectors show where nobody gives images would pass: it is half smooth."""
    found = nearness(multiscale_noise(24, (1, 28, 28), (0.0, 1.0), np.random.default_rng(0)))
    assert found is not None
    assert found > 0.2


def test_weights_in_another_file_are_no_obstacle(tmp_path: Path) -> None:
    path = models.save(models.plain(), tmp_path / "outside.onnx", external=True)
    assert obstacle(GRADIENTS, open_model(path), Settings()) is None
