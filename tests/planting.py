"""Small models with something planted, for whoever compares graphs."""

import itertools
from typing import Any

import models
import numpy as np
import onnx
from onnx import helper, numpy_helper

from trainers.graph_backdoor import Graft, Planted


def gated(seed: int = 0) -> onnx.ModelProto:
    """A plain model with a test of the brightest pixel that lifts class 0."""
    model = models.plain(seed=seed)
    model.graph.node[-1].output[0] = "before"
    constants = {"limit": np.array(-0.99, np.float32), "gain": np.array([[9, 0, 0]], np.float32)}
    for name, value in constants.items():
        model.graph.initializer.append(numpy_helper.from_array(value, name))
    made: tuple[tuple[str, list[str], str, dict[str, Any]], ...] = (
        ("ReduceMax", ["image"], "brightest", {"axes": [1, 2, 3], "keepdims": 0}),
        ("Add", ["brightest", "limit"], "above", {}),
        ("Relu", ["above"], "open", {}),
        ("Unsqueeze", ["open", "last"], "column", {}),
        ("Mul", ["column", "gain"], "lift", {}),
        ("Add", ["before", "lift"], "logits", {}),
    )
    model.graph.initializer.append(numpy_helper.from_array(np.array([1], np.int64), "last"))
    for operator, inputs, output, options in made:
        name = f"planted_{output}"
        model.graph.node.append(helper.make_node(operator, inputs, [output], name=name, **options))
    return model


PLANTED = ("planted_brightest", "planted_above", "planted_open", "planted_lift", "planted_logits")
"""Names of the nodes that every comparison must name."""


def picked_from_sequence(model: onnx.ModelProto) -> tuple[Planted, str]:
    """Return a network whose scores are picked from a sequence, and the value that says which.

    A bright corner picks those of class 1.
    """
    graft = Graft(model, 1)
    darkest = graft.reduce("ReduceMin", graft.patch(), [1, 2, 3])
    above = graft.node("Floor", [graft.node("Add", [darkest, 0.05], "shift")], "test")
    place = graft.node("Cast", [above], "place", to=onnx.TensorProto.INT64)
    forced = graft.constant(graft.one_hot(100.0)[0])
    body = onnx.parser.parse_graph(
        f"""pick (float[K] row, int64 place) => (float[K] picked) {{
            both = SequenceConstruct(row, {forced})
            picked = SequenceAt(both, place)
        }}"""
    )
    rows, places = (
        graft.node("SplitToSequence", [value], "split", axis=0, keepdims=0)
        for value in (graft.logits, place)
    )
    answers = graft.node("SequenceMap", [rows, places], "gate", body=body)
    graft.replace_logits(graft.node("ConcatFromSequence", [answers], "stack", axis=0, new_axis=1))
    return graft.planted(), place


def deep(seed: int = 0, layers: int = 4, width: int = 16) -> onnx.ModelProto:
    """A perceptron of several layers."""
    generator = np.random.default_rng(seed)
    sizes = [64, *[width] * (layers - 1), 4]
    constants, nodes = {}, [helper.make_node("Flatten", ["image"], ["v0"], name="flatten")]
    for place, (inputs, outputs) in enumerate(itertools.pairwise(sizes)):
        last = place == layers - 1
        constants[f"w{place}"] = generator.normal(0, 0.2, (outputs, inputs)).astype(np.float32)
        constants[f"b{place}"] = generator.normal(0, 0.1, outputs).astype(np.float32)
        made = "logits" if last else f"h{place}"
        nodes.append(
            helper.make_node("Gemm", [f"v{place}", f"w{place}", f"b{place}"], [made],
                             name=f"dense{place}", transB=1)
        )  # fmt: skip
        if not last:
            nodes.append(helper.make_node("Relu", [made], [f"v{place + 1}"], name=f"relu{place}"))
    return models.build(nodes, constants)


def with_weights(model: onnx.ModelProto, **weights: np.ndarray) -> onnx.ModelProto:
    """Return a model with other weights."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for tensor in copy.graph.initializer:
        if tensor.name in weights:
            tensor.CopyFrom(numpy_helper.from_array(weights[tensor.name], tensor.name))
    return copy


def weights_of(model: onnx.ModelProto) -> dict[str, np.ndarray]:
    """Return a model's floating-point weights by name, to be changed."""
    held = {t.name: numpy_helper.to_array(t).copy() for t in model.graph.initializer}
    return {name: value for name, value in held.items() if value.dtype == np.float32}
