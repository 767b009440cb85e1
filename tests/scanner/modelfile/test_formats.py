"""Files of other formats, as their own libraries write them, are named as what they are."""

import bz2
import gzip
import io
import json
import lzma
import pickle
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import models
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from scanner.errors import MalformedModelError
from scanner.modelfile import formats
from scanner.modelfile.model import open_model


def saved_by_torch(*, zipped: bool) -> bytes:
    file = io.BytesIO()
    torch.save(torch.nn.Linear(2, 2).state_dict(), file, _use_new_zipfile_serialization=zipped)
    return file.getvalue()


def exported_by_torch() -> bytes:
    file = io.BytesIO()
    program = torch.export.export(torch.nn.Linear(2, 2), (torch.zeros(1, 2),))
    torch.export.save(program, file)
    return file.getvalue()


def zipped(*names: str) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name in names:
            archive.writestr(name, b"x")
    return file.getvalue()


def arrays() -> bytes:
    file = io.BytesIO()
    np.savez(file, images=np.zeros(3))
    return file.getvalue()


def safetensors() -> bytes:
    header = json.dumps({"w": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
    return struct.pack("<Q", len(header)) + header + b"\0\0\0\0"


FILES: dict[str, tuple[Callable[[], bytes], str]] = {
    "torch.save": (lambda: saved_by_torch(zipped=True), "PyTorch checkpoint"),
    "old torch.save": (lambda: saved_by_torch(zipped=False), "Python pickle"),
    "torch.export.save": (exported_by_torch, "exported by PyTorch"),
    "keras": (
        lambda: zipped("metadata.json", "config.json", "model.weights.h5"), "Keras model (.keras)",
    ),
    "h5": (lambda: b"\x89HDF\r\n\x1a\n" + bytes(40), "HDF5"),
    "tflite": (lambda: b"\x1c\0\0\0TFL3" + bytes(40), "TensorFlow Lite"),
    "safetensors": (safetensors, "safetensors"),
    "gzip": (lambda: gzip.compress(b"model"), "gzip"),
    "bzip2": (lambda: bz2.compress(b"model"), "compressed file"),
    "xz": (lambda: lzma.compress(b"model"), "compressed file"),
    "zip": (lambda: zipped("model.onnx"), "ZIP file"),
    "npz": (arrays, "NumPy archive"),
    "pickle": (lambda: pickle.dumps({}), "Python pickle"),
    "lfs": (lambda: b"version https://git-lfs.github.com/spec/v1\n", "Git LFS"),
    "html": (lambda: b"<!DOCTYPE html><html>", "web page"),
    "gguf": (lambda: b"GGUF\x03\0\0\0", "GGUF"),
}  # fmt: skip


@pytest.mark.parametrize("kind", FILES)
def test_a_file_is_named_as_what_it_is_with_a_way_out(kind: str, tmp_path: Path) -> None:
    make, words = FILES[kind]
    found = formats.recognise(make())
    assert found is not None
    path = tmp_path / "model.onnx"
    path.write_bytes(make())
    with pytest.raises(MalformedModelError) as raised:
        open_model(path, "m.onnx")
    assert f"'m.onnx' is no ONNX file: it is {found.name}" in str(raised.value)
    assert words in raised.value.problem
    assert raised.value.remedy


def test_onnx_is_none_of_these() -> None:
    assert formats.recognise(models.plain().SerializeToString()) is None


@given(st.binary(max_size=64))
def test_any_bytes_are_looked_at_without_an_error(data: bytes) -> None:
    formats.recognise(data)
    formats.recognise(b"PK\x03\x04" + data)
