"""Lifting to operator set 18 keeps the function, of every operator whose form changed."""

from typing import Any

import models
import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from scanner.errors import MalformedModelError, UnsupportedModelError
from scanner.graph.core.draft import copied
from scanner.graph.core.opsets import ADAPTERS, OLDEST, TARGET, lift

Form = tuple[int, dict[str, Any], dict[str, models.Array]]
FORMS: dict[str, Form] = {
    "BatchNormalization": (
        9,
        {},
        {name: np.array([0.5, 2, 1, 3], np.float32) for name in ("s", "b", "m", "v")},
    ),
    "Clip": (10, {"min": -0.5, "max": 0.25}, {}),
    "Dropout": (11, {"ratio": 0.3}, {}),
    "Hardmax": (12, {"axis": 1}, {}),
    "LogSoftmax": (12, {"axis": 2}, {}),
    "Pad": (10, {"pads": [0, 0, 1, 0, 0, 0, 0, 2], "value": 0.5}, {}),
    **{
        f"Reduce{kind}": (17, {"axes": [1], "keepdims": 0}, {})
        for kind in ("L1", "L2", "LogSumExp", "Max", "Mean", "Min", "Prod", "SumSquare")
    },
    "ReduceLogSum": (17, {"axes": [0]}, {}),
    "ReduceSum": (12, {"axes": [2, 3]}, {}),
    "Resize": (10, {"mode": "nearest"}, {"s": np.array([1, 1, 2, 3], np.float32)}),
    "Scatter": (
        10,
        {"axis": 1},
        {"i": np.array([[[[2]]]], np.int64), "u": np.array([[[[9]]]], np.float32)},
    ),
    "Slice": (9, {"starts": [1, 0], "ends": [3, 1]}, {}),
    "Softmax": (12, {"axis": 1}, {}),
    "Split": (17, {}, {}),
    "Squeeze": (12, {}, {}),
    "TopK": (9, {"k": 2, "axis": 1}, {}),
    "Unsqueeze": (12, {"axes": [0, 3]}, {}),
    "Upsample": (9, {}, {"s": np.array([1, 1, 2, 3], np.float32)}),
}
IMAGE = np.random.default_rng(0).uniform(0.1, 1, (2, 4, 3, 2)).astype(np.float32)


def form(operator: str) -> onnx.ModelProto:
    """Return a model of one operator in the last form that needs lifting."""
    opset, attributes, constants = FORMS[operator]
    outputs = ["logits", "more"] if operator in ("Split", "TopK") else ["logits"]
    node = helper.make_node(operator, ["image", *constants], outputs, **attributes)
    return models.build([node], constants, opset=opset, input_shape=IMAGE.shape)


def value(model: onnx.ModelProto) -> Any:
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    return session.run(["logits"], {"image": IMAGE})[0]


def test_every_adapter_has_a_form() -> None:
    assert FORMS.keys() == ADAPTERS.keys()


@pytest.mark.parametrize("operator", FORMS)
def test_the_function_stays_the_same(operator: str) -> None:
    model = form(operator)
    lifted = copied(model)
    lift(lifted)
    assert lifted.opset_import[0].version == TARGET
    np.testing.assert_allclose(value(lifted), value(model), rtol=1e-6)


@pytest.mark.parametrize("scales", [[1, 1, 0.7, 0.8], [1, 1, 0.7, 1.6]])
def test_the_nearest_neighbour_of_a_shrunken_axis_is_the_one_behind(scales: list[float]) -> None:
    node = helper.make_node("Resize", ["image", "s"], ["logits"])
    constants = {"s": np.array(scales, np.float32)}
    model = models.build([node], constants, opset=10, input_shape=IMAGE.shape)
    lifted = copied(model)
    lift(lifted)
    np.testing.assert_array_equal(value(lifted), value(model))


def test_a_set_that_is_new_enough_is_kept() -> None:
    lifted = copied(models.plain(opset=21))
    lift(lifted)
    assert lifted == models.plain(opset=21)


def test_bodies_are_lifted_too() -> None:
    model = models.branch_relu(constant=False)
    for body in (model.graph.node[3].attribute[0].g, model.graph.node[3].attribute[1].g):
        node = helper.make_node("ReduceMean", ["convolved"], body.node[0].output, axes=[1])
        body.node[0].CopyFrom(node)
    lifted = copied(model)
    lift(lifted)
    nodes = [attribute.g.node[0] for attribute in lifted.graph.node[3].attribute]
    assert [(len(node.input), len(node.attribute)) for node in nodes] == [(2, 0), (2, 0)]


def test_operators_of_other_domains_are_left() -> None:
    node = helper.make_node("Squeeze", ["image"], ["logits"], domain="own", axes=[1])
    model = models.build([node], {}, opset=11, domains=[helper.make_opsetid("own", 1)])
    lifted = copied(model)
    lift(lifted)
    assert lifted.graph.node[0] == node


def test_what_has_no_equivalent_is_refused() -> None:
    too_old = copied(models.plain(opset=OLDEST - 1))
    with pytest.raises(UnsupportedModelError, match=f"operator set {OLDEST - 1}"):
        lift(too_old)
    by_pixel = copied(form("BatchNormalization"))
    by_pixel.opset_import[0].version = 8
    by_pixel.graph.node[0].attribute.append(helper.make_attribute("spatial", 0))
    with pytest.raises(UnsupportedModelError, match="spatial=0"):
        lift(by_pixel)
    unscaled = copied(form("Upsample"))
    del unscaled.graph.node[0].input[1:]
    with pytest.raises(MalformedModelError, match="no scales"):
        lift(unscaled)


def test_without_a_standard_set_a_model_is_refused() -> None:
    model = onnx.ModelProto(opset_import=[helper.make_opsetid("own", 1)])
    model.graph.input.append(helper.make_tensor_value_info("x", TensorProto.FLOAT, [1]))
    with pytest.raises(UnsupportedModelError, match="operator set none"):
        lift(copied(model))
