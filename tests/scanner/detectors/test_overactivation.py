"""The statistic against a plain computation: whole graph, feature map fetched, NumPy's maximum."""

from pathlib import Path
from typing import Any

import models
import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from scanner.detectors.overactivation import Overactivation
from scanner.errors import NoLayerError, UnsupportedModelError, UsageError, ValueNotFoundError
from scanner.instruments.detector import Subject
from scanner.judging.comparison import compare as beside
from scanner.modelfile.model import open_model
from scanner.results import ByImage, Comparison, ImagesCompared, Measurement
from scanner.settings import Device, Noise, Settings

SETTINGS = Settings(images=20, device=Device.CPU)


def measure(
    model: onnx.ModelProto, folder: Path, settings: Settings = SETTINGS, **save: Any
) -> Measurement:
    path = models.save(model, folder / "model.onnx", **save)
    return Overactivation().measure(Subject(model=open_model(path), settings=settings))


def maxima(measurement: Measurement) -> list[float]:
    assert measurement.by_image is not None
    return list(measurement.by_image.maxima)


def plainly(
    model: onnx.ModelProto, images: npt.NDArray[Any], value: str = "activated"
) -> npt.NDArray[Any]:
    """Run the whole graph one image at a time, fetch the map, take the maximum."""
    exposed = onnx.ModelProto()
    exposed.CopyFrom(onnx.inliner.inline_local_functions(model) if model.functions else model)
    if value not in {o.name for o in exposed.graph.output}:
        exposed.graph.output.append(helper.make_empty_tensor_value_info(value))
    session = onnxruntime.InferenceSession(
        exposed.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    size = session.get_inputs()[0].shape[0]
    repeats = size if isinstance(size, int) else 1
    maps = [
        session.run([value], {"image": np.repeat(images[i : i + 1], repeats, 0)})[0]
        for i in range(len(images))
    ]
    return np.array([m.max() for m in maps], dtype=np.float64)


def noise(model: onnx.ModelProto, count: int = 20, seed: int = 0) -> npt.NDArray[Any]:
    """The default noise, word for word as it is documented."""
    kind = model.graph.input[0].type.tensor_type
    shape = [d.dim_value for d in kind.shape.dim][1:]
    images = np.random.default_rng(seed).random((count, *shape), dtype=np.float32)
    if kind.elem_type == TensorProto.UINT8:
        return np.rint(images * 255).astype(np.uint8)
    return images.astype(np.float16) if kind.elem_type == TensorProto.FLOAT16 else images


@pytest.mark.parametrize("planted", [False, True])
@pytest.mark.parametrize("name", models.MEASURABLE)
def test_maxima_equal_the_plain_computation(name: str, planted: bool, tmp_path: Path) -> None:
    model = models.MEASURABLE[name](planted)
    measured = measure(model, tmp_path)
    tolerance = 2e-3 if name == "float16" else 1e-5
    np.testing.assert_allclose(maxima(measured), plainly(model, noise(model)), rtol=tolerance)
    assert measured.statistic == pytest.approx(np.mean(maxima(measured)))
    assert measured.parameters["provider"] == "CPU"


def test_external_data(tmp_path: Path) -> None:
    model = models.plain()
    expected = plainly(model, noise(model))
    measured = measure(model, tmp_path, external=True)
    assert (tmp_path / "model.onnx.data").exists()
    np.testing.assert_allclose(maxima(measured), expected, rtol=1e-5)


def test_fused_convolution(tmp_path: Path) -> None:
    measured = measure(models.fused_convolution(), tmp_path)
    expected = plainly(models.plain(), noise(models.plain()))
    np.testing.assert_allclose(maxima(measured), expected, rtol=1e-5)
    assert measured.parameters["operator"] == "Relu"


def test_relu_that_quantisation_fused_away(tmp_path: Path) -> None:
    model = models.quantised(fused=True)
    measured = measure(model, tmp_path)
    expected = plainly(model, noise(model), "again")
    np.testing.assert_allclose(maxima(measured), expected, rtol=1e-5)
    assert measured.parameters["operator"] == "ReLU in QuantizeLinear"


def test_layer_by_name(tmp_path: Path) -> None:
    model = models.plain()
    measured = measure(model, tmp_path, Settings(images=20, device=Device.CPU, layer="classifier"))
    np.testing.assert_allclose(maxima(measured), plainly(model, noise(model), "logits"), rtol=1e-5)


def test_unknown_layer_names_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(ValueNotFoundError, match="did you mean 'relu'"):
        measure(models.plain(), tmp_path, Settings(layer="rellu"))


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (models.without_activation(), "no activation"),
        (models.branch_relu(constant=False), "inside a body of the If node 'choice'"),
        (models.two_inputs(default=False), "2 required inputs \\('image', 'offset'\\)"),
        (models.with_nan(), "not a finite number"),
    ],
    ids=["no activation", "ReLU in a real branch", "two inputs", "NaN weights"],
)
def test_what_cannot_be_measured(model: onnx.ModelProto, message: str, tmp_path: Path) -> None:
    with pytest.raises((NoLayerError, UnsupportedModelError), match=message):
        measure(model, tmp_path)


