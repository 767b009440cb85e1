"""Small models, good and bad, in one folder."""

import os
from pathlib import Path

import models
import numpy as np
import pytest


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models")
    models.save(models.plain(), path / "clean.onnx")
    models.save(models.plain(planted=True), path / "planted.onnx")
    models.save(models.plain(input_shape=("N", 1, 9, 9)), path / "larger.onnx")
    models.save(models.without_activation(), path / "linear.onnx")
    models.save(models.with_nan(), path / "nan.onnx")
    models.save(models.two_inputs(default=False), path / "two.onnx")
    (path / "nothing").mkdir()
    np.save(path / "wrong.npy", np.zeros((4, 5, 5), np.float32))
    (path / "empty.onnx").write_bytes(b"")
    (path / "random.onnx").write_bytes(os.urandom(2000))
    (path / "short.onnx").write_bytes((path / "clean.onnx").read_bytes()[:-50])
    return path
