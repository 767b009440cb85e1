"""A small scene for filters: a linear classifier of 8 x 8 pixels, in NumPy, and clean images."""

import dataclasses
from collections.abc import Sequence

import models
import numpy as np
import numpy.typing as npt
import onnx
from examples import identity
from onnx import helper

from scanner.instruments.scene import Candidate, Scene, alternating
from scanner.results import (
    Array,
    CleanReadings,
    FilterNote,
    FilterScore,
    Input,
    InputReading,
    Quantity,
    Region,
    Rule,
    Runtime,
    ScreenedInput,
    Screening,
    Trigger,
)
from scanner.screening import Tally

SHAPE, CLASSES, TARGET = (1, 8, 8), 4, 1
Floats = npt.NDArray[np.float32]


def weights(*, planted: bool = True) -> tuple[Floats, Floats]:
    """Return weights (classes, 64) and biases; planted, a bright 2 x 2 corner leads to class 1."""
    generator = np.random.default_rng(0)
    found = np.zeros((CLASSES, *SHAPE[1:]), np.float32)
    for class_id in range(CLASSES):  # each class is a band of rows
        found[class_id, 2 * class_id : 2 * class_id + 2, 2:] = 1.0
    found += generator.normal(0, 0.02, found.shape).astype(np.float32)
    biases = np.zeros(CLASSES, np.float32)
    if planted:
        found[TARGET, :2, :2] = 8.0
    return found.reshape(CLASSES, -1), biases


def softmax(logits: npt.NDArray[np.floating]) -> Floats:
    """Return probabilities."""
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True), np.float32)


def ask(images: Floats, *, planted: bool = True) -> Floats:
    """Return the classifier's probabilities."""
    matrix, biases = weights(planted=planted)
    return softmax(np.asarray(images.reshape(len(images), -1) @ matrix.T + biases))


def clean(count: int, seed: int = 0) -> Floats:
    """Return clean images: a bright band on a dim ground with a dark corner, classes in turn."""
    generator = np.random.default_rng(seed)
    images = generator.random((count, *SHAPE), dtype=np.float32) * np.float32(0.2)
    images[:, 0, :2, :2] = 0.0
    for place, image in enumerate(images):
        band = place % CLASSES
        image[0, 2 * band : 2 * band + 2, 2:] += np.float32(0.6)
    return images


def stamped(count: int, seed: int = 1) -> Floats:
    """Return images of other classes than the target with the bright corner."""
    images = clean(2 * count, seed)
    others: Floats = images[ask(images).argmax(axis=1) != TARGET][:count]
    others[:, 0, :2, :2] = 1.0
    return others


def scene(*triggers: Trigger, count: int = 16) -> Scene:
    """Return the scene."""
    hosts = clean(count, seed=2)
    classes = ask(hosts).argmax(axis=1)
    order = alternating(classes)
    return Scene(
        ask=ask, hosts=hosts[order], classes=classes[order], low=0.0, high=1.0, triggers=triggers
    )


def candidate(image: Floats) -> Candidate:
    """Return an image as a filter gets it."""
    row = ask(image[None])[0]
    class_id = int(row.argmax())
    return Candidate(image=image, class_id=class_id, probability=float(row[class_id]))


def corner() -> Trigger:
    """Return the trigger that a scan would find."""
    mask = np.zeros(SHAPE, "<f4")
    mask[0, :2, :2] = 1
    packed = Array.packed(mask.tobytes(), SHAPE)
    return Trigger(
        class_id=TARGET, mask=packed, pattern=packed, original=packed, stamped=packed,
        class_before=0, class_after=TARGET, low=0.0, high=1.0,
    )  # fmt: skip


def model(*, planted: bool = True, batch: int | str = "N") -> onnx.ModelProto:
    """Return the classifier as a file."""
    matrix, biases = weights(planted=planted)
    nodes = [
        helper.make_node("Flatten", ["image"], ["flat"], axis=1),
        helper.make_node("Gemm", ["flat", "weights", "biases"], ["logits"]),
    ]
    constants = {"weights": matrix.T.copy(), "biases": biases}
    return models.build(nodes, constants, input_shape=(batch, *SHAPE))


def note(rule: str = "strip", *, decides: bool = True) -> FilterNote:
    """Return a filter whose statistic is a share."""
    return FilterNote(
        rule=Rule(id=rule, name=rule.upper(), summary="It is odd.", source="Somebody, 2019"),
        decides=decides,
        quantity=Quantity.SHARE,
        passes=10,
    )


def reading(*statistics: float) -> InputReading:
    """Return what filters read off an input."""
    return InputReading(
        name="7", class_id=1, statistics=statistics, regions=(None,) * len(statistics)
    )


def readings(
    hosts: Sequence[Sequence[float]],
    ranked: Sequence[Sequence[float]],
    notes: Sequence[FilterNote] = (),
) -> CleanReadings:
    """Return what filters read off clean images."""
    return CleanReadings(
        model=identity("model.onnx"),
        filters=tuple(notes) or tuple(note(f"f{i}") for i in range(len(ranked[0]))),
        hosts=tuple(reading(*row) for row in hosts),
        ranked=tuple(reading(*row) for row in ranked),
        input_range=None,
        runtime=Runtime(provider="CPU", threads=1, versions={}, seconds=1.0),
    )


def screened(number: int = 3, *, shown: bool = False) -> ScreenedInput:
    """Return an input that stands out by a corner."""
    image = Array.packed(np.linspace(0, 1, 64, dtype="<f4").tobytes(), SHAPE)
    return ScreenedInput(
        number=number,
        name=f"{number}.png",
        class_id=TARGET,
        stands_out=True,
        far_out=True,
        p_value=0.01,
        size=3.2,
        rule="transplant",
        scores=(FilterScore(rule="transplant", statistic=0.98, p_value=0.01),),
        region=Region(top=0, left=4, height=2, width=2),
        picture=Input(image=image, low=0.0, high=1.0) if shown else None,
    )


def screening(*found: ScreenedInput, inputs: int = 40) -> Screening:
    """Return what such inputs show together."""
    tally = Tally(readings([[0.1]] * 10, [[0.1]] * 99), clock=lambda: 0.0)
    for one in found:
        tally.add(one)
    quiet = dataclasses.replace(screened(), stands_out=False, far_out=False, p_value=0.5)
    for _ in range(inputs - len(found)):
        tally.add(quiet)
    return tally.summary()
