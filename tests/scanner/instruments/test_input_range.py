"""The input range that a file, its weights or the user's images tell."""

import dataclasses
from pathlib import Path

import models
import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import helper

from scanner.errors import UsageError
from scanner.graph.layers.entrance import Entrance
from scanner.instruments import input_range
from scanner.instruments.input_range import BYTES, SIGNED, STANDARD, UNIT, find, of_entrance
from scanner.modelfile.model import open_model
from scanner.results import Basis, InputRange
from scanner.settings import Device, Settings
from trainers.graph_backdoor import plant

SETTINGS = Settings(device=Device.CPU)


def span(found: InputRange | None) -> tuple[float, float]:
    assert found is not None
    return found.low, found.high


def balanced(pixel: float, deviation: float, seed: int = 0, noise: float = 0.02) -> Entrance:
    """A first layer that is normalised over pixels of this mean and deviation."""
    generator = np.random.default_rng(seed)
    weights = generator.normal(0, 1 / (3 * deviation), (16, 9))
    bias = -weights.sum(axis=1) * pixel + generator.normal(0, noise, 16)
    return Entrance(weights=weights, bias=bias)


def found_in(model: onnx.ModelProto, folder: Path, settings: Settings = SETTINGS) -> InputRange:
    path = models.save(model, folder / "model.onnx")
    found = find(open_model(path), settings)
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("pixel", "deviation", "expected"),
    [(0.3, 0.25, UNIT), (0.13, 0.3, UNIT), (100.0, 60.0, BYTES), (33.0, 78.0, BYTES)],
)
@pytest.mark.parametrize("seed", range(5))
def test_the_biases_tell_the_mean_pixel(
    pixel: float, deviation: float, expected: tuple[float, float], seed: int
) -> None:
    found = of_entrance(balanced(pixel, deviation, seed))
    assert span(found) == expected
    assert found.basis is Basis.WEIGHTS
    assert "mean pixel" in found.sentence or "of its biases" in found.sentence


@pytest.mark.parametrize("threshold", [-60.0, -3.0, 40.0])
@pytest.mark.parametrize("seed", range(5))
def test_a_filter_with_a_threshold_of_its_own_says_nothing(threshold: float, seed: int) -> None:
    """A planted filter that sleeps until it meets its pattern once made bytes of 0..1."""
    honest = balanced(0.3, 0.25, seed)
    assert honest.weights is not None
    assert honest.bias is not None
    planted = Entrance(
        weights=np.vstack([honest.weights, 12.0 * np.resize([1.0, -1.0], (1, 9))]),
        bias=np.append(honest.bias, threshold),
    )
    assert span(of_entrance(planted)) == span(of_entrance(honest)) == UNIT


@pytest.mark.parametrize(("deviation", "expected"), [(0.5, SIGNED), (1.0, STANDARD)])
def test_a_negative_mean_pixel_is_one_of_a_signed_range(
    deviation: float, expected: tuple[float, float]
) -> None:
    assert span(of_entrance(balanced(-0.4, deviation))) == expected


@given(seed=st.integers(0, 10_000))
def test_weights_that_are_no_balance_never_decide(seed: int) -> None:
    """Biases that have nothing to do with the weights tell no range."""
    generator = np.random.default_rng(seed)
    weights = generator.normal(0, 1, (64, 9))
    found = of_entrance(Entrance(weights=weights, bias=generator.normal(0, 1, 64)))
    assert (span(found), found.basis) == (UNIT, Basis.ASSUMED)
    assert found.sentence.endswith("0..1 is assumed")


@given(scale=st.floats(0.01, 100))
def test_the_scale_of_a_layer_does_not_move_its_mean_pixel(scale: float) -> None:
    entrance = balanced(0.3, 0.25)
    assert entrance.weights is not None
    assert entrance.bias is not None
    scaled = Entrance(weights=entrance.weights * scale, bias=entrance.bias * scale)
    assert of_entrance(scaled).sentence == of_entrance(entrance).sentence


@pytest.mark.parametrize(
    ("centre", "width", "expected"),
    [
        (0.0, 255.0, BYTES),  # x / 255
        (127.5, 127.5, BYTES),  # x / 127.5 - 1
        (114.0, 58.0, BYTES),
        (110.0, 1.0, BYTES),  # less the mean, not divided
        (0.485, 0.229, UNIT),
        (0.13, 0.31, UNIT),
        (0.5, 0.5, UNIT),  # to -1..1
        (0.0, 1 / 255, UNIT),  # to bytes
        (-0.1, 0.5, SIGNED),
        (0.05, 0.45, SIGNED),
        (0.1, 0.98, STANDARD),
    ],
)
def test_what_the_graph_takes_off_tells_the_range(
    centre: float, width: float, expected: tuple[float, float]
) -> None:
    found = of_entrance(Entrance(centre=centre, width=width))
    assert (span(found), found.basis) == (expected, Basis.GRAPH)


@pytest.mark.parametrize(
    ("limits", "expected"),
    [((0, 1), UNIT), ((-1.0, 1.001), SIGNED), ((0, 255), BYTES), ((-1.9, 2.2), (-1.9, 2.2))],
)
def test_limits_in_the_graph_are_the_range(
    limits: tuple[float, float], expected: tuple[float, float]
) -> None:
    assert span(of_entrance(Entrance(limits=limits))) == pytest.approx(expected)


def test_limits_that_hold_nothing_back_are_none() -> None:
    found = of_entrance(Entrance(limits=(-1e9, 1e9)))
    assert (span(found), found.basis) == (UNIT, Basis.ASSUMED)


