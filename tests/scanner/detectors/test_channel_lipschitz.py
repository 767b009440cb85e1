"""The planted channel stands out by its weights alone, however they are stored."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import models
import numpy as np
import onnx
import pytest
from onnx import helper

from scanner.detectors.channel_lipschitz import ChannelLipschitz
from scanner.errors import NoLayerError, UnsupportedModelError
from scanner.instruments.detector import Subject
from scanner.instruments.statistics import robust_z
from scanner.judging.comparison import compare
from scanner.modelfile.model import open_model
from scanner.results import ByChannel, ChannelRow, Measurement
from scanner.settings import Settings


def measure(model: onnx.ModelProto, folder: Path, **save: Any) -> Measurement:
    path = models.save(model, folder / "model.onnx", **save)
    return ChannelLipschitz().measure(Subject(model=open_model(path), settings=Settings()))


def rows(measurement: Measurement) -> tuple[ChannelRow, ...]:
    assert measurement.by_channel is not None
    return measurement.by_channel.rows


def expected_z() -> float:
    norms = np.linalg.norm(models.weights(True)["kernel"].reshape(4, -1), axis=1)
    return float(robust_z(np.log(norms)).max())


@pytest.mark.parametrize("external", [False, True])
def test_by_hand(external: bool, tmp_path: Path) -> None:
    measured = measure(models.plain(True), tmp_path, external=external)
    convolution, dense = rows(measured)
    assert (convolution.operator, dense.operator) == ("Conv", "MatMul")
    assert convolution.channel == 0
    assert convolution.norm == pytest.approx(0.9 * 3, rel=1e-5)  # nine weights of 0.9
    assert convolution.z == pytest.approx(expected_z(), rel=1e-5)
    assert measured.statistic == max(convolution.z, dense.z)


@pytest.mark.parametrize(
    "build", [models.half, models.quantised, models.function_relu, models.channels_last]
)
def test_another_export_says_the_same(
    build: Callable[[bool], onnx.ModelProto], tmp_path: Path
) -> None:
    convolution = rows(measure(build(True), tmp_path))[0]
    assert convolution.channel == 0
    assert convolution.z == pytest.approx(expected_z(), rel=0.05)


def test_folded_and_unfolded_normalisation_agree(tmp_path: Path) -> None:
    gain = np.array([1, 2, 0.5, 1.5], np.float32)
    weights = models.weights(True)
    folded = models.plain(True)
    kernel = onnx.numpy_helper.from_array(weights["kernel"] * gain.reshape(4, 1, 1, 1), "kernel")
    folded.graph.initializer[0].CopyFrom(kernel)
    zeros, ones = np.zeros(4, np.float32), np.ones(4, np.float32)
    norm = helper.make_node(
        "BatchNormalization", ["convolved", "gain", "zero", "zero", "one"], ["normal"], epsilon=0.0
    )
    nodes = [
        models.convolution(),
        norm,
        helper.make_node("Relu", ["normal"], ["activated"]),
        *models.head("activated"),
    ]
    unfolded = models.build(nodes, {**weights, "gain": gain, "zero": zeros, "one": ones})
    assert measure(unfolded, tmp_path).statistic == pytest.approx(
        measure(folded, tmp_path).statistic, rel=1e-4
    )


def test_compared_with_a_clean_twin(tmp_path: Path) -> None:
    clean, planted = (measure(models.plain(p), tmp_path) for p in (False, True))
    comparison = compare(ChannelLipschitz(), planted, [clean, clean])
    assert comparison.evidence.layer == rows(planted)[0].layer
    assert comparison.evidence.layers[0].channel == 0
    difference = rows(planted)[0].z - rows(clean)[0].z
    assert comparison.statistic == pytest.approx(difference)
    assert comparison.evidence.references_compared == 2


def test_a_reference_of_other_sizes_is_not_compared(tmp_path: Path) -> None:
    measured = measure(models.plain(), tmp_path)
    other = Measurement(
        rule="channel_lipschitz", statistic=1.0, parameters={}, by_channel=ByChannel(rows=())
    )
    comparison = compare(ChannelLipschitz(), measured, [other])
    assert comparison.statistic is None
    assert comparison.sentence == "no reference has layers of the same sizes"
    assert compare(ChannelLipschitz(), measured, []).statistic is None


def test_dead_channels_do_not_count(tmp_path: Path) -> None:
    model = models.plain(True)
    kernel = models.weights(True)["kernel"]
    kernel[2] = 0
    model.graph.initializer[0].CopyFrom(onnx.numpy_helper.from_array(kernel, "kernel"))
    convolution = rows(measure(model, tmp_path))[0]
    norms = np.linalg.norm(kernel.reshape(4, -1), axis=1)
    assert convolution.channel == 0
    assert convolution.z == pytest.approx(robust_z(np.log(norms[[0, 1, 3]])).max(), rel=1e-5)


def test_refused(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedModelError, match="hold NaN or infinity"):
        measure(models.with_nan(), tmp_path)
    empty = models.build([helper.make_node("Relu", ["image"], ["logits"])], {})
    with pytest.raises(NoLayerError, match="no convolution or dense layer"):
        measure(empty, tmp_path)
