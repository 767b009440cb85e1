"""Arithmetic on values becomes nodes: names are new, constants shared, broadcasting undone."""

import models
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper

from scanner.errors import UnsupportedModelError
from scanner.graph.core.facts import Facts, infer
from scanner.graph.gradient.tape import Tape, Value, _repeated_axes

SHAPES = st.lists(st.integers(1, 3), max_size=4)


@pytest.fixture
def tape() -> Tape:
    return Tape(infer(models.plain()), {"image", "convolved"})


def operators(tape: Tape) -> list[str]:
    return [node.op_type for node in tape.nodes]


def test_names_are_new(tape: Tape) -> None:
    names = [tape.fresh("image") for _ in range(3)]
    assert len({*names, "image"}) == 4


def test_small_constants_are_shared_and_others_not(tape: Tape) -> None:
    equal = [tape.constant(np.array(2, np.float32)).name for _ in range(2)]
    other = tape.constant(np.array(2, np.float64)).name
    large = [tape.constant(np.zeros(100, np.float32)).name for _ in range(2)]
    assert len({*equal, other, *large}) == 4
    assert len(tape.tensors) == 4


def test_arithmetic_is_written_down(tape: Tape) -> None:
    x = tape.value("convolved")
    _ = -((x + 1) * 1 / x - 2)
    assert operators(tape) == ["Add", "Div", "Sub", "Neg"]
    assert (x > 0).dtype == TensorProto.BOOL
    assert x.cast(TensorProto.FLOAT) is x
    assert x.transpose([0, 1, 2, 3]) is x


def test_a_fixed_shape_is_a_constant_and_an_open_one_is_asked_for_once(tape: Tape) -> None:
    fixed = tape.value("kernel").shape.constant
    assert fixed is not None
    assert fixed.tolist() == [4, 1, 3, 3]
    names = {tape.value("convolved").shape.name for _ in range(2)}
    assert len(names) == 1
    assert operators(tape) == ["Shape"]


def test_sizes(tape: Tape) -> None:
    x = tape.value("convolved")
    assert (x.rank, x.sizes) == (4, ("N", 4, 8, 8))
    assert x.fixed_sizes(2) == (8, 8)
    assert x.fixed_sizes() is None


def test_an_unknown_rank_is_refused() -> None:
    with pytest.raises(UnsupportedModelError, match="rank of the value 'x' is not known"):
        _ = Value(Tape(Facts({}, {}, {}), set()), "x", TensorProto.FLOAT).rank


@given(SHAPES, SHAPES)
def test_repeated_axes_are_those_that_broadcasting_repeats(a: list[int], b: list[int]) -> None:
    try:
        large = np.broadcast_shapes(tuple(a), tuple(b))
    except ValueError:
        return
    axes = _repeated_axes(large, tuple(a))
    assert axes is not None
    ones = np.ones(large).sum(axis=tuple(axes), keepdims=True).reshape(a)
    assert (ones == np.prod(large) / np.prod(a)).all()


def test_an_open_axis_may_be_repeated_and_is_not_known() -> None:
    assert _repeated_axes((5, "N"), ("M", "N")) is None
    assert _repeated_axes((5, "N"), ("N",)) == [0]
    assert _repeated_axes(None, (1,)) is None


def test_a_value_keeps_the_type_of_its_numbers(tape: Tape) -> None:
    double = Value(tape, "double", TensorProto.DOUBLE)
    assert double.wrap(3).dtype == TensorProto.DOUBLE
    assert double.wrap([3]).dtype == TensorProto.INT64
    assert double.numpy_dtype == helper.tensor_dtype_to_np_dtype(TensorProto.DOUBLE)
