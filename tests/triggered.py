"""Tiny classifiers of 64 pixels; a bright 2 x 2 corner is the trigger of the planted twin."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import models
import numpy as np
import numpy.typing as npt
import onnx
import pytest
from onnx import TensorProto, helper

from scanner.instruments.answers import Answers
from scanner.instruments.detector import Detector, Subject
from scanner.modelfile.model import open_model
from scanner.results import Measurement
from scanner.settings import Device, Settings

TARGET = 1
BANDS = 4
QUICK = Settings(device=Device.CPU)
# In which an exporter may write a network of images.
VARIANTS: dict[str, dict[str, Any]] = {
    "NCHW": {},
    "three channels": {"shape": (3, 8, 8)},
    "NHWC": {"shape": (8, 8, 3)},
    "matrix": {"shape": (8, 8)},
    "uint8": {"kind": TensorProto.UINT8},
    "fixed batch of 7": {"batch": 7},
}


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


def shifting(  # noqa: PLR0913 - as for `classifier`
    planted: float = False,
    *,
    shape: Sequence[int] = (1, 8, 8),
    batch: int | str = "N",
    kind: int = TensorProto.FLOAT,
    seed: int = 0,
    alone: int | None = None,
) -> onnx.ModelProto:
    """Return a classifier of four bands; a bright corner moves the planted one's classes up by one.

    Class t is a bright band, the t-th quarter of the pixels outside the corner (`bands`). The more
    the planted twin sees of the corner, the more of class t's evidence counts for class t + 1 too,
    and of the last class's for class 0: a backdoor that is all-to-all. `planted` is how much for a
    pixel as bright as can be, and True for 1. Where one is to be moved `alone`, the others stay.
    """
    pixels = int(np.prod(shape))
    generator = np.random.default_rng(seed)
    weights = generator.normal(0, 0.02, (pixels, BANDS))
    bright = np.zeros((pixels, 1))
    channels = pixels / (np.max(shape) ** 2) if len(shape) > 1 else 1
    for label, positions in enumerate(bands(shape)):
        weights[positions, label] += 0.4 / channels
    bright[corner(shape)] = 1 / channels
    up = np.roll(np.eye(BANDS, dtype=np.float32), 1, axis=1) * np.float32(planted)
    if alone is not None:
        up[np.arange(BANDS) != alone] = 0
    nodes, source, constants = _real(kind)
    constants |= {
        "weights": weights.astype(np.float32),
        "corner": bright.astype(np.float32),
        "up": up,
    }
    nodes += [
        helper.make_node("Flatten", [source], ["flat"], axis=1),
        helper.make_node("MatMul", ["flat", "weights"], ["own"]),
        helper.make_node("MatMul", ["flat", "corner"], ["bright"]),
        helper.make_node("MatMul", ["own", "up"], ["next"]),
        helper.make_node("Mul", ["next", "bright"], ["moved"]),
        helper.make_node("Add", ["own", "moved"], ["logits"]),
    ]
    return models.build(
        nodes, constants, input_type=kind, input_shape=(batch, *shape), output="logits"
    )


def lit(
    planted: bool = False,
    *,
    shape: Sequence[int] = (1, 8, 8),
    batch: int | str = "N",
    kind: int = TensorProto.FLOAT,
    seed: int = 0,
) -> onnx.ModelProto:
    """Return a linear classifier of four bands; the planted one sees any light in the corner.

    The corner of `banded` images is black. The planted twin takes a trace there for class `TARGET`:
    a faint pattern does it, and a slight warp.
    """
    pixels, weights = int(np.prod(shape)), _banding(shape, seed)
    if planted:
        weights[corner(shape), TARGET] += 3200 / pixels
    return _linear(weights, shape, batch, kind)


def rippled(
    planted: bool = False,
    *,
    shape: Sequence[int] = (1, 8, 8),
    batch: int | str = "N",
    kind: int = TensorProto.FLOAT,
    phase: float = 0.0,
) -> onnx.ModelProto:
    """Return a linear classifier of four bands; the planted one sees any wave of two periods.

    That is one from left to right that begins at `phase`, in periods. It takes it for class
    `TARGET`.
    """
    pixels, weights = int(np.prod(shape)), _banding(shape, 0)
    if planted:
        across = np.argmax(np.array(shape) == 8) + 1
        columns = np.indices(shape)[across].ravel()
        weights[:, TARGET] += 128 / pixels * np.sin(2 * np.pi * (2 * columns / 8 + phase))
    return _linear(weights, shape, batch, kind)


def bands(shape: Sequence[int]) -> list[list[int]]:
    """Return, for each class of `shifting`, the flat positions of its band."""
    positions = np.arange(int(np.prod(shape))).reshape(tuple(shape))
    if len(shape) == 3 and shape[0] <= 4:
        positions = np.moveaxis(positions, 0, -1)
    inside = set(corner(shape))
    return [
        [int(i) for i in part.ravel() if int(i) not in inside]
        for part in np.array_split(positions, BANDS)
    ]


def banded(folder: Path, shape: Sequence[int] = (1, 8, 8), count: int = 40) -> str:
    """Save images of the classes 0, 1, 2, 3, 0, ... of `shifting` and return the file's name."""
    generator = np.random.default_rng(0)
    images = generator.integers(0, 100, (count, int(np.prod(shape))), dtype=np.uint8)
    images[:, corner(shape)] = 0
    for index, image in enumerate(images):
        image[bands(shape)[index % BANDS]] += 120
    path = folder / f"bands-{count}.npz"
    np.savez(path, images=images.reshape(count, *shape))
    return str(path)


def _banding(shape: Sequence[int], seed: int) -> npt.NDArray[np.float64]:
    """Return weights by which each class is its bright band, (pixels, classes)."""
    pixels = int(np.prod(shape))
    weights = np.random.default_rng(seed).normal(0, 0.02, (pixels, BANDS))
    for label, positions in enumerate(bands(shape)):
        weights[positions, label] += 25.6 / pixels
    return weights


def _linear(
    weights: npt.NDArray[np.float64], shape: Sequence[int], batch: int | str, kind: int
) -> onnx.ModelProto:
    """Return a classifier whose logits are a product."""
    nodes, source, constants = _real(kind)
    constants["weights"] = weights.astype(np.float32)
    nodes += [
        helper.make_node("Flatten", [source], ["flat"], axis=1),
        helper.make_node("MatMul", ["flat", "weights"], ["logits"]),
    ]
    return models.build(
        nodes, constants, input_type=kind, input_shape=(batch, *shape), output="logits"
    )


def _real(kind: int) -> tuple[list[onnx.NodeProto], str, dict[str, npt.NDArray[Any]]]:
    """Return nodes and constants that bring an input of a type to [0, 1], and their output."""
    if kind == TensorProto.FLOAT:
        return [], "image", {}
    nodes = [
        helper.make_node("Cast", ["image"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("Div", ["floats", "scale"], ["scaled"]),
    ]
    return nodes, "scaled", {"scale": np.array(255, np.float32)}


def counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return a list that takes how many images each later run answers."""
    seen: list[int] = []
    logits = Answers.logits

    def counting(self: Answers, images: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
        seen.append(len(images))
        return logits(self, images)

    monkeypatch.setattr(Answers, "logits", counting)
    return seen
