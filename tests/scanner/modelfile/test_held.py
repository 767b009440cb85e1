"""Numbers that are held outside a message are those of the tensor, for as long as somebody asks."""

import gc
from pathlib import Path

import models
import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from onnx import TensorProto, numpy_helper

from scanner.errors import MalformedModelError
from scanner.graph.core.structure import numbers_of
from scanner.modelfile import held
from scanner.modelfile.external_data import Folder

TYPES = ("<f4", "<f8", "<f2", "<i8", "u1")


class Owner:
    """Whoever needs the numbers."""


def put(numbers: np.ndarray) -> TensorProto:
    """Return a tensor that refers to numbers."""
    tensor = numpy_helper.from_array(numbers, "weight")
    held.put(tensor, numbers)
    return tensor


@given(
    st.sampled_from(TYPES).flatmap(
        lambda kind: arrays.arrays(kind, arrays.array_shapes(min_dims=0, max_dims=3))
    )
)
def test_the_numbers_are_those_that_were_put(numbers: np.ndarray) -> None:
    tensor, owner = put(numbers.copy()), Owner()
    held.claim(owner, [tensor])
    found = numbers_of(tensor)
    assert (found.dtype, found.shape) == (numbers.dtype, numbers.shape)
    np.testing.assert_array_equal(found, numbers)
    assert tensor.ByteSize() < 200
    assert not tensor.raw_data


def test_they_are_not_to_be_changed() -> None:
    with pytest.raises(ValueError, match="read-only"):
        numbers_of(put(np.ones(3, np.float32)))[0] = 2


def test_they_are_kept_until_the_last_owner_is_gone() -> None:
    tensor, first, second = put(np.ones(3, np.float32)), Owner(), Owner()
    for owner in (first, second):
        held.claim(owner, [tensor])
    del first, owner
    gc.collect()
    assert held.numbers_of(tensor) is not None
    del second
    gc.collect()
    assert held.numbers_of(tensor) is None


def test_a_file_cannot_name_them() -> None:
    """A location of the same form is a path like any other, and leads nowhere."""
    put(np.ones(3, np.float32))
    stated = TensorProto(
        name="weight", dims=[3], data_type=TensorProto.FLOAT, data_location="EXTERNAL"
    )
    stated.external_data.add(key="location", value=f"{'0' * 32}/0")
    assert held.place_of(stated) is None
    with pytest.raises(MalformedModelError, match="which is not there"):
        Folder(Path(__file__).parent).hold(stated)


@pytest.mark.parametrize(
    ("kind", "size", "can"),
    [
        (TensorProto.FLOAT, held.LEAST, True),
        (TensorProto.FLOAT, held.LEAST - 1, False),
        (TensorProto.BFLOAT16, held.LEAST, False),
        (TensorProto.STRING, None, False),
    ],
)
def test_which_tensors_are_worth_it(kind: int, size: int | None, can: bool) -> None:
    assert held.can_be(TensorProto(data_type=kind), size) is can


def test_what_bytes_refer_to_is_found_by_name() -> None:
    model = models.plain()
    assert held.beside(model.SerializeToString()) == {}
    chosen = model.graph.initializer[0]
    numbers = numpy_helper.to_array(chosen).copy()
    held.put(chosen, numbers)
    found = held.beside(model.SerializeToString())
    assert list(found) == [chosen.name]
    np.testing.assert_array_equal(found[chosen.name], numbers)


def test_raw_data_is_read_without_a_copy() -> None:
    data = np.arange(6, dtype="<f4").tobytes()
    found = held.read_as(onnx.TensorProto(data_type=TensorProto.FLOAT), data)
    assert np.shares_memory(found, np.frombuffer(data, "u1"))
