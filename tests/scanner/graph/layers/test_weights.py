"""Weights come out the same, however a file stores them."""

from typing import Any

import models
import numpy as np
import numpy.typing as npt
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper

from scanner.graph.layers import weights as layer_weights
from scanner.graph.layers.weights import (
    LinearLayer,
    Weights,
    from_the_last,
    linear_layers,
    spectral_norms,
)  # fmt: skip

Array = npt.NDArray[Any]
GENERATOR = np.random.default_rng(0)


@given(
    seed=st.integers(0, 2**32),
    outputs=st.integers(1, 4),
    inputs=st.integers(1, 6),
    taps=st.integers(1, 6),
)
def test_spectral_norms_are_numpys(seed: int, outputs: int, inputs: int, taps: int) -> None:
    weights = np.random.default_rng(seed).normal(size=(outputs, inputs, taps))
    expected = np.linalg.norm(weights, ord=2, axis=(1, 2))
    np.testing.assert_allclose(spectral_norms(Weights(stored=weights)), expected, rtol=1e-9)


def numbers(layer: LinearLayer) -> npt.NDArray[np.float64]:
    return np.concatenate([*layer.weights.blocks()])


@given(
    seed=st.integers(0, 2**32),
    shape=st.tuples(st.integers(1, 9), st.integers(1, 5), st.integers(1, 5)),
    block=st.integers(1, 60),
    dtype=st.sampled_from(["float16", "float32", "float64", "int8", "uint8"]),
    form=st.tuples(st.booleans(), st.booleans()),
)
def test_blocks_are_the_weights_in_double_precision(
    seed: int, shape: tuple[int, int, int], block: int, dtype: str, form: tuple[bool, bool]
) -> None:
    """Whatever is stored, and however much fits into a block: not a bit differs."""
    by_channel, transposed = form
    generator = np.random.default_rng(seed)
    codes = generator.uniform(0, 100, shape[::-1] if transposed else shape).astype(dtype)
    codes = codes.T if transposed else codes
    channels = (shape[0] if by_channel else 1, 1, 1)
    zero, scale = generator.normal(size=channels), generator.normal(size=channels)
    weights = Weights(stored=codes, zero=zero, scale=scale)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(layer_weights, "_BLOCK", block)
        found, norms = [*weights.blocks()], spectral_norms(weights)
    whole = (codes.astype(np.float64) - zero) * scale
    np.testing.assert_array_equal(np.concatenate(found), whole)
    assert max(part.size for part in found) <= max(block, shape[1] * shape[2])
    expected = np.linalg.norm(whole, ord=2, axis=(1, 2))
    np.testing.assert_allclose(norms, expected, rtol=1e-9, atol=1e-9)


def stored(form: str) -> onnx.ModelProto:
    """Return the plain network with its kernel stored in another form."""
    weights = models.weights(True)
    codes = np.rint(weights["kernel"] / 0.02).astype(np.int8)
    constants = {name: value for name, value in weights.items() if name != "kernel"}
    rest = [models.convolution(), models.relu(), *models.head("activated")]
    if form == "float16 behind a Cast":
        cast = helper.make_node("Cast", ["half"], ["kernel"], to=TensorProto.FLOAT)
        return models.build(
            [cast, *rest], {**constants, "half": weights["kernel"].astype(np.float16)}
        )
    if form == "int8 behind a DequantizeLinear":
        node = helper.make_node("DequantizeLinear", ["codes", "scale"], ["kernel"])
        return models.build(
            [node, *rest], {**constants, "codes": codes, "scale": np.array(0.02, np.float32)}
        )
    if form == "int8 by channel":
        node = helper.make_node("DequantizeLinear", ["codes", "scale"], ["kernel"], axis=0)
        return models.build(
            [node, *rest], {**constants, "codes": codes, "scale": np.full(4, 0.02, np.float32)}
        )
    constant = helper.make_node(
        "Constant", [], ["kernel"], value=onnx.numpy_helper.from_array(weights["kernel"])
    )
    return models.build([constant, *rest], constants)


@pytest.mark.parametrize(
    "form",
    [
        "float16 behind a Cast",
        "int8 behind a DequantizeLinear",
        "int8 by channel",
        "a Constant node",
    ],
)
def test_stored_forms(form: str) -> None:
    kernel = models.weights(True)["kernel"].reshape(4, 1, 9)
    convolution, dense = linear_layers(stored(form))
    np.testing.assert_allclose(numbers(convolution), kernel, atol=0.011 if "int8" in form else 1e-3)
    np.testing.assert_allclose(numbers(dense)[..., 0], models.weights(True)["dense"].T)


def test_batch_normalisation_is_folded() -> None:
    scale, variance = (GENERATOR.uniform(0.5, 2, 4).astype(np.float32) for _ in range(2))
    constants = {
        **models.weights(False),
        "scale": scale,
        "shift": scale,
        "mean": scale,
        "variance": variance,
    }
    norm = helper.make_node(
        "BatchNormalization",
        ["convolved", "scale", "shift", "mean", "variance"],
        ["normal"],
        epsilon=1e-3,
    )
    nodes = [
        models.convolution(),
        norm,
        helper.make_node("Relu", ["normal"], ["activated"]),
        *models.head("activated"),
    ]
    gain = scale / np.sqrt(variance + 1e-3)
    expected = models.weights(False)["kernel"].reshape(4, 1, 9) * gain[:, None, None]
    np.testing.assert_allclose(
        numbers(next(linear_layers(models.build(nodes, constants)))), expected, rtol=1e-5
    )