def test_second_input_with_a_default_is_fine(tmp_path: Path) -> None:
    measured = measure(models.two_inputs(default=True), tmp_path)
    np.testing.assert_allclose(
        maxima(measured), plainly(models.plain(), noise(models.plain())), rtol=1e-5
    )


def test_open_sizes_need_a_shape(tmp_path: Path) -> None:
    model = models.plain(input_shape=("N", 1, "H", "W"))
    with pytest.raises(UsageError, match="the setting `input_shape`"):
        measure(model, tmp_path)
    measured = measure(
        model, tmp_path, Settings(images=20, device=Device.CPU, input_shape=(1, 8, 8))
    )
    assert maxima(measured) == maxima(measure(models.plain(), tmp_path))


def test_wide_integers_need_a_range(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Cast", ["image"], ["floats"], to=TensorProto.FLOAT),
        models.convolution("floats"),
    ]
    model = models.build(
        [*nodes, models.relu(), *models.head("activated")], models.weights(False), input_type=7
    )
    with pytest.raises(UsageError, match="the setting `input_range`"):
        measure(model, tmp_path)
    measure(model, tmp_path, Settings(images=2, device=Device.CPU, input_range=(0, 9)))


def test_noise_families_ranges_and_seeds_change_the_result(tmp_path: Path) -> None:
    variants = [
        SETTINGS,
        Settings(images=20, device=Device.CPU, noise=Noise.GAUSSIAN),
        Settings(images=20, device=Device.CPU, input_range=(-1, 1)),
        Settings(images=20, device=Device.CPU, seed=1),
    ]
    statistics = {measure(models.plain(), tmp_path, settings).statistic for settings in variants}
    assert len(statistics) == len(variants)


def test_progress_ends_at_the_total(tmp_path: Path) -> None:
    path = models.save(models.plain(), tmp_path / "model.onnx")
    calls: list[tuple[int | None, ...]] = []
    subject = Subject(
        model=open_model(path),
        settings=Settings(images=150),
        progress=lambda *step: calls.append(step),
    )
    Overactivation().measure(subject)
    assert calls == [(64, 150), (128, 150), (150, 150)]


def compare(suspect: list[float], *references: list[float]) -> Comparison:
    def measured(values: list[float]) -> Measurement:
        profile = ByImage(maxima=tuple(values))
        return Measurement(
            rule="overactivation", statistic=0.0, parameters={"seed": 0}, by_image=profile
        )

    return beside(Overactivation(), measured(suspect), [measured(r) for r in references])


def images(comparison: Comparison) -> ImagesCompared:
    assert comparison.evidence.images is not None
    return comparison.evidence.images


def test_table_2_2_by_hand() -> None:
    comparison = compare([1.0, 3.0, 2.0, 4.0], [1.0, 1.0, 4.0, 2.0])
    found = images(comparison)
    assert (found.wins, found.losses, found.ties) == (2, 1, 1)
    assert found.ratio_max == 1.0
    assert found.ratio_mean == comparison.statistic == 10 / 8
    assert found.difference is not None
    assert found.difference.mean == 0.5
    assert found.difference.low < 0.5 < found.difference.high


def test_several_references_are_averaged_image_by_image() -> None:
    assert images(compare([2.0, 2.0], [1.0, 3.0], [1.0, 1.0])).reference == (1.0, 2.0)
    assert images(compare([2.0, 2.0], [1.0, 3.0], [1.0, 1.0])).reference_mean == 1.5


def test_without_a_reference_there_is_no_statistic() -> None:
    assert compare([2.0, 2.0]).statistic is None


def test_ratio_to_a_silent_reference_is_undefined() -> None:
    assert images(compare([1.0, 2.0], [0.0, 0.0])).ratio_mean is None


def test_planted_twin_answers_more_strongly(tmp_path: Path) -> None:
    clean, planted = (maxima(measure(models.plain(p), tmp_path)) for p in (False, True))
    assert images(compare(planted, clean)).wins == 20
