"""Every layer's statistics against a plain computation, and the comparison by hand."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import models
import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper

from scanner.detectors.layerwise import Layerwise
from scanner.errors import NoLayerError, UnsupportedModelError
from scanner.instruments.detector import Subject
from scanner.judging.comparison import compare
from scanner.modelfile.model import open_model
from scanner.results import ByLayer, LayerRow, Measurement
from scanner.settings import Device, Noise, Settings

SETTINGS = Settings(images=20, device=Device.CPU)


def measure(model: onnx.ModelProto, folder: Path, settings: Settings = SETTINGS) -> Measurement:
    path = models.save(model, folder / "model.onnx")
    return Layerwise().measure(Subject(model=open_model(path), settings=settings))


def rows(measurement: Measurement) -> tuple[LayerRow, ...]:
    assert measurement.by_layer is not None
    return measurement.by_layer.rows


def two_layers(planted: bool = False) -> onnx.ModelProto:
    """Two convolutions with ReLUs; the planted twin's second one has a strong channel."""
    second = np.random.default_rng(5).normal(0, 0.3, (6, models.CHANNELS, 3, 3)).astype(np.float32)
    if planted:
        second[3] = 2.0
    dense = np.random.default_rng(6).normal(0, 0.2, (6, models.CLASSES)).astype(np.float32)
    nodes = [
        models.convolution(),
        models.relu(),
        helper.make_node("Conv", ["activated", "second"], ["convolved2"]),
        helper.make_node("Relu", ["convolved2"], ["activated2"]),
        *models.head("activated2"),
    ]
    return models.build(nodes, {**models.weights(False), "second": second, "dense": dense})


def maps(model: onnx.ModelProto, names: list[str]) -> list[Any]:
    exposed = onnx.ModelProto()
    exposed.CopyFrom(model)
    exposed.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in names)
    session = onnxruntime.InferenceSession(
        exposed.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    images = np.random.default_rng(0).random((20, 1, 8, 8), dtype=np.float32)
    return list(session.run(names, {"image": images}))


def test_every_layer_equals_the_plain_computation(tmp_path: Path) -> None:
    measured = measure(two_layers(True), tmp_path)
    names = ["activated", "activated2"]
    assert [row.layer for row in rows(measured)] == names
    for row, whole in zip(rows(measured), maps(two_layers(True), names), strict=True):
        profile = whole.max(axis=(2, 3)).mean(axis=0)
        assert row.channels == whole.shape[1]
        assert row.peak_mean == pytest.approx(whole.max(axis=(1, 2, 3)).mean(), rel=1e-5)
        assert row.peak_max == pytest.approx(whole.max(), rel=1e-5)
        assert row.mean == pytest.approx(whole.mean(), rel=1e-5)
        assert row.channel == profile.argmax()
        assert row.channel_peak == pytest.approx(profile.max(), rel=1e-5)
        np.testing.assert_allclose(
            row.quantiles, np.quantile(profile, np.linspace(0, 1, 17)), rtol=1e-5
        )
    assert measured.statistic == max(row.channel_z for row in rows(measured))


def test_the_planted_layer_and_channel_are_named(tmp_path: Path) -> None:
    clean, planted = (measure(two_layers(p), tmp_path) for p in (False, True))
    comparison = compare(Layerwise(), planted, [clean])
    assert comparison.evidence.layer == "activated2"
    assert [row.channel for row in comparison.evidence.layers if row.layer == "activated2"] == [3]
    assert comparison.statistic is not None
    assert comparison.statistic > 1
    assert "'activated2'" in comparison.sentence
    own = compare(Layerwise(), clean, [clean]).statistic
    assert own == pytest.approx(0)


@pytest.mark.parametrize("name", models.MEASURABLE)
def test_the_first_layer_is_that_of_the_paper(name: str, tmp_path: Path) -> None:
    first = rows(measure(models.MEASURABLE[name](True), tmp_path))[0]
    plain = rows(measure(models.plain(True), tmp_path))[0]
    tolerance = 0.05 if name in ("QDQ int8", "uint8 input", "float16") else 1e-5
    assert first.channels == models.CHANNELS
    assert first.channel == plain.channel == 0
    assert first.peak_mean == pytest.approx(plain.peak_mean, rel=tolerance)


def layer(name: str, peak: float) -> LayerRow:
    return LayerRow(
        layer=name,
        operator="Relu",
        channels=2,
        peak_mean=peak,
        peak_max=peak,
        mean=peak,
        quantiles=(),
        channel=1,
        channel_peak=peak,
        channel_z=2.0,
    )


def measured(*rows: LayerRow) -> Measurement:
    profile = ByLayer(rows=rows)
    return Measurement(rule="layerwise", statistic=2.0, parameters={}, by_layer=profile)


def test_layers_are_matched_by_name() -> None:
    comparison = compare(
        Layerwise(),
        measured(layer("a", 2), layer("b", 6)),
        [measured(layer("b", 1), layer("a", 2)), measured(layer("b", 4), layer("a", 2))],
    )
    assert comparison.evidence.matched == "by name"
    assert comparison.evidence.layer == "b"
    assert comparison.statistic == pytest.approx(np.log(3))  # the geometric mean of 1 and 4 is 2


def test_layers_are_matched_by_position() -> None:
    comparison = compare(
        Layerwise(),
        measured(layer("a", 2), layer("b", 6)),
        [measured(layer("c", 1), layer("d", 6))],
    )
    assert comparison.evidence.matched == "by position"
    assert comparison.evidence.layer == "a"


def test_another_architecture_is_said() -> None:
    comparison = compare(
        Layerwise(), measured(layer("a", 2), layer("b", 6)), [measured(layer("c", 1))]
    )
    assert "the architectures differ (2 activations against 1)" in comparison.sentence
    assert len(comparison.evidence.layers) == 1


def test_a_silent_layer_has_no_ratio() -> None:
    assert (
        compare(Layerwise(), measured(layer("a", 2)), [measured(layer("a", 0))]).statistic is None
    )
    assert compare(Layerwise(), measured(layer("a", 2)), []).statistic is None


@pytest.mark.parametrize(
    ("build", "error", "message"),
    [
        (models.without_activation, NoLayerError, "no top-level activation"),
        (models.with_nan, UnsupportedModelError, "not a finite number"),
    ],
)
def test_refused(
    build: Callable[[], onnx.ModelProto], error: type[Exception], message: str, tmp_path: Path
) -> None:
    with pytest.raises(error, match=message):
        measure(build(), tmp_path)


def test_noise_and_seed_are_parameters(tmp_path: Path) -> None:
    gaussian = Settings(images=20, device=Device.CPU, noise=Noise.CONSTANT, seed=4)
    parameters = measure(models.plain(), tmp_path, gaussian).parameters
    assert (parameters["noise"], parameters["seed"], parameters["images"]) == ("constant", 4, 20)


def test_shuffled_images_are_named(tmp_path: Path) -> None:
    file = str(tmp_path / "images.npy")
    np.save(file, np.random.default_rng(0).random((4, 1, 8, 8), dtype=np.float32))
    settings = Settings(images=5, device=Device.CPU, noise=Noise.SHUFFLED, images_file=file)
    assert measure(models.plain(), tmp_path, settings).parameters["data"] == file
