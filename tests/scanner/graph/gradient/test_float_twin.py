"""The float twin of a quantised network answers as it does, up to a code, and has a gradient."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import models
import numpy as np
import numpy.typing as npt
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from scanner.graph.core.flatten import flatten
from scanner.graph.gradient.backward import gradient_model
from scanner.graph.gradient.float_twin import float_twin
from scanner.instruments import runtime
from scanner.settings import Device

Array = npt.NDArray[Any]

GENERATOR = np.random.default_rng(0)
STEP = 0.05  # of the output's codes
CODE: dict[str, Array] = {
    "s": np.array(0.02, np.float32),
    "z": np.array(100, np.uint8),
    "out_s": np.array(STEP, np.float32),
    "out_z": np.array(120, np.uint8),
}
KERNEL = GENERATOR.integers(-128, 127, (3, 2, 3, 3), np.int8)
MATRIX = GENERATOR.integers(-128, 127, (4, 5), np.int8)
SEVERAL = GENERATOR.uniform(0.002, 0.01, 5).astype(np.float32)
IMAGE, BLOCKS, ROWS = (2, 2, 6, 6), (2, 3, 4), (3, 4)
OF_RUNTIME = {"domain": "com.microsoft"}


def quantised(
    nodes: Sequence[onnx.NodeProto],
    shape: Sequence[int],
    constants: Mapping[str, Array],
    codes: str = "codes",
) -> onnx.ModelProto:
    """Return x -> codes -> nodes -> "out" -> floats, in [-2, 3]."""
    graph = helper.make_graph(
        [
            helper.make_node("QuantizeLinear", ["x", "s", "z"], [codes]),
            *nodes,
            helper.make_node("DequantizeLinear", ["out", "out_s", "out_z"], ["y"]),
        ],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", *shape[1:]])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(value, name) for name, value in {**CODE, **constants}.items()],
    )
    imports = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=imports, ir_version=8)


def weights(codes: Array, scale: Array) -> dict[str, Array]:
    return {"w": codes, "w_s": scale, "w_z": np.zeros(scale.shape, codes.dtype)}


IN, W, OUT = ["codes", "s", "z"], ["w", "w_s", "w_z"], ["out_s", "out_z"]
ONE = np.array(0.01, np.float32)
CONV: dict[str, Any] = {"pads": [1, 1, 1, 1], "strides": [2, 2]}
CASES: dict[str, tuple[list[onnx.NodeProto], Sequence[int], dict[str, Array]]] = {
    "convolution": (
        [helper.make_node("QLinearConv", [*IN, *W, *OUT, "b"], ["out"], **CONV)],
        IMAGE,
        {**weights(KERNEL, SEVERAL[:3]), "b": np.array([900, -400, 0], np.int32)},
    ),
    "convolution of one scale, no bias": (
        [helper.make_node("QLinearConv", [*IN, *W, *OUT], ["out"], **CONV)],
        IMAGE,
        weights(KERNEL, ONE),
    ),
    "product": (
        [helper.make_node("QLinearMatMul", [*IN, *W, *OUT], ["out"])],
        ROWS,
        weights(MATRIX, SEVERAL),
    ),
    "gemm": (
        [helper.make_node("QGemm", [*IN, *W, "b", *OUT], ["out"], transB=1, **OF_RUNTIME)],
        ROWS,
        {**weights(MATRIX.T.copy(), SEVERAL), "b": np.arange(-400, 600, 200, dtype=np.int32)},
    ),
    "sum with a constant": (
        [helper.make_node("QLinearAdd", [*IN, *W, *OUT], ["out"], **OF_RUNTIME)],
        ROWS,
        weights(MATRIX[:3, :4].copy().astype(np.uint8), ONE),
    ),
    "product with itself": (
        [helper.make_node("QLinearMul", [*IN, *IN, *OUT], ["out"], **OF_RUNTIME)],
        ROWS,
        {},
    ),
    "sigmoid": (
        [helper.make_node("QLinearSigmoid", [*IN, *OUT], ["out"], **OF_RUNTIME)],
        ROWS,
        {},
    ),
    "leaky": (
        [helper.make_node("QLinearLeakyRelu", [*IN, *OUT], ["out"], alpha=0.3, **OF_RUNTIME)],
        ROWS,
        {},
    ),
    "softmax over one axis": (
        [helper.make_node("QLinearSoftmax", [*IN, *OUT], ["out"], axis=1, opset=13, **OF_RUNTIME)],
        BLOCKS,
        {},
    ),
    "softmax over two axes": (
        [helper.make_node("QLinearSoftmax", [*IN, *OUT], ["out"], axis=1, opset=12, **OF_RUNTIME)],
        BLOCKS,
        {},
    ),
    "average": (
        [helper.make_node("QLinearGlobalAveragePool", [*IN, *OUT], ["out"], **OF_RUNTIME)],
        IMAGE,
        {},
    ),
    "concatenation": (
        [helper.make_node("QLinearConcat", [*OUT, *IN, *IN], ["out"], axis=1, **OF_RUNTIME)],
        ROWS,
        {},
    ),
    "codes moved on the way": (
        [
            helper.make_node("MaxPool", ["codes"], ["largest"], kernel_shape=[2, 2]),
            helper.make_node("Flatten", ["largest"], ["flat"]),
            helper.make_node("QLinearAdd", ["flat", *IN[1:], "flat", *IN[1:], *OUT], ["out"],
                             **OF_RUNTIME),
        ],
        IMAGE,
        {},
    ),
    "codes padded on the way": (
        [
            helper.make_node("Pad", ["codes", "around", "z"], ["wide"]),
            helper.make_node("QLinearAdd", ["wide", *IN[1:], "wide", *IN[1:], *OUT], ["out"],
                             **OF_RUNTIME),
        ],
        ROWS,
        {"around": np.array([0, 1, 1, 0])},
    ),
    "codes split on the way": (
        [
            helper.make_node("Split", ["codes"], ["first", "second"], axis=1),
            helper.make_node("Tile", ["second", "once"], ["again"]),
            helper.make_node("QLinearAdd", ["again", *IN[1:], "first", *IN[1:], *OUT], ["out"],
                             **OF_RUNTIME),
        ],
        ROWS,
        {"once": np.array([1, 1])},
    ),
}  # fmt: skip


def run(model: onnx.ModelProto, images: Array) -> Array:
    (found,) = runtime.open_session(model.SerializeToString(), Device.CPU, 1).run(images)
    return found


def operators(model: onnx.ModelProto) -> set[str]:
    return {node.op_type for node in model.graph.node}


@pytest.mark.parametrize("case", CASES)
def test_an_operator_on_codes(case: str) -> None:
    nodes, shape, constants = CASES[case]
    model = quantised(nodes, shape, constants)
    twin = float_twin(model)
    assert not {name for name in operators(twin) if name.startswith("Q") and "Linear" not in name}
    assert not {name for name in operators(twin) if name.startswith("QLinear")}
    images = np.random.default_rng(1).uniform(-2, 3, shape).astype(np.float32)
    expected, found = run(model, images), run(twin, images)
    assert np.ptp(expected) > 4 * STEP
    np.testing.assert_allclose(found, expected, atol=1.01 * STEP)
    gradient = gradient_model(model, of="y", with_respect_to=["x"])
    # Not all alike: shares always add up to one.
    uneven = np.linspace(0, 1, expected.size, dtype=np.float32).reshape(expected.shape)
    weighed = {"x": images, gradient.weights: uneven}
    session = runtime.open_session(gradient.proto.SerializeToString(), Device.CPU, 1)
    slope = session.feed(weighed, [gradient.gradients["x"]])[0]
    assert slope.shape == images.shape
    assert np.abs(slope).max() > 0


@pytest.mark.parametrize("axis", [None, 0, 1, 2, -1, -2])
@pytest.mark.parametrize("own", [11, 13])
@pytest.mark.parametrize("models_own", [11, 13])
def test_a_softmax_is_that_of_the_operator_set_that_it_names(
    own: int, models_own: int, axis: int | None
) -> None:
    which: dict[str, Any] = {"opset": own, **({} if axis is None else {"axis": axis})}
    node = helper.make_node("QLinearSoftmax", [*IN, *OUT], ["out"], **which, **OF_RUNTIME)
    model = quantised([node], BLOCKS, {})
    model.opset_import[0].version = models_own
    images = np.random.default_rng(1).uniform(-2, 3, BLOCKS).astype(np.float32)
    twin = float_twin(model)
    np.testing.assert_allclose(run(twin, images), run(model, images), atol=1.01 * STEP)
    # Which axis from the end a Softmax of the older sets is to be over, they cannot say.
    kept = (own, models_own) == (13, 11) and axis not in {None, -1}
    assert ("QLinearSoftmax" in operators(twin)) is kept


@pytest.mark.parametrize("scaled", [True, False], ids=["rescaled", "read as it is"])
@pytest.mark.parametrize("operator", ["MatMulInteger", "ConvInteger"])
def test_codes_scaled_as_they_are_made(operator: str, scaled: bool) -> None:
    shape = ROWS if operator == "MatMulInteger" else IMAGE
    constants = {
        "w": MATRIX if operator == "MatMulInteger" else KERNEL,
        "w_z": np.array(3, np.int8),
        "w_s": np.array(0.01, np.float32),
    }
    nodes = [
        helper.make_node("DynamicQuantizeLinear", ["x"], ["codes", "scale", "zero"]),
        helper.make_node(operator, ["codes", "w", "zero", "w_z"], ["sums"]),
        helper.make_node("Cast", ["sums"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["scale", "w_s"], ["both"]),
        helper.make_node("Mul", ["floats", "both" if scaled else "w_s"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", *shape[1:]])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    images = np.random.default_rng(1).uniform(-2, 3, shape).astype(np.float32)
    expected, twin = run(model, images), float_twin(model)
    assert operator not in operators(twin)
    assert ("Div" in operators(twin)) is not scaled
    np.testing.assert_allclose(run(twin, images), expected, rtol=1e-4, atol=1e-3)
    gradient = gradient_model(model, of="y", with_respect_to=["x"])
    session = runtime.open_session(gradient.proto.SerializeToString(), Device.CPU, 1)
    feeds = {"x": images, gradient.weights: np.ones_like(expected)}
    assert np.abs(session.feed(feeds, [gradient.gradients["x"]])[0]).max() > 0


def test_what_is_not_known_stays() -> None:
    computed = quantised(
        [
            helper.make_node("Add", ["s", "s"], ["twice"]),
            helper.make_node("QLinearSigmoid", ["codes", "twice", "z", *OUT], ["out"],
                             **OF_RUNTIME),
        ],
        ROWS,
        {},
    )  # fmt: skip
    assert "QLinearSigmoid" in operators(float_twin(computed))


@pytest.mark.parametrize("sizes", [(54,), (2,)])
def test_scales_that_do_not_fit_are_left_to_the_runtime(sizes: tuple[int, ...]) -> None:
    nodes, shape, constants = CASES["convolution"]
    other = quantised(nodes, shape, {**constants, "w_s": np.ones(sizes, np.float32)})
    assert "QLinearConv" in operators(float_twin(other))


def test_a_node_may_be_called_as_another_nodes_value() -> None:
    """ONNX Runtime wants each name of a node once: those that are made here have none."""
    model = quantised(*CASES["convolution"])
    for node in model.graph.node:
        node.name = node.input[0]
    images = np.random.default_rng(1).uniform(-2, 3, IMAGE).astype(np.float32)
    np.testing.assert_allclose(run(float_twin(model), images), run(model, images), atol=STEP)


def test_a_model_without_codes_is_returned_itself() -> None:
    for model in (models.plain(), models.quantised()):
        assert float_twin(model) is model


def test_whole_networks(tmp_path: Path) -> None:
    quantization = pytest.importorskip("onnxruntime.quantization")
    source, target = models.save(models.plain(), tmp_path / "float.onnx"), tmp_path / "int8.onnx"
    images = np.random.default_rng(0).random((8, 1, 8, 8), np.float32)

    class Reader(quantization.CalibrationDataReader):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            self._batches = iter([{"image": images}])

        def get_next(self) -> Any:
            return next(self._batches, None)

    quantization.quantize_static(
        source,
        target,
        Reader(),
        quant_format=quantization.QuantFormat.QOperator,
        activation_type=quantization.QuantType.QUInt8,
    )
    static = onnx.load(target)
    quantization.quantize_dynamic(source, target)
    for model in (static, onnx.load(target)):
        twin, expected = float_twin(flatten(model)), run(model, images)
        assert not {n for n in operators(twin) if n.startswith(("QLinear", "QGemm")) or "Int" in n}
        np.testing.assert_allclose(run(twin, images), expected, atol=0.03 * np.ptp(expected))
