"""Subnormal numbers and what their bits hold."""

import gzip

import numpy as np
import onnx
import pytest
from models import plain
from onnx import numpy_helper

from scanner.graph.audit import carried
from scanner.results import Observation

LOAD = gzip.compress(b"In the bits of numbers that are as good as zero. " * 3, mtime=0)


def told(numbers: np.ndarray) -> list[Observation]:
    model = plain()
    model.graph.initializer[0].CopyFrom(
        numpy_helper.from_array(numbers, model.graph.initializer[0].name)
    )
    return list(carried.observe(model, b""))


def weights() -> np.ndarray:
    return np.random.default_rng(0).normal(0, 0.1, 5000)


@pytest.mark.parametrize(("kind", "word"), [(np.float32, np.uint32), (np.float64, np.uint64)])
def test_a_load_in_subnormal_numbers_is_told(kind: type, word: type) -> None:
    numbers: np.ndarray = weights().astype(kind)
    codes = np.frombuffer(LOAD, np.uint8).astype(word) + word(1)
    numbers[np.arange(len(codes)) * 7] = codes.view(kind)
    found = {o.code: o for o in told(numbers)}
    assert found["carried-data"].details["kind"] == "data compressed by gzip"
    assert found["subnormal-numbers"].details == {"count": len(LOAD), "tensors": 1}


def test_a_few_are_nothing_and_float16_has_them_by_nature() -> None:
    numbers = weights().astype(np.float32)
    numbers[:40] *= np.float32(1e-38)
    assert not [o for o in told(numbers) if o.code == "subnormal-numbers"]
    halves = (weights() * 1e-4).astype(np.float16)
    assert not [o for o in told(halves) if o.code == "subnormal-numbers"]


def test_the_type_of_a_tensor_without_data_is_no_matter() -> None:
    tensor = onnx.TensorProto(name="empty", data_type=onnx.TensorProto.FLOAT, dims=[3])
    model = plain()
    model.graph.initializer.append(tensor)
    assert not [o for o in carried.observe(model, b"") if o.code == "subnormal-numbers"]
