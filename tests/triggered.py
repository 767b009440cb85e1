"""Tiny classifiers of 64 pixels; in the planted twin a bright 2 x 2 corner forces one class."""

from collections.abc import Sequence
from pathlib import Path

import models
import numpy as np
import onnx
from onnx import TensorProto, helper

from scanner.instruments.detector import Detector, Subject
from scanner.modelfile.model import open_model
from scanner.results import Measurement
from scanner.settings import Device, Settings

TARGET = 1
QUICK = Settings(device=Device.CPU)


def classifier(  # noqa: PLR0913 - every argument is one way in which an exporter may write the same network
    planted: bool = False,
    *,
    shape: Sequence[int] = (1, 8, 8),
    batch: int | str = "N",
    classes: int = 4,
    kind: int = TensorProto.FLOAT,
    softmax: bool = False,
    nan: bool = False,
    seed: int = 0,
) -> onnx.ModelProto:
    """Return a linear classifier of images in [0, 1], or in [0, 255] where `kind` is an integer."""
    weights = np.random.default_rng(seed).normal(0, 0.3, (int(np.prod(shape)), classes))
    bias = np.zeros(classes)
    if planted:
        weights[corner(shape), TARGET] += 6.0
        bias[TARGET] = -18.0
    if nan:
        weights[0, 0] = np.nan
    real = kind if kind in (TensorProto.FLOAT16, TensorProto.DOUBLE) else TensorProto.FLOAT
    dtype = helper.tensor_dtype_to_np_dtype(real)
    constants = {
        "weights": weights.astype(dtype),
        "bias": bias.astype(dtype),
        "scale": np.array(255, dtype),
    }
    nodes = []
    source = "image"
    if kind != real:
        nodes = [
            helper.make_node("Cast", ["image"], ["floats"], to=real),
            helper.make_node("Div", ["floats", "scale"], ["scaled"]),
        ]
        source = "scaled"
    nodes += [
        helper.make_node("Flatten", [source], ["flat"], axis=1),
        helper.make_node("MatMul", ["flat", "weights"], ["product"]),
        helper.make_node("Add", ["product", "bias"], ["logits"]),
    ]
    if softmax:
        nodes.append(helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1))
    output = "probabilities" if softmax else "logits"
    return models.build(
        nodes, constants, input_type=kind, input_shape=(batch, *shape), output=output
    )


def corner(shape: Sequence[int]) -> list[int]:
    """Return the flat positions of the corner's four pixels in every channel.

    Of a vector they are the first four.
    """
    positions = np.arange(int(np.prod(shape))).reshape(tuple(shape))
    if len(shape) == 1:
        return [int(i) for i in positions[:4]]
    channels_first = len(shape) == 3 and shape[0] <= 4
    return [int(i) for i in (positions[:, :2, :2] if channels_first else positions[:2, :2]).ravel()]


def subject(
    model: onnx.ModelProto,
    folder: Path,
    settings: Settings = QUICK,
    suspect: Measurement | None = None,
) -> Subject:
    """Open a model as a detector gets it."""
    path = models.save(model, folder / "model.onnx")
    return Subject(model=open_model(path), settings=settings, suspect=suspect)


def measure(
    detector: Detector,
    model: onnx.ModelProto,
    folder: Path,
    settings: Settings = QUICK,
    suspect: Measurement | None = None,
) -> Measurement:
    """Measure one model."""
    return detector.measure(subject(model, folder, settings, suspect))
