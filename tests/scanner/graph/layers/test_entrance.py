"""How an input enters a model, for every way in which exporters write it."""

from collections.abc import Sequence
from pathlib import Path

import models
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from scanner.graph.layers.entrance import Entrance, entrance
from scanner.modelfile.external_data import Folder
from scanner.modelfile.model import open_model

KERNEL = models.weights(planted=False)["kernel"]


def read(model: onnx.ModelProto, folder: Path) -> Entrance:
    return entrance(open_model(models.save(model, folder / "model.onnx")))


def led_by(nodes: Sequence[onnx.NodeProto], **constants: np.ndarray) -> onnx.ModelProto:
    """A plain model behind nodes that make `ready` of `image`."""
    return models.build(
        [*nodes, models.convolution("ready"), models.relu(), *models.head("activated")],
        {**models.weights(planted=False), **constants},
    )


def numbers(*values: float) -> np.ndarray:
    return np.array(values, np.float32).reshape(1, -1, 1, 1)


def one(value: float) -> np.ndarray:
    return np.array([value], np.float32)


def test_a_plain_model_scales_nothing(tmp_path: Path) -> None:
    found = read(models.plain(), tmp_path)
    assert (found.centre, found.width, found.limits) == (0.0, 1.0, None)
    assert found.weights is not None
    assert np.allclose(found.weights, KERNEL.reshape(models.CHANNELS, -1))
    assert found.bias is not None
    assert found.bias.tolist() == [0.0] * models.CHANNELS


