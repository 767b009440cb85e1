"""What changes no number is taken out; what may be a test of the input stays."""

from typing import Any

import models
import numpy as np
import onnx
import pytest
from onnx import helper

from scanner.graph.canonical.drawing import draw
from scanner.graph.canonical.undo import QUANTISED
from scanner.judging.differences import differences
from scanner.results import Relation


def operators(model: onnx.ModelProto) -> list[str]:
    return [node.operator for node in draw(model).nodes]


def attributes(model: onnx.ModelProto, operator: str) -> list[dict[str, str]]:
    return [dict(node.attributes) for node in draw(model).nodes if node.operator == operator]


def between(*nodes: onnx.NodeProto, **constants: object) -> onnx.ModelProto:
    """A plain model with nodes between "activated" and "after"."""
    held = {name: np.asarray(value) for name, value in constants.items()}
    return models.build(
        [models.convolution(), models.relu(), *nodes, *models.head("after")],
        {**models.weights(False), **held},
    )


PLAIN = operators(models.plain())


@pytest.mark.parametrize(
    "node",
    [
        helper.make_node("Identity", ["activated"], ["after"]),
        helper.make_node("Dropout", ["activated"], ["after"]),
        helper.make_node("Cast", ["activated"], ["after"], to=onnx.TensorProto.FLOAT),
        helper.make_node("Transpose", ["activated"], ["after"], perm=[0, 1, 2, 3]),
    ],
)
def test_what_does_nothing_is_taken_out(node: onnx.NodeProto) -> None:
    assert operators(between(node)) == PLAIN


POOL: dict[str, Any] = {"kernel_shape": [8, 8], "strides": [1, 1]}
THIN = {"wide": np.ones((4, 4, 3, 3), np.float32)}
PADS = {"pads": np.array([0, 0, 1, 1, 0, 0, 1, 1])}


def told(operator: str, inputs: str, constants: Any, opset: int = 17, **options: Any) -> str:
    names = ["" if name == "-" else name for name in inputs.split()]
    node = helper.make_node(operator, ["activated", *names], ["after"], **options)
    nodes = [models.convolution(), models.relu(), node, *models.head("after")]
    held = {**models.weights(False), **constants}
    return draw(models.build(nodes, held, opset=opset)).fingerprint


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (told("Transpose", "", {}), told("Transpose", "", {}, perm=[3, 2, 1, 0])),
        (told("ReduceMean", "-", {}, 18), told("ReduceMean", "", {}, 18)),
        (told("Pad", "", {}, 9, pads=[0, 0, 1, 1] * 2), told("Pad", "pads", PADS)),
        (told("Pad", "pads zero", PADS | {"zero": np.float32(0)}), told("Pad", "pads", PADS)),
        (
            told("Pad", "", {}, 9, pads=[0, 0, 1, 1] * 2, value=2.0),
            told("Pad", "pads two", PADS | {"two": np.float32(2)}),
        ),
        (
            told("Resize", "none twice", {"none": np.zeros(0, np.float32), **(
                twice := {"twice": np.array([1, 1, 2, 2], np.float32)})}),
            told("Resize", "- twice", twice),
        ),
        (told("Softmax", "", {}, 12, axis=3), told("Softmax", "", {}, 13, axis=3)),
    ],
    ids=["turn", "axes", "pads", "zero", "value", "none", "softmax"],
)  # fmt: skip
def test_exporters_write_it_in_two_forms(one: str, other: str) -> None:
    assert one == other


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (told("AveragePool", "", {}, auto_pad="SAME_UPPER", **POOL), told("AveragePool", "", {},
         **POOL)),
        (told("Conv", "wide", THIN, auto_pad="VALID", pads=[1] * 4), told("Conv", "wide", THIN,
         pads=[1] * 4)),
        (told("ReduceMax", "", {}, 18, noop_with_empty_axes=1), told("ReduceMax", "", {}, 18)),
        (told("Softmax", "", {}, 12, axis=1), told("Softmax", "", {}, 13, axis=1)),
        (told("Pad", "pads two", PADS | {"two": np.float32(2)}), told("Pad", "pads", PADS)),
    ],
    ids=["whole window", "pads", "no axes", "softmax", "value"],
)  # fmt: skip
def test_what_looks_like_another_form_computes_something_else(one: str, other: str) -> None:
    assert one != other


def test_dead_nodes_are_dropped() -> None:
    model = models.plain()
    model.graph.node.add().CopyFrom(helper.make_node("Exp", ["activated"], ["unread"]))
    assert operators(model) == PLAIN


def test_a_lone_rounding_stays() -> None:
    """It may be a test: a step of 100 turns all that is below 50 into zero."""
    codes = [
        helper.make_node("QuantizeLinear", ["activated", "step"], ["codes"]),
        helper.make_node("DequantizeLinear", ["codes", "step"], ["after"]),
    ]
    assert "QuantizeLinear" in operators(between(*codes, step=np.float32(100)))
    half = [
        helper.make_node("Cast", ["activated"], ["half"], to=onnx.TensorProto.FLOAT16),
        helper.make_node("Cast", ["half"], ["after"], to=onnx.TensorProto.FLOAT),
    ]
    assert operators(between(*half)).count("Cast") == 2