def alone(node: onnx.NodeProto, constants: dict[str, Array]) -> npt.NDArray[np.float64]:
    model = models.build([node], constants, output="y", input_shape=("N", 4, 8, 8))
    (layer,) = linear_layers(model)
    return numbers(layer)


@pytest.mark.parametrize("transposed", [0, 1])
def test_gemm(transposed: int) -> None:
    weights = GENERATOR.normal(size=(3, 5)).astype(np.float32)
    node = helper.make_node("Gemm", ["image", "w"], ["y"], transB=transposed, alpha=2.0)
    expected = weights if transposed else weights.T
    np.testing.assert_allclose(alone(node, {"w": weights})[..., 0], 2 * expected)


def test_from_the_last_on_recurrent_layers_count_too() -> None:
    given, state, dense = (
        GENERATOR.normal(size=size).astype(np.float32) for size in ((2, 12, 8), (2, 12, 4), (8, 5))
    )
    nodes = [
        helper.make_node("GRU", ["image", "w", "r"], ["", "h"], hidden_size=4),
        helper.make_node("MatMul", ["h", "d"], ["y"]),
    ]
    model = models.build(
        nodes, {"w": given, "r": state, "d": dense}, output="y", input_shape=(6, "N", 8)
    )
    last, first = from_the_last(model)
    np.testing.assert_allclose(numbers(last)[..., 0], dense.T)
    np.testing.assert_allclose(numbers(first)[..., 0], given.reshape(24, 8))
    assert (first.name, first.operator) == ("h", "GRU")
    assert [layer.operator for layer in linear_layers(model)] == ["MatMul"]


def test_transposed_convolution_by_groups() -> None:
    weights = GENERATOR.normal(size=(4, 3, 2, 2)).astype(np.float32)
    found = alone(helper.make_node("ConvTranspose", ["image", "w"], ["y"], group=2), {"w": weights})
    assert found.shape == (6, 2, 4)
    np.testing.assert_allclose(
        found[4], weights[2:, 1].reshape(2, 4)
    )  # the second group's second output


def test_quantised_operators() -> None:
    codes = GENERATOR.integers(-9, 9, (3, 4, 2, 2)).astype(np.int8)
    constants: dict[str, Array] = {
        "s": np.array(0.5, np.float32),
        "z": np.array(1, np.int8),
        "w": codes,
    }
    constants |= {"t": np.array([1, 2, 3], np.float32), "o": np.zeros(3, np.int8)}
    convolution = helper.make_node(
        "QLinearConv", ["image", "s", "z", "w", "t", "o", "s", "z"], ["y"]
    )
    expected: Array = codes.reshape(3, 4, 4) * np.array([1, 2, 3]).reshape(3, 1, 1)
    np.testing.assert_allclose(alone(convolution, constants), expected)
    product = helper.make_node("QLinearMatMul", ["image", "s", "z", "m", "s", "z", "s", "z"], ["y"])
    matrix = codes[:, :, 0, 0]
    np.testing.assert_allclose(
        alone(product, {**constants, "m": matrix})[..., 0], (matrix.T - 1.0) * 0.5
    )


@pytest.mark.parametrize("transposed", [0, 1])
def test_a_quantised_gemm(transposed: int) -> None:
    codes = np.arange(12, dtype=np.int8).reshape(3, 4)
    constants: dict[str, Array] = {
        "m": codes.T if transposed else codes,
        "s": np.array(0.5, np.float32),
        "z": np.array(2, np.int8),
    }
    gemm = helper.make_node(
        "QGemm", ["image", "s", "z", "m", "s", "z", "", "s", "z"], ["y"],
        domain="com.microsoft", transB=transposed,
    )  # fmt: skip
    model = models.build([gemm], constants, output="y")
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    (layer,) = linear_layers(model)
    np.testing.assert_array_equal(numbers(layer), 0.5 * (codes.T[..., None] - 2.0))


@pytest.mark.parametrize(("zeros", "read"), [([3], True), ([3, 3, 3, 3], False)])
def test_sums_of_codes_have_the_weights_of_their_one_scale(zeros: list[int], read: bool) -> None:
    matrix = np.arange(12, dtype=np.uint8).reshape(3, 4)
    kernel = np.arange(32, dtype=np.uint8).reshape(4, 2, 2, 2)
    constants = {"m": matrix, "k": kernel, "t": np.array(zeros, np.uint8)}
    nodes = [
        helper.make_node("ConvInteger", ["image", "k", "", "t"], ["x"]),
        helper.make_node("MatMulInteger", ["codes", "m", "", "t"], ["y"]),
    ]
    found = list(linear_layers(models.build(nodes, constants, output="y")))
    expected = [kernel.reshape(4, 2, 4) - 3.0, matrix.T[..., None] - 3.0] if read else []
    assert len(found) == len(expected)
    for layer, weights in zip(found, expected, strict=True):
        np.testing.assert_array_equal(numbers(layer), weights)


def test_weights_that_are_computed_from_the_image_are_none() -> None:
    node = helper.make_node("MatMul", ["image", "image"], ["y"])
    assert not list(linear_layers(models.build([node], {}, output="y")))


def test_weights_in_the_layout_of_another_domain_are_not_read() -> None:
    """ONNX Runtime's own layout permutes a kernel within its shape: trained, it looks random."""
    model = models.plain()
    model.graph.node[0].domain = "com.microsoft.nchwc"
    model.opset_import.append(helper.make_opsetid("com.microsoft.nchwc", 1))
    assert [layer.operator for layer in linear_layers(model)] == ["MatMul"]


def test_the_argument_is_left_alone() -> None:
    model = stored("float16 behind a Cast")
    before = model.SerializeToString()
    list(linear_layers(model))
    assert model.SerializeToString() == before
