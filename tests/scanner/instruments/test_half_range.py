"""A unit that only a trigger drives beyond float16 is told; honest halves are not."""

from pathlib import Path

import models
import onnx
import pytest
from onnx import numpy_helper

from scanner.instruments import half_range, original
from scanner.instruments.detector import Subject
from scanner.modelfile.model import open_model
from scanner.results import Observation, Severity
from scanner.settings import Device, Settings

SETTINGS = Settings(images=4, device=Device.CPU)


def observed(model: onnx.ModelProto, folder: Path) -> list[Observation]:
    opened = open_model(models.save(model, folder / "model.onnx"))
    data, _ = original.own_bytes(opened)
    session = original.open_original(data, 1)
    shape = tuple(int(size) for size in session.input_shape[1:] if size is not None)
    images = original.probe_images(Subject(model=opened, settings=SETTINGS), shape, session.dtype)
    return list(half_range.beyond(opened, data, images, SETTINGS))


def scaled(gain: float) -> onnx.ModelProto:
    """Halves, of which one filter has other weights, and a bias by which noise never wakes it."""
    model = models.half()
    for tensor in model.graph.initializer:
        numbers = numpy_helper.to_array(tensor).copy()
        if tensor.name in {"kernel", "bias"}:
            numbers[0] = gain if tensor.name == "kernel" else -8 * gain
            tensor.CopyFrom(numpy_helper.from_array(numbers, tensor.name))
    return model


def test_a_unit_that_can_overflow_is_a_warning(tmp_path: Path) -> None:
    (seen,) = observed(scaled(7000), tmp_path)
    assert (seen.code, seen.severity) == ("beyond-float16", Severity.WARNING)
    assert "65,504" in seen.sentence


@pytest.mark.parametrize("build", [models.half, models.plain, models.quantised])
def test_nothing_is_said_of_honest_networks(build: type[onnx.ModelProto], tmp_path: Path) -> None:
    assert observed(build(), tmp_path) == []
