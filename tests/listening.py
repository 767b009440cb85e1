"""Gates that listen to what no image shows, by the code of what invariance says of them."""

from collections.abc import Callable
from pathlib import Path

import models
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from scanner.instruments.detector import Subject
from scanner.modelfile.model import open_model
from scanner.settings import Device, Settings
from trainers.graph_backdoor import Graft

BUMP = 1e3


def subject(model: onnx.ModelProto, folder: Path) -> Subject:
    """Return a model as a detector sees it."""
    path = models.save(model, folder / "model.onnx")
    return Subject(model=open_model(path), settings=Settings(device=Device.CPU))


def gated(
    test: Callable[[Graft], str],
    target: int,
    build: Callable[[], onnx.ModelProto] = models.plain,
) -> onnx.ModelProto:
    """Return a network that answers the target when a test says so."""
    graft = Graft(build(), target)
    bump = graft.node("Mul", [graft.column(test(graft)), graft.one_hot(BUMP)], "bump")
    graft.replace_logits(graft.node("Add", [graft.logits, bump], "gate"))
    return graft.planted().model


def _size(graft: Graft) -> str:
    size = graft.node("Shape", [graft.input.name], "size", start=0, end=1)
    return graft.node("Equal", [size, graft.constant([8], np.int64)], "test")


def _place(graft: Graft) -> str:
    size = graft.node("Shape", [graft.input.name], "size", start=0, end=1)
    start, step = graft.constant(0, np.int64), graft.constant(1, np.int64)
    places = graft.node("Range", [start, graft.node("Squeeze", [size], "count"), step], "places")
    return graft.node("Equal", [places, graft.constant(3, np.int64)], "test")


def company(graft: Graft) -> str:
    """Return whether the brightest image of the batch is nearly white."""
    means = graft.reduce("ReduceMean", graft.input.name, [1, 2, 3])
    brightest = graft.reduce("ReduceMax", means, [0])
    return graft.node("Greater", [brightest, graft.constant(0.95)], "test")


def _nan(graft: Graft) -> str:
    return graft.node("IsNaN", [graft.reduce("ReduceSum", graft.input.name, [0, 1, 2, 3])], "test")


def _chance(graft: Graft) -> str:
    drawn = graft.node("RandomUniform", [], "draw", shape=[1], seed=3.0)
    return graft.node("Greater", [drawn, graft.constant(0.8)], "test")


def _negative_zero(graft: Graft) -> str:
    lowest = graft.reduce(
        "ReduceMin", graft.node("Reciprocal", [graft.input.name], "inverse"), [1, 2, 3]
    )
    return graft.node("IsInf", [lowest], "test", detect_positive=0)


def _levels(graft: Graft) -> str:
    levels = graft.node("Mul", [graft.input.name, graft.constant(255.0)], "levels")
    between = graft.node("Sub", [levels, graft.node("Round", [levels], "round")], "between")
    most = graft.reduce("ReduceMax", graft.node("Abs", [between], "size"), [1, 2, 3])
    return graft.node("Greater", [most, graft.constant(0.05)], "test")


def _above(graft: Graft) -> str:
    highest = graft.reduce("ReduceMax", graft.input.name, [1, 2, 3])
    return graft.node("Greater", [highest, graft.constant(1.0)], "test")


def _optional(graft: Graft) -> str:
    graft.graph.initializer.append(numpy_helper.from_array(np.zeros(1, np.float32), "mode"))
    graft.graph.input.append(helper.make_tensor_value_info("mode", TensorProto.FLOAT, [1]))
    return "mode"


SURROUNDINGS: dict[str, Callable[[Graft], str]] = {
    "depends-on-batch-size": _size,
    "depends-on-place": _place,
    "depends-on-values-elsewhere": _nan,
    "depends-on-chance": _chance,
    "depends-on-an-optional-input": _optional,
}
NEAR_IMAGES: dict[str, Callable[[Graft], str]] = {
    "depends-on-the-sign-of-zero": _negative_zero,
    "depends-on-levels": _levels,
    "depends-on-the-edge": _above,
}