def test_what_was_given_is_taken(tmp_path: Path) -> None:
    found = found_in(models.plain(), tmp_path, dataclasses.replace(SETTINGS, input_range=(-3, 4)))
    assert (span(found), found.basis) == ((-3, 4), Basis.GIVEN)


def test_bytes_have_their_types_range(tmp_path: Path) -> None:
    found = found_in(models.bytes_input(), tmp_path)
    assert (span(found), found.basis) == (BYTES, Basis.TYPE)


def test_a_wide_integer_has_no_range(tmp_path: Path) -> None:
    model = models.bytes_input()
    model.graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.INT32
    path = models.save(model, tmp_path / "model.onnx")
    assert find(open_model(path), SETTINGS) is None


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(0, 1, UNIT), (0.1, 0.7, UNIT), (-1, 0.99, SIGNED), (0, 254, BYTES), (-1.7, 2.5, (-1.7, 2.5)),
     (0, 2.5, (0, 2.5))],
)  # fmt: skip
def test_images_bring_their_range(
    low: float, high: float, expected: tuple[float, float], tmp_path: Path
) -> None:
    images = np.linspace(low, high, 2 * 64, dtype=np.float32).reshape(2, 1, 8, 8)
    np.savez(tmp_path / "images.npz", images=images)
    chosen = dataclasses.replace(SETTINGS, images_file=str(tmp_path / "images.npz"))
    found = found_in(models.plain(), tmp_path, chosen)
    assert span(found) == pytest.approx(expected)
    assert found.basis is Basis.IMAGES
    assert found.other is None


def test_images_against_the_graph_are_a_question(tmp_path: Path) -> None:
    scaled = [
        helper.make_node("Div", ["image", "scale"], ["small"]),
        models.convolution("small"),
        models.relu(),
        *models.head("activated"),
    ]
    constants = {**models.weights(planted=False), "scale": np.array(255, np.float32)}
    model = models.build(scaled, constants)
    np.save(tmp_path / "images.npy", np.random.default_rng(0).random((4, 1, 8, 8), np.float32))
    chosen = dataclasses.replace(SETTINGS, images_file=str(tmp_path / "images.npy"))
    found = found_in(model, tmp_path, chosen)
    assert (span(found), found.other) == (UNIT, BYTES)
    assert found.agreement is not None
    assert "but 0..255 fits better" in found.sentence


def test_images_that_are_bytes_tell_nothing(tmp_path: Path) -> None:
    np.save(tmp_path / "images.npy", np.zeros((4, 1, 8, 8), np.uint8))
    chosen = dataclasses.replace(SETTINGS, images_file=str(tmp_path / "images.npy"))
    assert found_in(models.plain(), tmp_path, chosen).basis is Basis.ASSUMED


def test_images_that_are_not_there_are_an_error(tmp_path: Path) -> None:
    chosen = dataclasses.replace(SETTINGS, images_file=str(tmp_path / "none.npy"))
    with pytest.raises(UsageError, match="there is no file"):
        found_in(models.plain(), tmp_path, chosen)


def test_a_faint_hint_is_measured_on_the_model(tmp_path: Path) -> None:
    """Where two ranges fit, the model says whether it matters."""
    generator = np.random.default_rng(0)
    kernel = generator.normal(0, 0.4, (16, 1, 3, 3)).astype(np.float32)
    sums = kernel.sum(axis=(1, 2, 3))
    other = generator.normal(0, 1, 16)
    other -= sums * (other @ sums) / (sums @ sums)
    other *= np.linalg.norm(sums) / np.linalg.norm(other)
    constants = {
        "kernel": kernel,
        "bias": (0.4 * sums + 0.9 * other).astype(np.float32) * np.float32(0.25),
        "dense": generator.normal(0, 1, (16, 3)).astype(np.float32),
    }
    nodes = [models.convolution(), models.relu(), *models.head("activated")]
    found = found_in(models.build(nodes, constants), tmp_path)
    assert (span(found), found.basis) == (UNIT, Basis.ASSUMED)
    assert found.other in {SIGNED, STANDARD}
    assert found.agreement is not None
    assert 0 <= found.agreement <= 1


@pytest.mark.parametrize("name", ["mnist-clean", "fashion-mnist-badnets", "gtsrb-clean"])
def test_the_samples_are_measured_as_their_baselines_were(name: str) -> None:
    model = open_model(Path(__file__).parents[3] / "samples" / f"{name}.onnx")
    found = find(model, Settings())
    assert span(found) == UNIT
    assert found is not None
    assert found.other is None or found.agreement is not None


def test_a_loud_filter_does_not_make_bytes_of_a_sample(tmp_path: Path) -> None:
    clean = onnx.load(Path(__file__).parents[3] / "samples/mnist-clean.onnx")
    assert span(found_in(plant(clean, "loud-channel", target=3).model, tmp_path)) == UNIT


def test_a_range_is_written_as_people_write_it() -> None:
    assert input_range.written((-2.12, 2.64)) == "-2.12..2.64"
    assert input_range.written(BYTES) == "0..255"


@pytest.mark.parametrize("bias", [5.0, 80.0, 3000.0])
def test_one_channel_by_hand_does_not_speak_for_all(bias: float) -> None:
    honest = balanced(0.3, 0.25)
    assert honest.bias is not None
    planted = honest.bias.copy()
    planted[3] = bias
    assert span(of_entrance(honest._replace(bias=planted))) == UNIT
