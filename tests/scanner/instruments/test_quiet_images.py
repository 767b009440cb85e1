"""Smooth images fill no more than the range, and half of them are dark around."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from models import save

from scanner.graph.core import flatten
from scanner.instruments import dormancy, forcing, quiet_images
from scanner.instruments.detector import Subject
from scanner.instruments.plane import Plane
from scanner.modelfile.model import open_model
from scanner.settings import Device, Settings

SAMPLE = Path(__file__).parents[3] / "samples" / "mnist-clean.onnx"


@pytest.mark.parametrize("span", [(0.0, 1.0), (-2.0, 3.0)])
def test_they_are_smooth_dark_around_and_in_range(
    span: tuple[float, float], tmp_path: Path
) -> None:
    opened = open_model(save(onnx.load(SAMPLE), tmp_path / "model.onnx"))
    subject = Subject(model=opened, settings=Settings(device=Device.CPU, input_range=span))
    flat = opened.complete(flatten.flatten(opened.proto))
    rig = forcing.Rig(subject, flat, (1, 28, 28), dormancy.answer_of(flat, None))
    images = quiet_images.smooth(rig, Plane.of((1, 28, 28)), 16)
    assert images.shape == (16, 1, 28, 28)
    assert images.dtype == rig.dtype
    assert span[0] <= images.min() < images.max() <= span[1]
    assert (images[1::2, :, :7] == span[0]).all()
    assert (images[1::2, :, :, -7:] == span[0]).all()
    steps = np.abs(np.diff(images[::2], axis=3)).max()
    assert steps < 0.2 * (span[1] - span[0])
    np.testing.assert_array_equal(images, quiet_images.smooth(rig, Plane.of((1, 28, 28)), 16))