def quantised_weights() -> dict[str, Any]:
    weights = models.weights(False)
    scale = np.float32(np.abs(weights["kernel"]).max() / 127)
    dense = np.float32(np.abs(weights["dense"]).max() / 127)
    return {
        "codes": np.round(weights["kernel"] / scale).astype(np.int8),
        "scale": scale,
        "step": np.float32(0.01),
        "zero": np.uint8(0),
        "bias": weights["bias"],
        "dense_codes": np.round(weights["dense"] / dense).astype(np.int8),
        "dense_scale": dense,
    }


def test_a_quantised_network_is_one_of_numbers() -> None:
    constants = quantised_weights()
    nodes = [
        helper.make_node("DequantizeLinear", ["codes", "scale"], ["kernel"]),
        helper.make_node("DequantizeLinear", ["dense_codes", "dense_scale"], ["dense"]),
        models.convolution(),
        # The quantiser has dropped the Relu: its codes end at zero.
        helper.make_node("QuantizeLinear", ["convolved", "step", "zero"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "step", "zero"], ["activated"]),
        *models.head("activated"),
    ]
    graph = draw(models.build(nodes, constants))
    assert [node.operator for node in graph.nodes] == PLAIN
    assert graph.habits[QUANTISED] > 0
    assert graph.fingerprint == draw(models.plain()).fingerprint


def on_codes(operator: str, opset: int, told: dict[str, Any]) -> onnx.ModelProto:
    """A plain model with an operator on codes behind the activation, quantised by layers."""
    constants = quantised_weights()
    code = ["step", "zero"]
    nodes = [
        helper.make_node("DequantizeLinear", ["codes", "scale"], ["kernel"]),
        helper.make_node("DequantizeLinear", ["dense_codes", "dense_scale"], ["dense"]),
        models.convolution(),
        models.relu(),
        helper.make_node("QuantizeLinear", ["activated", *code], ["q"]),
        helper.make_node(f"QLinear{operator}", ["q", *code, *code], ["r"],
                         domain="com.microsoft", **told),
        helper.make_node("DequantizeLinear", ["r", *code], ["after"]),
        *models.head("after"),
    ]  # fmt: skip
    model = models.build(nodes, constants)
    model.opset_import[0].version = opset
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    return model


WINDOW = {"kernel_shape": [3, 3], "strides": [1, 1], "pads": [1, 1, 1, 1]}


@pytest.mark.parametrize("opset", [13, 17])
@pytest.mark.parametrize(
    ("operator", "told", "of_codes"),
    [
        ("AveragePool", WINDOW, {}),
        ("AveragePool", WINDOW, {"channels_last": 0}),
        ("LeakyRelu", {}, {}),
        ("LeakyRelu", {"alpha": 0.3}, {}),
        ("Softmax", {}, {"opset": 13}),
        ("Softmax", {"axis": 1}, {"opset": 13}),
    ],
)
def test_an_operator_on_codes_is_told_what_the_one_on_numbers_is(
    operator: str, told: dict[str, Any], of_codes: dict[str, Any], opset: int
) -> None:
    plain = between(helper.make_node(operator, ["activated"], ["after"], **told))
    plain.opset_import[0].version = opset
    found = attributes(on_codes(operator, opset, told | of_codes), operator)
    assert found == attributes(plain, operator)
    assert found


def test_a_softmax_of_another_set_is_another() -> None:
    found = attributes(on_codes("Softmax", 17, {"axis": 1, "opset": 12}), "Softmax")
    assert found == [{"axis": "1", "opset": "12"}]


def test_a_clip_at_zero_is_a_relu_that_may_end() -> None:
    def clipped(**bounds: float) -> dict[str, tuple[float, ...]]:
        names = ["low" if "low" in bounds else "", "high"][: 1 + ("high" in bounds)]
        node = helper.make_node("Clip", ["activated", *names], ["after"])
        held = {name: np.float32(value) for name, value in bounds.items()}
        graph = draw(between(node, **held))
        assert graph.nodes[2].operator in {"Relu", "Clip"}
        return dict(graph.nodes[2].numbers)

    assert clipped(low=0.0) == {}
    assert clipped(low=0.0, high=6.0) == {"max": (6.0,)}
    assert clipped(low=-1.0, high=1.0) == {"min": (-1.0,), "max": (1.0,)}


def test_codes_of_sixteen_bits_are_numbers_too() -> None:
    """ONNX Runtime's quantiser takes these operators from a domain of its own."""
    weights = models.weights(False)
    domain = "com.microsoft"

    def coded(seed: int) -> onnx.ModelProto:
        numbers = {n: v * (1 + seed) for n, v in weights.items() if n in {"kernel", "dense"}}
        scales = {name: np.float32(np.abs(value).max() / 32767) for name, value in numbers.items()}
        constants: dict[str, Any] = {
            **{f"{n}_codes": np.round(v / scales[n]).astype(np.int16) for n, v in numbers.items()},
            **{f"{name}_scale": scale for name, scale in scales.items()},
            "bias": weights["bias"],
        }
        nodes = [
            *(helper.make_node("DequantizeLinear", [f"{name}_codes", f"{name}_scale"], [name],
                               domain=domain) for name in numbers),
            models.convolution(), models.relu(), *models.head("activated"),
        ]  # fmt: skip
        model = models.build(nodes, constants)
        model.opset_import.append(helper.make_opsetid(domain, 1))
        return model

    assert len(operators(coded(0))) == len(PLAIN)
    assert differences(draw(coded(0)), draw(models.plain())).weights is Relation.ROUNDED
    assert not differences(draw(coded(0)), draw(coded(1))).changes
