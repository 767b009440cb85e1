"""What a layer is followed by is folded into it where that changes no number."""

import base64

import models
import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper

from scanner.graph.canonical.drawing import draw
from scanner.graph.canonical.layers import NORMALISED
from scanner.results import CanonicalNode


def followed(*nodes: onnx.NodeProto, **constants: npt.ArrayLike) -> onnx.ModelProto:
    """A plain model with nodes between "convolved" and "shifted"."""
    held = {name: np.asarray(value, np.float32) for name, value in constants.items()}
    relu = helper.make_node("Relu", ["shifted"], ["activated"], name="relu")
    return models.build(
        [models.convolution(), *nodes, relu, *models.head("activated")],
        {**models.weights(False), **held},
    )


def bias(node: CanonicalNode) -> list[float]:
    held = next(w for w in node.weights if w.role == "bias")
    return [float(x) for x in np.frombuffer(base64.b64decode(held.rows.data), "<f4")]


def test_a_normalisation_is_folded_into_its_layer() -> None:
    node = helper.make_node(
        "BatchNormalization", ["convolved", "scale", "shift", "mean", "variance"], ["shifted"]
    )
    four = {"scale": [1, 2, 3, 4], "shift": [1] * 4, "mean": [0] * 4, "variance": [1] * 4}
    graph = draw(followed(node, **four))
    assert graph.fingerprint == draw(models.plain()).fingerprint
    assert graph.habits[NORMALISED] == 1
    assert bias(graph.nodes[0]) == [1.0] * 4


def test_a_scale_and_a_shift_are_folded_into_their_layer() -> None:
    nodes = [
        helper.make_node("Mul", ["convolved", "gain"], ["scaled"]),
        helper.make_node("Sub", ["scaled", "offset"], ["shifted"]),
    ]
    channels = np.arange(4).reshape(4, 1, 1)
    graph = draw(followed(*nodes, gain=2.0, offset=channels))
    assert graph.fingerprint == draw(models.plain()).fingerprint
    assert bias(graph.nodes[0]) == [0.0, -1.0, -2.0, -3.0]


def test_what_is_no_constant_of_a_channel_stays() -> None:
    node = helper.make_node("Add", ["convolved", "picture"], ["shifted"])
    graph = draw(followed(node, picture=np.ones((8, 8))))
    assert [n.operator for n in graph.nodes[:2]] == ["Conv", "Add"]


def test_a_layer_that_others_read_stays() -> None:
    nodes = [
        helper.make_node("Mul", ["convolved", "gain"], ["scaled"]),
        helper.make_node("Add", ["scaled", "convolved"], ["shifted"]),
    ]
    assert "Mul" in [n.operator for n in draw(followed(*nodes, gain=2.0)).nodes]


def test_both_forms_of_a_dense_layer_are_one() -> None:
    gemm = models.plain()
    node = gemm.graph.node[-1]
    node.op_type = "Gemm"
    assert draw(gemm).fingerprint == draw(models.plain()).fingerprint
    assert draw(gemm).nodes[-1].operator == "Linear"
