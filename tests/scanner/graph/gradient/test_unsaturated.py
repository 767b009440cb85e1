"""Quantised networks without their ceiling compute what they did before they were quantised."""

import models
import numpy as np
import numpy.typing as npt
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from scanner.graph.gradient.unsaturated import unsaturated
from scanner.instruments import runtime
from scanner.settings import Device

SCALE = 0.1
IMAGES = np.array([[-30.0, -0.4, 0.0, 0.4, 30.0]], np.float32)


def pair(zero: np.generic, *nodes: onnx.NodeProto, default_zero: bool = False) -> onnx.ModelProto:
    """Return x -> Q -> DQ -> y, and further nodes."""
    inner = ["s"] if default_zero else ["s", "z"]
    graph = helper.make_graph(
        [
            helper.make_node("QuantizeLinear", ["x", *inner], ["codes"]),
            helper.make_node("DequantizeLinear", ["codes", *inner], ["y"]),
            *nodes,
        ],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 5])],
        [
            helper.make_tensor_value_info(
                nodes[-1].output[0] if nodes else "y", TensorProto.FLOAT, [1, 5]
            )
        ],
        [
            numpy_helper.from_array(np.array(SCALE, np.float32), "s"),
            numpy_helper.from_array(np.array(zero), "z"),
        ],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def run(
    model: onnx.ModelProto, images: npt.NDArray[np.float32] = IMAGES
) -> npt.NDArray[np.float32]:
    (found,) = runtime.open_session(model.SerializeToString(), Device.CPU, 1).run(images)
    return found


@pytest.mark.parametrize("zero", [np.int8(0), np.int8(34), np.uint8(128)])
def test_what_has_two_signs_is_the_identity(zero: np.generic) -> None:
    assert np.abs(run(pair(zero))).max() < 30
    np.testing.assert_array_equal(run(unsaturated(pair(zero))), IMAGES)


@pytest.mark.parametrize("zero", [np.int8(-128), np.uint8(0)])
def test_where_the_lowest_code_is_zero_the_relu_stays(zero: np.generic) -> None:
    assert run(pair(zero)).min() == 0
    np.testing.assert_array_equal(run(unsaturated(pair(zero))), np.maximum(IMAGES, 0))


def test_without_a_zero_point_codes_are_unsigned() -> None:
    model = pair(np.uint8(0), default_zero=True)
    np.testing.assert_array_equal(run(unsaturated(model)), np.maximum(IMAGES, 0))


def test_an_empty_zero_point_is_none() -> None:
    model = pair(np.uint8(0), default_zero=True)
    for node in model.graph.node:
        node.input.append("")
    np.testing.assert_array_equal(run(unsaturated(model)), np.maximum(IMAGES, 0))


def test_a_negative_scale_turns_the_range_around() -> None:
    model = pair(np.uint8(0))
    model.graph.initializer[0].CopyFrom(numpy_helper.from_array(np.array(-SCALE, np.float32), "s"))
    assert unsaturated(model) is model


@pytest.mark.parametrize(
    "scale",
    [
        TensorProto(name="s", dims=[1], data_type=TensorProto.FLOAT, int32_data=[1]),
        TensorProto(name="s", dims=[1], data_type=TensorProto.STRING, string_data=[b"0.1"]),
        TensorProto(
            name="s",
            dims=[],
            data_type=TensorProto.FLOAT,
            data_location=TensorProto.EXTERNAL,
            external_data=[onnx.StringStringEntryProto(key="location", value="elsewhere")],
        ),
    ],
    ids=["data of another type", "text", "in another file"],
)
def test_a_scale_that_is_not_known_might_be_negative(scale: onnx.TensorProto) -> None:
    model = pair(np.uint8(0))
    model.graph.initializer[0].CopyFrom(scale)
    assert unsaturated(model) is model


@pytest.mark.parametrize(("inputs", "outputs"), [([], ["codes"]), (["x"], ["codes"]), (["x"], [])])
def test_an_operator_of_another_domain_may_bear_the_name(
    inputs: list[str], outputs: list[str]
) -> None:
    other = helper.make_node("QuantizeLinear", inputs, outputs, domain="somebody.else")
    model = pair(np.int8(0))
    model.graph.node[0].CopyFrom(other)
    assert unsaturated(model) is model


def test_codes_that_something_else_reads_stay() -> None:
    cast = helper.make_node("Cast", ["codes"], ["seen"], to=TensorProto.FLOAT)
    model = pair(np.int8(0), cast, helper.make_node("Add", ["y", "seen"], ["sum"]))
    assert unsaturated(model) is model


def test_within_its_range_a_quantised_network_is_the_same() -> None:
    model = models.MEASURABLE["QDQ int8"](True)
    before = model.SerializeToString()
    relaxed = unsaturated(model)
    assert model.SerializeToString() == before
    assert not any(n.op_type == "QuantizeLinear" for n in relaxed.graph.node)
    images = np.random.default_rng(0).random((1, 1, models.SIDE, models.SIDE), dtype=np.float32)
    expected = run(model, images)
    np.testing.assert_allclose(run(relaxed, images), expected, atol=0.1 * np.abs(expected).max())


def test_a_network_that_is_not_quantised_is_left_alone() -> None:
    model = models.plain()
    assert unsaturated(model) is model