def test_of_external_data_only_the_first_layer_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file of 2 GB would else be in memory whole for a scan of its first layer."""
    taken = []

    def inline(folder: Folder, tensor: onnx.TensorProto) -> None:
        taken.append(tensor.name)
        whole(folder, tensor)

    whole = Folder.inline
    monkeypatch.setattr(Folder, "inline", inline)
    path = models.save(models.plain(), tmp_path / "model.onnx", external=True)
    found = entrance(open_model(path))
    assert found.weights is not None
    assert np.allclose(found.weights, KERNEL.reshape(models.CHANNELS, -1))
    assert set(taken) == {"kernel", "bias"}


@pytest.mark.parametrize(
    ("nodes", "centre", "width"),
    [
        ([("Div", "image", "a", "ready")], 0.0, 4.0),
        ([("Mul", "a", "image", "ready")], 0.0, 0.25),
        ([("Sub", "image", "b", "half"), ("Div", "half", "a", "ready")], 0.5, 4.0),
        ([("Mul", "image", "a", "more"), ("Add", "more", "b", "ready")], -0.125, 0.25),
        ([("Sub", "b", "image", "ready")], 0.5, 1.0),
    ],
)
def test_scaling_is_read_as_one_step(
    nodes: Sequence[tuple[str, str, str, str]], centre: float, width: float, tmp_path: Path
) -> None:
    made = [helper.make_node(kind, [one, two], [out]) for kind, one, two, out in nodes]
    found = read(led_by(made, a=numbers(4.0), b=numbers(0.5)), tmp_path)
    assert (found.centre, found.width) == pytest.approx((centre, width))


def test_a_leading_normalisation_is_scaling_and_a_following_one_is_the_layers(
    tmp_path: Path,
) -> None:
    names = ["gain", "offset", "mean", "variance"]
    constants = dict(zip(names, map(one, (2.0, 1.0, 0.5, 4.0)), strict=True))
    node = helper.make_node("BatchNormalization", ["image", *names], ["ready"], epsilon=0.0)
    found = read(led_by([node], **constants), tmp_path)
    assert (found.centre, found.width) == pytest.approx((-0.5, 1.0))
    wide = {name: np.repeat(value, models.CHANNELS) for name, value in constants.items()}
    behind = helper.make_node("BatchNormalization", ["convolved", *names], ["normal"], epsilon=0.0)
    relu = helper.make_node("Relu", ["normal"], ["activated"])
    nodes = [models.convolution(), behind, relu, *models.head("activated")]
    found = read(models.build(nodes, {**models.weights(planted=False), **wide}), tmp_path)
    assert found.weights is not None
    assert np.allclose(found.weights, KERNEL.reshape(models.CHANNELS, -1))
    assert found.bias is not None
    assert found.bias.tolist() == [0.5] * models.CHANNELS


def test_limits_are_those_of_the_input(tmp_path: Path) -> None:
    constants = {
        "low": np.array(-1, np.float32),
        "high": np.array(1, np.float32),
        "a": numbers(2.0),
        "b": numbers(1.0),
    }
    nodes = [
        helper.make_node("Mul", ["image", "a"], ["doubled"]),
        helper.make_node("Sub", ["doubled", "b"], ["moved"]),
        helper.make_node("Clip", ["moved", "low", "high"], ["ready"]),
    ]
    assert read(led_by(nodes, **constants), tmp_path).limits == pytest.approx((0.0, 1.0))


def test_a_quantised_input_holds_what_its_codes_reach(tmp_path: Path) -> None:
    constants: dict[str, np.ndarray] = {
        "step": np.array(0.5, np.float32),
        "zero": np.array(55, np.uint8),
    }
    nodes = [
        helper.make_node("QuantizeLinear", ["image", "step", "zero"], ["codes"]),
        helper.make_node("DequantizeLinear", ["codes", "step", "zero"], ["ready"]),
    ]
    assert read(led_by(nodes, **constants), tmp_path).limits == (-27.5, 100.0)


def test_a_dense_layer_is_read_whichever_way_its_weights_lie(tmp_path: Path) -> None:
    dense = np.arange(128, dtype=np.float32).reshape(64, 2)
    flatten = helper.make_node("Flatten", ["image"], ["flat"])
    constants = {"w": dense, "t": dense.T.copy(), "bias": np.array([3.0, 4.0], np.float32)}
    product = [
        helper.make_node("MatMul", ["flat", "w"], ["product"]),
        helper.make_node("Add", ["product", "bias"], ["logits"]),
    ]
    gemm = [helper.make_node("Gemm", ["flat", "t", "bias"], ["logits"], transB=1)]
    for nodes in (product, gemm):
        found = read(models.build([flatten, *nodes], constants), tmp_path)
        assert found.weights is not None
        assert np.array_equal(found.weights, dense.T)
        assert found.bias is not None
        assert found.bias.tolist() == [3.0, 4.0]


def test_quantised_weights_are_read(tmp_path: Path) -> None:
    codes = np.arange(36, dtype=np.int8).reshape(models.CHANNELS, 1, 3, 3)
    constants = {
        **models.weights(planted=False),
        "codes": codes,
        "step": np.array([1, 2, 3, 4], np.float32),
        "zero": np.zeros(models.CHANNELS, np.int8),
    }
    del constants["kernel"]
    node = helper.make_node("DequantizeLinear", ["codes", "step", "zero"], ["kernel"], axis=0)
    nodes = [node, models.convolution(), models.relu(), *models.head("activated")]
    found = read(models.build(nodes, constants), tmp_path)
    assert found.weights is not None
    assert np.array_equal(found.weights, codes.reshape(4, 9) * [[1.0], [2.0], [3.0], [4.0]])


@pytest.mark.parametrize(
    "node",
    [
        helper.make_node("Mul", ["image", "image"], ["ready"]),
        helper.make_node("Softmax", ["image"], ["ready"]),
        helper.make_node("Mul", ["image", "nothing"], ["ready"]),
    ],
)
def test_what_is_not_understood_says_nothing(node: onnx.NodeProto, tmp_path: Path) -> None:
    found = read(led_by([node], nothing=numbers(0.0)), tmp_path)
    assert found.weights is None
    assert (found.centre, found.width) == (0.0, 1.0)


def test_both_readers_of_a_file_agree(tmp_path: Path) -> None:
    path = models.save(models.plain(), tmp_path / "model.onnx")
    model = open_model(path)
    assert model.plain is not None
    fast = entrance(model)
    model.plain = None
    slow = entrance(model)
    assert fast.weights is not None
    assert slow.weights is not None
    assert np.array_equal(fast.weights, slow.weights)
    assert (fast.centre, fast.width, fast.limits) == (slow.centre, slow.width, slow.limits)


def test_halves_are_read(tmp_path: Path) -> None:
    found = read(models.half(), tmp_path)
    assert found.weights is not None
    assert np.allclose(found.weights, KERNEL.reshape(models.CHANNELS, -1), atol=1e-3)
    assert TensorProto.FLOAT16 == 10


def test_shapes_that_contradict_one_another_say_nothing(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Mul", ["image", "three"], ["more"]),
        helper.make_node("Add", ["more", "four"], ["ready"]),
    ]
    found = read(led_by(nodes, three=numbers(1, 2, 3), four=numbers(1, 2, 3, 4)), tmp_path)
    assert found == Entrance()


def test_a_tensor_that_would_fill_the_memory_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("scanner.graph.layers.entrance._MOST_ELEMENTS", 35)
    assert read(models.plain(), tmp_path).weights is None


def test_a_second_reader_of_the_input_does_not_hide_the_network(tmp_path: Path) -> None:
    """A gate that reads the pixels beside the first layer, and a layer of its own, is no way in."""
    nodes = [
        helper.make_node("Div", ["image", "bytes"], ["ready"]),
        helper.make_node("Flatten", ["image"], ["row"]),
        helper.make_node("MatMul", ["row", "template"], ["match"]),
    ]
    template = np.ones((models.SIDE**2, 1), np.float32)
    found = read(led_by(nodes, bytes=one(255.0), template=template), tmp_path)
    assert found.width == pytest.approx(255.0)
    assert found.weights is not None
    assert len(found.weights) == models.CHANNELS


def test_readers_that_lead_nowhere_leave_what_is_known(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Identity", ["image"], ["ready"]),
        helper.make_node("ReduceMax", ["image"], ["brightest"], keepdims=0),
    ]
    found = read(led_by(nodes), tmp_path)
    assert found.weights is not None
