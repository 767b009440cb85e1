"""Attributes that their operator does not read."""

from typing import Any

import numpy as np
import onnx
import pytest
from models import plain
from onnx import AttributeProto, helper, numpy_helper

from scanner.graph.audit.idle_attributes import IdleAttributes
from scanner.modelfile.nested import Contents
from scanner.results import Severity

LOAD = np.random.default_rng(7).integers(1, 256, 64).tolist()


def told(*nodes: onnx.NodeProto, functions: tuple[onnx.FunctionProto, ...] = ()) -> list[str]:
    model = plain()
    model.graph.node.extend(nodes)
    model.functions.extend(functions)
    return [o.code for o in IdleAttributes(Contents(model)).told()]


def chain(kind: str, name: str, values: list[Any], first: str = "image", **more: Any) -> Any:
    return [
        helper.make_node(kind, [first], [f"v{at}"], **{name: value}, **more)
        for at, value in enumerate(values)
    ]


def test_names_that_the_runtime_passes_over() -> None:
    hidden = helper.make_node("Relu", ["image"], ["y"], __profile=[f"{n}" for n in LOAD])
    assert told(hidden) == ["idle-attributes"]
    held = Contents(onnx.ModelProto(graph=onnx.GraphProto(node=[hidden])))
    assert len(IdleAttributes(held).attributes) == 1


def test_tensors_in_them_are_read_by_nothing() -> None:
    tensor = numpy_helper.from_array(np.asarray(LOAD), "load")
    node = helper.make_node("Relu", ["image"], ["y"], __table=tensor)
    idle = IdleAttributes(Contents(onnx.ModelProto(graph=onnx.GraphProto(node=[node]))))
    assert [(held.name, why) for held, why in idle.tensors()] == [
        ("load", "'Relu(y)' does not read it")
    ]


@pytest.mark.parametrize(
    ("kind", "name", "values", "more"),
    [
        ("Dropout", "seed", [n << 40 for n in LOAD], {}),
        ("Resize", "cubic_coeff_a", [n / 1000 for n in LOAD], {"mode": "nearest"}),
        ("Resize", "extrapolation_value", [n / 1000 for n in LOAD], {"mode": "cubic"}),
        ("BatchNormalization", "momentum", [n / 1000 for n in LOAD], {}),
        ("Pad", "value", [n / 1000 for n in LOAD], {"mode": "edge"}),
        ("Conv", "pads", [[n, n, n, n + 1] for n in LOAD], {"auto_pad": "VALID"}),
    ],
)
def test_what_counts_in_another_mode(kind: str, name: str, values: list[Any], more: Any) -> None:
    assert "idle-attributes" in told(*chain(kind, name, values, **more))
    assert told(*chain(kind, name, values[:1] * 40, **more)) == []


def test_a_slope_for_negative_numbers_behind_a_relu() -> None:
    values = [n / 1000 for n in LOAD]
    assert "idle-attributes" in told(*chain("LeakyRelu", "alpha", values, "activated"))
    assert "idle-attributes" not in told(*chain("LeakyRelu", "alpha", values, "convolved"))


def test_values_that_differ_from_node_to_node() -> None:
    odd = chain("Elu", "alpha", [1 / n for n in range(30, 60)])
    assert told(*odd) == ["varied-attributes"]
    assert told(*chain("Elu", "alpha", [n / 10 for n in range(30)])) == []
    assert told(*chain("Softmax", "axis", [n << 20 for n in LOAD])) == ["varied-attributes"]
    assert told(*chain("Softmax", "axis", [1, -1, (1 << 63) - 1] * 20)) == []


def test_attributes_of_a_function_that_its_nodes_do_not_name() -> None:
    def function(*names: str) -> onnx.FunctionProto:
        body = helper.make_node("Elu", ["x"], ["y"])
        body.attribute.append(
            AttributeProto(name="alpha", type=AttributeProto.FLOAT, ref_attr_name="slope")
        )
        opsets = [helper.make_opsetid("", 17)]
        made = helper.make_function("own", "Act", ["x"], ["y"], [body], opsets, list(names))
        made.attribute_proto.append(helper.make_attribute("remark", "x" * 80))
        return made

    call = helper.make_node("Act", ["image"], ["z"], domain="own", slope=0.5)
    assert told(call, functions=(function("slope"),)) == ["idle-attributes"]
    other = helper.make_node("Act", ["image"], ["z"], domain="own", remark2="text")
    found = told(other, functions=(function("slope"),))
    assert found == ["idle-attributes", "idle-attributes"]


def test_settings_of_activations_that_read_none() -> None:
    alphas = [n / 1000 for n in LOAD]
    assert told(*chain("LSTM", "activation_alpha", [alphas], hidden_size=2)) == ["idle-attributes"]
    read: Any = {"activations": ["Elu"] * 64, "hidden_size": 2}
    assert told(*chain("RNN", "activation_alpha", [alphas], **read)) == []
    assert told(*chain("RNN", "activation_beta", [alphas], **read)) == ["idle-attributes"]


def test_hit_rates_of_a_forest_are_a_note() -> None:
    rates = [*map(float, LOAD)]
    node = helper.make_node("TreeEnsembleRegressor", ["x"], ["y"], nodes_hitrates=rates)
    (found,) = IdleAttributes(Contents(onnx.ModelProto(graph=onnx.GraphProto(node=[node])))).told()
    assert found.severity is Severity.NOTE


def test_defaults_that_every_call_overrides() -> None:
    body = helper.make_node("Elu", ["x"], ["y"])
    body.attribute.append(
        AttributeProto(name="alpha", type=AttributeProto.FLOAT, ref_attr_name="slope")
    )
    made = helper.make_function("own", "Act", ["x"], ["y"], [body], [helper.make_opsetid("", 17)])
    made.attribute_proto.append(helper.make_attribute("slope", [float(n) for n in LOAD]))
    given = helper.make_node("Act", ["image"], ["z"], domain="own", slope=[0.5])
    left = helper.make_node("Act", ["image"], ["v"], domain="own")
    assert told(given, functions=(made,)) == ["idle-attributes"]
    assert told(given, left, functions=(made,)) == []


@pytest.mark.parametrize(
    ("kind", "name", "more"),
    [
        ("Gemm", "beta", {}),
        ("ConvTranspose", "pads", {"output_shape": [8, 8]}),
        ("SVMRegressor", "kernel_params", {}),
        ("TfIdfVectorizer", "weights", {"mode": "TF"}),
        ("ZipMap", "classlabels_int64s", {"classlabels_strings": ["a"]}),
    ],
)
def test_what_other_operators_do_not_read(kind: str, name: str, more: Any) -> None:
    values: list[Any] = [[*map(float, LOAD)]]
    if name in ("pads", "classlabels_int64s"):
        values = [LOAD]
    if name == "beta":
        values = [n / 1000 for n in LOAD]
    assert "idle-attributes" in told(*chain(kind, name, values, **more))


@pytest.mark.parametrize("name", ["value_int", "value_float"])
def test_what_constants_hold_is_no_setting(name: str) -> None:
    values: list[Any] = [0.123456 * n if name == "value_float" else n for n in range(1, 50)]
    nodes = [
        helper.make_node("Constant", [], [f"c{at}"], **{name: value})
        for at, value in enumerate(values)
    ]
    assert told(*nodes) == []
