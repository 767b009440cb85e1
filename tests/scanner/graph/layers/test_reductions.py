"""The statistics that leave a graph equal those of the whole feature map."""

from collections.abc import Callable
from typing import Any

import models
import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from scanner.graph.core import flatten
from scanner.graph.layers import activations, reductions

Array = npt.NDArray[Any]


def run(model: onnx.ModelProto, images: Array) -> dict[str, Array]:
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(None, {"image": images}), strict=True))


def images_for(model: onnx.ModelProto) -> Array:
    kind = model.graph.input[0].type.tensor_type
    sizes = [d.dim_value or 2 for d in kind.shape.dim]
    images = np.random.default_rng(0).random(sizes, dtype=np.float32)
    if kind.elem_type == TensorProto.UINT8:
        return np.rint(images * 255).astype(np.uint8)
    return images.astype(np.float16) if kind.elem_type == TensorProto.FLOAT16 else images


def statistics(model: onnx.ModelProto) -> tuple[Array, Array, Array]:
    """Return maximum and mean by ONNX Runtime, and the whole map."""
    flat = flatten.flatten(model)
    found = activations.activations(flat)
    assert len(found) == 1
    reduced, names = reductions.per_channel_statistics(flat, found)
    images = images_for(model)
    outputs = run(reduced, images)
    assert set(outputs) == set(names[0])
    exposed = onnx.ModelProto()
    exposed.CopyFrom(flat)
    if found[0].value not in {o.name for o in exposed.graph.output}:
        exposed.graph.output.append(helper.make_empty_tensor_value_info(found[0].value))
    return outputs[names[0].maximum], outputs[names[0].mean], run(exposed, images)[found[0].value]


@pytest.mark.parametrize(
    "name", [n for n in models.MEASURABLE if n not in ("NHWC", "batch not on axis 0")]
)
def test_channels_first(name: str) -> None:
    maximum, mean, feature_map = statistics(models.MEASURABLE[name](True))
    tolerance = 2e-3 if name == "float16" else 1e-5
    rows = feature_map.shape[:2]
    np.testing.assert_allclose(maximum.reshape(rows), feature_map.max(axis=(2, 3)), rtol=tolerance)
    np.testing.assert_allclose(
        mean.reshape(rows), feature_map.mean(axis=(2, 3), dtype=np.float32), rtol=tolerance
    )


@pytest.mark.parametrize("opset", [13, 18, 21])
def test_channels_last(opset: int) -> None:
    model = models.channels_last(True)
    model.opset_import[0].version = opset
    maximum, mean, feature_map = statistics(model)
    np.testing.assert_allclose(maximum, feature_map.max(axis=(1, 2)), rtol=1e-5)
    np.testing.assert_allclose(mean, feature_map.mean(axis=(1, 2)), rtol=1e-5)


def test_a_quantised_clamp_is_dequantised() -> None:
    maximum, mean, codes = statistics(models.quantised(True, fused=True))
    np.testing.assert_allclose(maximum[..., 0, 0], 0.02 * codes.max(axis=(2, 3)), rtol=1e-5)
    np.testing.assert_allclose(mean[..., 0, 0], 0.02 * codes.mean(axis=(2, 3)), rtol=1e-5)


def dense(_: bool = False) -> onnx.ModelProto:
    """Flatten, linear, Relu: one number per channel."""
    nodes = [
        helper.make_node("Flatten", ["image"], ["flat"]),
        helper.make_node("MatMul", ["flat", "matrix"], ["product"]),
        helper.make_node("Relu", ["product"], ["logits"]),
    ]
    matrix = np.random.default_rng(1).normal(size=(models.SIDE**2, 5)).astype(np.float32)
    return models.build(nodes, {"matrix": matrix})


def test_a_dense_activation_is_its_own_statistics() -> None:
    maximum, mean, values = statistics(dense())
    np.testing.assert_array_equal(maximum, values)
    np.testing.assert_array_equal(mean, values)


def tokens(_: bool = False) -> onnx.ModelProto:
    """Rows of the image as tokens, a linear layer on each, Relu: channels last."""
    nodes = [
        helper.make_node("Reshape", ["image", "sizes"], ["rows"]),
        helper.make_node("MatMul", ["rows", "matrix"], ["product"]),
        helper.make_node("Relu", ["product"], ["logits"]),
    ]
    matrix = np.random.default_rng(1).normal(size=(models.SIDE, 5)).astype(np.float32)
    return models.build(nodes, {"matrix": matrix, "sizes": np.array([0, models.SIDE, models.SIDE])})


def test_tokens_are_reduced_over_positions() -> None:
    maximum, mean, values = statistics(tokens())
    np.testing.assert_allclose(maximum, values.max(axis=1), rtol=1e-6)
    np.testing.assert_allclose(mean, values.mean(axis=1), rtol=1e-5)


def test_unknown_rank_counts_as_one_channel() -> None:
    nodes = [
        helper.make_node("Reshape", ["image", "sizes"], ["shaped"]),
        helper.make_node("Relu", ["shaped"], ["logits"]),
    ]
    model = models.build(nodes, {})
    model.graph.input.append(helper.make_tensor_value_info("sizes", TensorProto.INT64, ["rank"]))
    reduced, names = reductions.per_channel_statistics(model, activations.activations(model))
    session = onnxruntime.InferenceSession(
        reduced.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    images = images_for(model)
    feeds = {"image": images, "sizes": np.array([2, 4, 2, 8])}
    np.testing.assert_array_equal(
        session.run([names[0].maximum], feeds)[0], images.reshape(2, -1).max(axis=1)
    )


@pytest.mark.parametrize("build", [models.plain, models.channels_last, models.quantised])
def test_the_argument_is_left_alone(build: Callable[[], onnx.ModelProto]) -> None:
    model = build()
    before = model.SerializeToString()
    reductions.per_channel_statistics(model, activations.activations(model))
    assert model.SerializeToString() == before
