"""Which tensors are weights, and that nothing but their numbers changes."""

from typing import Any

import models
import numpy as np
import onnx
import planting
import pytest
from onnx import helper, numpy_helper

from scanner.errors import UnsupportedModelError
from scanner.graph.surgery import parameters


def test_layers_name_their_tensors() -> None:
    conv, dense = parameters.layers(models.plain())
    assert (conv.operator, conv.source, conv.weights, conv.bias) == (
        "Conv", "image", "kernel", "bias",
    )  # fmt: skip
    assert (conv.axis, conv.inputs) == (0, 1)
    assert (dense.operator, dense.source, dense.weights, dense.bias) == (
        "MatMul", "flat", "dense", "",
    )  # fmt: skip
    assert (dense.axis, dense.inputs) == (1, 0)


def test_a_transposed_layer_has_its_channels_first() -> None:
    first = next(parameters.layers(planting.deep()))
    assert (first.weights, first.axis, first.inputs) == ("w0", 0, 1)


def layer_behind(
    node: onnx.NodeProto, weights: tuple[int, ...], perm: list[int] | None, *more: int
) -> parameters.Layer:
    """Return a layer whose weights a Transpose turns; `more` are the sizes of a bias."""
    how: dict[str, Any] = {"perm": perm} if perm else {}
    turn = helper.make_node("Transpose", ["w"], ["turned"], **how)
    tensors = {"w": np.zeros(weights, np.float32), "b": np.zeros(more, np.float32)}
    (found,) = parameters.layers(models.build([turn, node], tensors, input_shape=("N", 2, 8, 8)))
    return found


def test_a_transposed_kernel_keeps_its_channels() -> None:
    conv = helper.make_node("Conv", ["image", "turned"], ["logits"])
    found = layer_behind(conv, (3, 3, 2, 5), [3, 2, 0, 1])
    assert (found.weights, found.axis, found.inputs) == ("w", 3, 2)


@pytest.mark.parametrize(
    ("weights", "perm", "axes"),
    [
        ((8, 6), [0, 1], (1, 0)),
        ((6, 8), None, (0, 1)),
        ((7, 8, 6), [0, 1, 2], (2, 1)),
        ((7, 6, 8), [0, 2, 1], (1, 2)),
    ],
)
def test_a_product_has_its_channels_wherever_a_transposition_puts_them(
    weights: tuple[int, ...], perm: list[int] | None, axes: tuple[int, int]
) -> None:
    product = helper.make_node("MatMul", ["image", "turned"], ["logits"])
    found = layer_behind(product, weights, perm)
    assert (found.axis, found.inputs) == axes


@pytest.mark.parametrize(("size", "bias"), [(6, "b"), (1, "")])
def test_a_bias_is_one_number_for_each_channel(size: int, bias: str) -> None:
    dense = helper.make_node("Gemm", ["image", "turned", "b"], ["logits"])
    assert layer_behind(dense, (8, 6), [0, 1], size).bias == bias


def test_quantised_weights_are_refused() -> None:
    with pytest.raises(UnsupportedModelError, match="quantised"):
        list(parameters.layers(models.quantised()))


@pytest.mark.parametrize("model", [models.plain(), models.half()])
def test_replacing_changes_the_named_tensor_alone(model: onnx.ModelProto) -> None:
    before = parameters.values(model, ["kernel"])["kernel"]
    changed = parameters.replaced(model, {"kernel": before + 1})
    for old, new in zip(model.graph.initializer, changed.graph.initializer, strict=True):
        assert (old.name, old.dims, old.data_type) == (new.name, new.dims, new.data_type)
        same = old.SerializeToString() == new.SerializeToString()
        assert same == (old.name != "kernel")
    after = numpy_helper.to_array(changed.graph.initializer[0]).astype(np.float32)
    assert np.allclose(after, before + 1, atol=1e-2)
    del changed.graph.initializer[:]
    changed.graph.initializer.extend(model.graph.initializer)
    assert changed.SerializeToString() == model.SerializeToString()


def test_tensors_become_inputs() -> None:
    opened = parameters.as_inputs(models.plain(), ["kernel", "dense"])
    assert [value.name for value in opened.graph.input] == ["image", "kernel", "dense"]
    assert [tensor.name for tensor in opened.graph.initializer] == ["bias"]
    assert len(models.plain().graph.initializer) == 3
