"""The session around a gradient graph: values by hand, batches, and what has no gradient."""

from pathlib import Path

import models
import numpy as np
import numpy.typing as npt
import onnx
import pytest
import triggered
from onnx import TensorProto, helper

from scanner.errors import NoGradientError, NoLogitsError, UnsupportedModelError, ValueNotFoundError
from scanner.examine import examine
from scanner.graph.gradient.backward import Objective
from scanner.instruments.differentiable import Differentiable, differentiable
from scanner.protocol import Job, Source
from scanner.settings import Device, Settings
from scanner.values import to_json

IMAGES = np.random.default_rng(0).random((7, 1, 8, 8), dtype=np.float32)


def load(
    model: onnx.ModelProto,
    folder: Path,
    objective: Objective = Objective.CROSS_ENTROPY,
    settings: Settings = triggered.QUICK,
) -> Differentiable:
    return differentiable(triggered.subject(model, folder, settings), objective)


def parameters(model: onnx.ModelProto) -> list[npt.NDArray[np.float64]]:
    return [onnx.numpy_helper.to_array(t).astype(np.float64) for t in model.graph.initializer[:2]]


def test_cross_entropy_and_its_gradient_by_hand(tmp_path: Path) -> None:
    model = triggered.classifier()
    weights, bias = parameters(model)
    z = IMAGES.reshape(7, -1) @ weights + bias
    p = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
    logits, losses, gradient = load(model, tmp_path).evaluate(IMAGES, 2)
    np.testing.assert_allclose(logits, z, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(losses, -np.log(p[:, 2]), rtol=1e-4)
    np.testing.assert_allclose(
        gradient.reshape(7, -1), (p - np.eye(4)[2]) @ weights.T, rtol=1e-3, atol=1e-5
    )


def test_margin_and_its_gradient_by_hand(tmp_path: Path) -> None:
    model = triggered.classifier()
    weights, bias = parameters(model)
    z = IMAGES.reshape(7, -1) @ weights + bias
    rival = np.where(np.arange(4) == 2, -np.inf, z).argmax(axis=1)
    _, margins, gradient = load(model, tmp_path, Objective.MARGIN).evaluate(IMAGES, 2)
    np.testing.assert_allclose(margins, z[:, 2] - z[np.arange(7), rival], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(
        gradient.reshape(7, -1), (weights[:, [2]] - weights[:, rival]).T, rtol=1e-4, atol=1e-6
    )


@pytest.mark.parametrize("batch", [1, 3, 7, 10])
def test_a_fixed_batch_changes_nothing(batch: int, tmp_path: Path) -> None:
    expected = load(triggered.classifier(), tmp_path).evaluate(IMAGES, 1)
    found = load(triggered.classifier(batch=batch), tmp_path).evaluate(IMAGES, 1)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("kind", [TensorProto.FLOAT16, TensorProto.DOUBLE, TensorProto.UINT8])
def test_the_gradient_is_float32_whatever_the_input(kind: int, tmp_path: Path) -> None:
    model = load(triggered.classifier(kind=kind), tmp_path)
    width = model.high - model.low
    _, _, gradient = model.evaluate(width * IMAGES, 1)
    assert gradient.dtype == np.float32
    _, _, expected = load(triggered.classifier(), tmp_path).evaluate(IMAGES, 1)
    np.testing.assert_allclose(gradient * width, expected, rtol=2e-2, atol=1e-3)


def test_pulling_back_weights_by_hand_and_by_differences(tmp_path: Path) -> None:
    generator = np.random.default_rng(1)
    slopes = generator.normal(size=(7, 4))
    model = triggered.shifting(planted=True)  # its logits are quadratic in the pixels
    loaded = load(model, tmp_path, Objective.WEIGHTED_SUM)
    found = loaded.pull_back(IMAGES, slopes)
    direction, step = generator.normal(size=IMAGES.shape).astype(np.float32), 0.05
    ahead, behind = (loaded.scores(IMAGES + s * direction) for s in (step, -step))
    expected = (slopes * (ahead - behind).astype(float)).sum(axis=1) / (2 * step)
    np.testing.assert_allclose((found * direction).sum(axis=(1, 2, 3)), expected, atol=1e-3)


def test_pulling_back_one_class_is_evaluating_it(tmp_path: Path) -> None:
    loaded = load(triggered.shifting(planted=True), tmp_path, Objective.WEIGHTED_SUM)
    pulled = loaded.pull_back(IMAGES, np.tile(np.eye(4)[2], (7, 1)))
    np.testing.assert_array_equal(pulled, loaded.evaluate(IMAGES, 2)[2])


@pytest.mark.parametrize("batch", [1, 3, 10])
def test_pulling_back_through_a_fixed_batch(batch: int, tmp_path: Path) -> None:
    slopes = np.random.default_rng(1).normal(size=(7, 4))
    free, fixed = (
        load(triggered.shifting(True, batch=b), tmp_path, Objective.WEIGHTED_SUM)
        for b in ("N", batch)
    )
    np.testing.assert_allclose(
        fixed.pull_back(IMAGES, slopes), free.pull_back(IMAGES, slopes), rtol=1e-4, atol=1e-6
    )


def test_what_cannot_be_pulled_back_is_named(tmp_path: Path) -> None:
    loaded = load(triggered.classifier(nan=True), tmp_path, Objective.WEIGHTED_SUM)
    with pytest.raises(UnsupportedModelError, match="NaN is in the weights 'weights'; export"):
        loaded.pull_back(IMAGES, np.ones((7, 4)))


def test_predictions_are_the_largest_logits(tmp_path: Path) -> None:
    weights, bias = parameters(triggered.classifier())
    expected = (IMAGES.reshape(7, -1) @ weights + bias).argmax(axis=1)
    np.testing.assert_array_equal(load(triggered.classifier(), tmp_path).predict(IMAGES), expected)


@pytest.mark.parametrize("batch", ["N", 2])
def test_logits_with_further_axes_of_one_are_logits(batch: int | str, tmp_path: Path) -> None:
    size = (batch, 1, models.SIDE, models.SIDE)
    flat, constants = models.plain(input_shape=size), models.weights(False)
    constants["dense"] = constants["dense"].T[..., None, None].copy()
    nodes = [
        models.convolution(),
        models.relu(),
        helper.make_node("GlobalAveragePool", ["activated"], ["pooled"]),
        helper.make_node("Conv", ["pooled", "dense"], ["logits"]),
    ]
    maps = load(models.build(nodes, constants, input_shape=size), tmp_path)
    for ours, theirs in zip(
        maps.evaluate(IMAGES, 1), load(flat, tmp_path).evaluate(IMAGES, 1), strict=True
    ):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-6)


def test_softmax_is_cut_off(tmp_path: Path) -> None:
    model = load(triggered.classifier(softmax=True), tmp_path)
    assert (model.outputs[0], model.cut) == ("logits", ("Softmax",))


def test_nan_names_the_weights(tmp_path: Path) -> None:
    with pytest.raises(
        UnsupportedModelError, match="not a finite number: NaN is in the weights 'weights'; export"
    ):
        load(triggered.classifier(nan=True), tmp_path).evaluate(IMAGES, 0)


def test_overflow_is_no_number_either(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedModelError, match="not a finite number; export the model again"):
        load(triggered.classifier(), tmp_path).evaluate(IMAGES * np.float32(3e38), 0)


def test_one_class_is_no_classifier(tmp_path: Path) -> None:
    with pytest.raises(NoLogitsError, match="the setting `logits`"):
        load(triggered.classifier(classes=1), tmp_path)


def test_unknown_logits_name_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(ValueNotFoundError, match="did you mean 'logits'"):
        load(triggered.classifier(), tmp_path, settings=Settings(device=Device.CPU, logits="logit"))


def feature_map() -> onnx.ModelProto:
    """Integers come out: nothing that could be a logit."""
    nodes = [
        models.convolution(),
        helper.make_node("Cast", ["convolved"], ["labels"], to=TensorProto.INT64),
    ]
    return models.build(nodes, models.weights(planted=False), output="labels")


def test_no_logits(tmp_path: Path) -> None:
    with pytest.raises(NoLogitsError, match="no logits among the outputs 'labels': looked for"):
        load(feature_map(), tmp_path)


def test_rounded_pixels_have_no_gradient(tmp_path: Path) -> None:
    model = triggered.classifier()
    model.graph.node.insert(0, helper.make_node("Round", ["image"], ["rounded"]))
    model.graph.node[1].input[0] = "rounded"
    with pytest.raises(
        NoGradientError, match="does not depend on 'image' through operators that have a gradient"
    ):
        load(model, tmp_path)


@pytest.mark.parametrize("named", [False, True])
def test_a_scan_skips_what_has_no_logits_unless_it_was_asked_for(
    named: bool, tmp_path: Path
) -> None:
    path = str(models.save(feature_map(), tmp_path / "model.onnx"))
    settings = Settings(images=4, device=Device.CPU, detectors=("neural_cleanse",) if named else ())
    job = Job(
        model=Source(name=path, path=path),
        references=(),
        records=(),
        settings=settings,
    )
    suspect = examine(job, lambda _: None).suspect
    kept = suspect.failures if named else suspect.skips
    assert "neural_cleanse" in [item.rule for item in kept]
    assert all(
        "no logits among the outputs" in str(to_json(item))
        for item in kept
        if item.rule == "neural_cleanse"
    )
