"""What no image can be shown to is known before anything runs, and said once."""

import re
from dataclasses import replace
from pathlib import Path

import models
import pytest
from onnx import TensorProto, helper

from scanner.instruments.detector import Needs
from scanner.instruments.suitability import obstacle, unsuitable
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
