"""Every activation an exporter may write is found, under its own name, once."""

from typing import Any

import models
import numpy as np
import onnx
import pytest
from onnx import helper

from scanner.errors import NoLayerError
from scanner.graph.layers import activations

SCALARS = {
    "one": np.array(1, np.float32),
    "half": np.array(0.5, np.float32),
    "root": np.array(1.4142135, np.float32),
    "zero": np.array(0, np.float32),
    "six": np.array(6, np.float32),
    "k": np.array(1.702, np.float32),
    "slope": np.array([0.1], np.float32),
}
SINGLE = (
    "Relu", "LeakyRelu", "Elu", "Selu", "Celu", "ThresholdedRelu", "HardSwish", "Mish", "Gelu",
    "Softplus", "Softsign", "Tanh", "Sigmoid", "HardSigmoid",
)  # fmt: skip


def op(kind: str, inputs: list[str], output: str, **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(kind, inputs, [output], name=f"{output}_node", **attributes)


def erf_gelu(*, halve_first: bool) -> list[onnx.NodeProto]:
    start = [op("Div", ["c", "root"], "d"), op("Erf", ["d"], "e"), op("Add", ["e", "one"], "s")]
    if halve_first:
        return [*start, op("Mul", ["c", "half"], "h"), op("Mul", ["h", "s"], "y")]
    return [*start, op("Mul", ["c", "s"], "p"), op("Mul", ["p", "half"], "y")]


CASES: dict[str, tuple[str, list[onnx.NodeProto], int]] = {
    **{kind: (kind, [op(kind, ["c"], "y")], 22) for kind in SINGLE},
    "PRelu": ("PRelu", [op("PRelu", ["c", "slope"], "y")], 17),
    "Swish": ("Swish", [op("Swish", ["c"], "y")], 24),
    "ReLU6": ("ReLU6", [op("Clip", ["c", "zero", "six"], "y")], 17),
    "ReLU6 by attribute": ("ReLU6", [op("Clip", ["c"], "y", min=0.0, max=6.0)], 6),
    "Max with 0": ("Max at 0", [op("Max", ["c", "zero"], "y")], 17),
    "SiLU": ("SiLU", [op("Sigmoid", ["c"], "g"), op("Mul", ["c", "g"], "y")], 17),
    "QuickGELU": (
        "SiLU",
        [op("Mul", ["c", "k"], "s"), op("Sigmoid", ["s"], "g"), op("Mul", ["c", "g"], "y")],
        17,
    ),
    "HardSwish in two": (
        "HardSwish",
        [op("HardSigmoid", ["c"], "g"), op("Mul", ["g", "c"], "y")],
        17,
    ),
    "Mish in three": (
        "Mish",
        [op("Softplus", ["c"], "s"), op("Tanh", ["s"], "t"), op("Mul", ["c", "t"], "y")],
        17,
    ),
    "GELU, halved last": ("GELU", erf_gelu(halve_first=False), 17),
    "GELU, halved first": ("GELU", erf_gelu(halve_first=True), 17),
    "GELU by Tanh": (
        "GELU",
        [
            op("Mul", ["c", "k"], "d"),
            op("Tanh", ["d"], "t"),
            op("Add", ["one", "t"], "s"),
            op("Mul", ["s", "c"], "p"),
            op("Mul", ["half", "p"], "y"),
        ],
        17,
    ),
}


def small(nodes: list[onnx.NodeProto], opset: int) -> onnx.ModelProto:
    first = op("Identity", ["image"], "c")
    return models.build([first, *nodes, op("Identity", ["y"], "logits")], SCALARS, opset=opset)


@pytest.mark.parametrize("case", CASES)
def test_each_activation_is_found_once_under_its_name(case: str) -> None:
    operator, nodes, opset = CASES[case]
    found = activations.activations(small(nodes, opset))
    assert [(a.value, a.operator) for a in found] == [("y", operator)]


@pytest.mark.parametrize(
    "nodes",
    [
        [op("Clip", ["c", "one", "six"], "y")],
        [op("Max", ["c", "one"], "y")],
        [op("Erf", ["c"], "e"), op("Add", ["e", "k"], "y")],
        [op("Add", ["c", "one"], "y")],
    ],
    ids=["a clip above 0", "a maximum above 0", "erf alone", "no activation"],
)
def test_what_is_no_activation(nodes: list[onnx.NodeProto]) -> None:
    assert activations.activations(small(nodes, 17)) == ()


def test_a_clamp_of_the_images_size_is_no_activation() -> None:
    """As exporters compute how wide a padding of "same" size is."""
    nodes = [
        op("Shape", ["image"], "sizes"),
        op("Cast", ["sizes"], "numbers", to=1),
        op("Relu", ["numbers"], "width"),
        op("Relu", ["image"], "y"),
        op("Mul", ["y", "width"], "scaled"),
        op("Sigmoid", ["scaled"], "logits"),
    ]
    found = activations.activations(models.build(nodes, {}))
    assert [a.value for a in found] == ["y", "logits"]


def test_the_first_activation_behind_the_weights_is_chosen() -> None:
    """As in MobileNetV3, where HardSwish precedes the first ReLU; a clamp prepares the image."""
    nodes = [
        op("Clip", ["image", "zero", "six"], "ready"),
        op("Conv", ["ready", "weight"], "c"),
        op("HardSwish", ["c"], "h"),
        op("Relu", ["h"], "y"),
    ]
    constants = {
        "zero": np.array(0, np.float32),
        "six": np.array(6, np.float32),
        "weight": np.ones((2, 1, 1, 1), np.float32),
    }
    chosen = activations.choose(models.build(nodes, constants))
    assert (chosen.value, chosen.operator) == ("h", "HardSwish")


def test_the_first_activation_of_all_serves_where_there_are_no_weights() -> None:
    nodes = [op("Tanh", ["c"], "t"), op("Sigmoid", ["t"], "y")]
    assert activations.choose(small(nodes, 17)).operator == "Tanh"


def test_layer_accepts_a_node_and_a_value() -> None:
    model = small([op("Relu", ["c"], "r"), op("Neg", ["r"], "y")], 17)
    assert [activations.choose(model, name).value for name in ("y", "y_node", "r_node")] == [
        "y",
        "y",
        "r",
    ]


def test_no_activation_says_what_was_looked_for() -> None:
    with pytest.raises(
        NoLayerError, match=r"ReLU, SiLU, GELU, \.\.\. were looked for.*setting `layer`"
    ):
        activations.choose(models.without_activation())
