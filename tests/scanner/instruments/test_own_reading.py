"""The graph as it is read here answers what the file answers, whole or in part."""

from pathlib import Path

import models
import numpy as np
import pytest

from scanner.instruments import original, own_reading
from scanner.modelfile.model import Model, open_model
from scanner.settings import Settings

SETTINGS = Settings()
IMAGES = np.random.default_rng(0).random((3, 1, models.SIDE, models.SIDE), dtype=np.float32)


@pytest.fixture
def model(tmp_path: Path) -> Model:
    return open_model(models.save(models.plain(), tmp_path / "m.onnx"))


def answers(model: Model) -> original.Answers:
    return original.ask(original.open_original(model.data, 1), IMAGES)


def test_the_whole_reading_answers_as_the_file(model: Model) -> None:
    ours = original.ask_alone(own_reading.open_whole(model, ["logits"], SETTINGS), IMAGES)
    np.testing.assert_allclose(ours["logits"], answers(model).alone["logits"], rtol=1e-5)


def test_what_lies_behind_a_value_is_computed_from_given_numbers(model: Model) -> None:
    theirs = answers(model)
    inner = original.inner_values(model, model.data, {"activated"}, IMAGES, 1)["activated"]
    assert own_reading.follows(model, "logits", "activated")
    assert not own_reading.follows(model, "activated", "logits")
    found = own_reading.behind(model, "activated", inner, theirs, SETTINGS)
    np.testing.assert_allclose(found["logits"], theirs.alone["logits"], rtol=1e-5)


def test_the_first_difference_is_where_the_file_departs(model: Model, tmp_path: Path) -> None:
    other = models.plain()
    bias = next(t for t in other.graph.initializer if t.name == "bias")
    bias.raw_data = np.full(bias.dims, 9, np.float32).tobytes()
    data = models.save(other, tmp_path / "other.onnx").read_bytes()
    image = IMAGES[:1]
    assert own_reading.first_difference(model, model.data, image, 0.01, SETTINGS) is None
    named = own_reading.first_difference(model, data, image, 0.01, SETTINGS)
    assert named == model.proto.graph.node[0].output[0]


def test_values_that_the_file_does_not_have_are_left_out(model: Model) -> None:
    assert original.inner_values(model, model.data, {"no such value"}, IMAGES, 1) == {}
