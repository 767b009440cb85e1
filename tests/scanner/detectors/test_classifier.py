"""An untrained and a constant network are named as such, and trained ones are not."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from scanner.detectors.classifier import Classifier
from scanner.instruments.detector import Subject
from scanner.modelfile.model import open_model
from scanner.results import Measurement, Severity
from scanner.settings import Device, Settings

SAMPLES = Path(__file__).parents[3] / "samples"
SETTINGS = Settings(device=Device.CPU)


def redrawn(source: Path, target: Path, *, orthogonal: bool = False) -> Path:
    """A sample with new random weights, as PyTorch draws them, or orthogonal ones."""
    generator = np.random.default_rng(0)
    model = onnx.load(source)
    for tensor in model.graph.initializer:
        old = numpy_helper.to_array(tensor)
        if old.ndim > 1:
            bound = 1 / np.sqrt(old[0].size)
            new = generator.uniform(-bound, bound, old.shape).astype(old.dtype)
            if orthogonal:
                left, _, right = np.linalg.svd(new.reshape(len(new), -1), full_matrices=False)
                new = (left @ right).reshape(old.shape)
            tensor.CopyFrom(numpy_helper.from_array(new, tensor.name))
    onnx.save(model, target)
    return target


def biased(source: Path, target: Path) -> Path:
    """A sample whose last bias outweighs every image."""
    model = onnx.load(source)
    last = model.graph.node[-1].input[-1]
    for tensor in model.graph.initializer:
        if tensor.name == last:
            new = numpy_helper.to_array(tensor).copy()
            new[7] += 1e6
            tensor.CopyFrom(numpy_helper.from_array(new, tensor.name))
    onnx.save(model, target)
    return target


def measure(path: Path, seen: list[np.ndarray] | None = None) -> Measurement:
    model = open_model(path)
    return Classifier().measure(Subject(model=model, settings=SETTINGS, seen=seen or []))


@pytest.mark.parametrize("name", ["mnist-clean", "fashion-mnist-badnets", "gtsrb-clean"])
def test_a_trained_network_is_one(name: str) -> None:
    found = measure(SAMPLES / f"{name}.onnx")
    assert found.observations == ()
    assert found.statistic == 0
    assert (found.figures["order"] or 0) > 10


def test_an_untrained_network_is_named(tmp_path: Path) -> None:
    found = measure(redrawn(SAMPLES / "mnist-clean.onnx", tmp_path / "model.onnx"))
    codes = [o.code for o in found.observations]
    assert codes[0] == "untrained"
    assert found.observations[0].severity is Severity.WARNING
    assert "cannot be told from random numbers" in found.observations[0].sentence
    assert (found.figures["order"] or 0) < 5


def test_of_orthogonal_weights_it_is_left_open_who_made_them(tmp_path: Path) -> None:
    """As an initialisation does, and an analysis of principal components that was fitted."""
    path = redrawn(SAMPLES / "mnist-clean.onnx", tmp_path / "model.onnx", orthogonal=True)
    found = measure(path)
    assert found.observations[0].code == "untrained"
    assert found.observations[0].sentence.startswith("nothing shows that the model is trained")
    assert (found.figures["order"] or 0) < -5


def test_a_constant_network_is_named_once_a_search_has_tried(tmp_path: Path) -> None:
    path = biased(SAMPLES / "mnist-clean.onnx", tmp_path / "model.onnx")
    image = np.random.default_rng(0).random((3, 1, 28, 28), np.float32)
    (observation,) = measure(path, [image]).observations
    assert observation.code == "constant"
    assert observation.sentence.startswith("the model answers class 7 ")
    assert "to all 99 images" in observation.sentence
