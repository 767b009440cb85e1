"""Bytes come back out of numbers, however they were put in."""

from typing import Literal

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import numpy_helper

from scanner.graph.audit import views

LOADS = st.binary(min_size=64, max_size=300).filter(lambda load: len(set(load)) > 8)


def seen(array: np.ndarray) -> list[bytes]:
    tensor = numpy_helper.from_array(array, "t")
    return [stream for _, stream in views.of_tensor(tensor, whole=True)]


@given(LOADS)
def test_one_byte_in_each_number(load: bytes) -> None:
    codes = np.frombuffer(load + bytes((0, 1)), np.uint8)
    for array in (codes.astype(np.int64), codes.astype(np.float32), codes.astype(np.float32) / 255):
        assert codes.tobytes() in seen(array)


@given(LOADS, st.sampled_from([1, 2, 3]))
def test_the_low_bytes_of_each_number(load: bytes, count: int) -> None:
    load = load[: len(load) // count * count]
    rows = np.random.default_rng(0).integers(0, 256, (len(load) // count, 4), np.uint8)
    rows[:, :count] = np.frombuffer(load, np.uint8).reshape(-1, count)
    if len(rows) >= 32:
        assert load in seen(rows.view(np.float32).reshape(-1))


@pytest.mark.parametrize("order", ["big", "little"])
@pytest.mark.parametrize("bits", range(1, 16))
def test_the_low_bits_of_each_number(bits: int, order: Literal["big", "little"]) -> None:
    load = b"A load of some bytes, no more than there is room for. " * bits
    every = np.unpackbits(np.frombuffer(load, np.uint8), bitorder=order)
    pieces = every[: len(every) // bits * bits].reshape(-1, bits)
    places = np.arange(bits)[:: -1 if order == "big" else 1]
    values = pieces @ (1 << places)
    words = np.random.default_rng(0).normal(size=len(values)).astype(np.float32).view(np.uint32)
    words = words & ~np.uint32(2**bits - 1) | values.astype(np.uint32)
    starts = {stream[:200] for stream in seen(words.view(np.float32))}
    assert load[:200] in {start[: len(load[:200])] for start in starts}


def test_fields_of_numbers_are_read_like_raw_data() -> None:
    numbers = np.arange(100)
    tensor = onnx.helper.make_tensor("t", onnx.TensorProto.INT64, [100], numbers.tolist())
    found = views.numbers(tensor)
    assert found is not None
    assert found.tolist() == numbers.tolist()


@given(st.binary(max_size=300), st.integers(0, 30))
def test_no_tensor_ends_in_an_error(data: bytes, kind: int) -> None:
    tensor = onnx.TensorProto(name="t", data_type=kind, dims=[7], raw_data=data)
    list(views.of_tensor(tensor, whole=True))
    list(views.of_tensor(tensor, whole=False))
