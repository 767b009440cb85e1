"""Weights that the shapes of a network keep from the answer."""

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from scanner.graph.audit import geometry
from scanner.graph.audit.spare_rows import Followed

GENERATOR = np.random.default_rng(2)


def rows(
    nodes: list[onnx.NodeProto], side: int = 8, /, **constants: np.ndarray[Any, Any] | np.generic
) -> list[tuple[int, Any]]:
    """The (units, numbers) that are told of a graph of one image, (n, 3, side, side)."""
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, side, side])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.asarray(held), name) for name, held in constants.items()],
    )
    return [
        (units, numpy_helper.to_array(held)) for _, units, held in geometry.rows(Followed(graph))
    ]


def normal(*shape: int) -> np.ndarray[Any, Any]:
    return GENERATOR.normal(size=shape).astype(np.float32)


def test_taps_that_meet_padding_only() -> None:
    kernel = normal(10, 3, 3, 3)
    nodes = [
        helper.make_node("GlobalAveragePool", ["x"], ["p"]),
        helper.make_node("Conv", ["p", "w"], ["y"], pads=[1, 1, 1, 1]),
    ]
    ((units, held),) = rows(nodes, w=kernel)
    assert (units, held.size) == (3 * 8, 10 * 3 * 8)
    assert not np.isin(kernel[:, :, 1, 1], held).any()


@pytest.mark.parametrize(("side", "count"), [(1, 8), (2, 0), (8, 0)])
def test_taps_by_the_size_of_the_input(side: int, count: int) -> None:
    node = helper.make_node("Conv", ["x", "w"], ["y"], pads=[1, 1, 1, 1])
    assert sum(units for units, _ in rows([node], side, w=normal(10, 3, 3, 3))) == 3 * count


def test_a_map_of_unknown_size_and_automatic_padding_say_nothing() -> None:
    unknown = [
        helper.make_node("Unknown", ["x"], ["p"]),
        helper.make_node("Conv", ["p", "w"], ["y"], pads=[1, 1, 1, 1]),
    ]
    assert rows(unknown, w=normal(10, 3, 3, 3)) == []
    automatic = helper.make_node("Conv", ["x", "w"], ["y"], auto_pad="SAME_UPPER")
    assert rows([automatic], 1, w=normal(10, 3, 3, 3)) == []


@pytest.mark.parametrize(("filler", "count"), [(0.0, 1), (1.0, 0)])
def test_columns_that_meet_the_zeros_of_a_pad(filler: float, count: int) -> None:
    nodes = [
        helper.make_node("Flatten", ["x"], ["f"]),
        helper.make_node("Pad", ["f", "pads", "filler"], ["p"]),
        helper.make_node("Gemm", ["p", "w"], ["y"], transB=1),
    ]
    pads, value = np.array([0, 2, 0, 20]), np.float32(filler)
    found = rows(nodes, pads=pads, filler=value, w=normal(10, 192 + 22))
    assert [(units, held.size) for units, held in found] == [(22, 220)] * count


def test_columns_that_meet_zeros_of_a_concat() -> None:
    nodes = [
        helper.make_node("Flatten", ["x"], ["f"]),
        helper.make_node("Concat", ["f", "zeros"], ["p"], axis=1),
        helper.make_node("Gemm", ["p", "w"], ["y"], transB=1),
    ]
    zeros = np.zeros((1, 20), np.float32)
    ((units, held),) = rows(nodes, zeros=zeros, w=normal(10, 192 + 20))
    assert (units, held.size) == (20, 200)
    assert rows(nodes, zeros=zeros + 1, w=normal(10, 192 + 20)) == []


@pytest.mark.parametrize(("end", "count"), [(1, 2), (2, 0)])
def test_a_direction_that_is_cut_off(end: int, count: int) -> None:
    nodes = [
        helper.make_node(
            "LSTM", ["x", "w", "r"], ["both"], direction="bidirectional", hidden_size=6
        ),
        helper.make_node("Slice", ["both", "from", "to", "axis"], ["one"]),
        helper.make_node("Squeeze", ["one", "axis"], ["y"]),
    ]
    held = {"w": normal(2, 24, 8), "r": normal(2, 24, 6), "axis": np.array([1])}
    found = rows(nodes, 8, **held, **{"from": np.array([0]), "to": np.array([end])})
    assert len(found) == count
    if found:
        np.testing.assert_array_equal(found[0][1], held["w"][1].reshape(-1))


def test_a_squeeze_of_axes_that_are_not_named_says_nothing_certain() -> None:
    nodes = [
        helper.make_node(
            "LSTM", ["x", "w", "r"], ["both"], direction="bidirectional", hidden_size=6
        ),
        helper.make_node("Squeeze", ["both"], ["some"]),
        helper.make_node("Slice", ["some", "from", "to", "axis"], ["y"]),
    ]
    held = {"w": normal(2, 24, 8), "r": normal(2, 24, 6), "axis": np.array([1])}
    assert rows(nodes, 8, **held, **{"from": np.array([0]), "to": np.array([1])}) == []


def test_it_is_a_note() -> None:
    held = numpy_helper.from_array(normal(100))
    (found,) = geometry.told([("w", 5, held)])
    assert (found.code, found.details["bytes"]) == ("spare-weights", 400)
    assert list(geometry.told([])) == []


@pytest.mark.parametrize("name", ["strides", "dilations", "pads"])
@pytest.mark.parametrize("held", [1, "text", [0.5, 1.0], ["a", "b"]])
def test_attributes_of_another_type_tell_nothing(name: str, held: Any) -> None:
    pool = helper.make_node("GlobalAveragePool", ["x"], ["p"])
    node = helper.make_node("Conv", ["p", "w"], ["y"], **{name: held})
    assert rows([pool, node], w=normal(10, 3, 3, 3)) == []


def concatenated(axis: int, zeros: np.ndarray[Any, Any], weights: np.ndarray[Any, Any]) -> Any:
    layer = "Conv" if weights.ndim > 2 else "MatMul"
    nodes = [
        helper.make_node("Concat", ["x", "z"], ["c"], axis=axis),
        helper.make_node(layer, ["c", "w"], ["y"]),
    ]
    return rows(nodes, z=zeros, w=weights)


def test_a_part_without_numbers_brings_no_columns() -> None:
    assert concatenated(1, np.zeros((1, 0, 8, 8), np.float32), normal(9, 3, 3, 3)) == []


def test_rows_of_zeros_are_no_columns_of_zeros() -> None:
    """A class token that was never trained stands beside the tokens, not beside their numbers."""
    assert concatenated(1, np.zeros((1, 1, 8), np.float32), normal(8, 9)) == []
    ((units, _),) = concatenated(1, np.zeros((1, 4), np.float32), normal(12, 32))
    assert units == 4


def test_a_constant_of_a_map_makes_a_map() -> None:
    nodes = [
        helper.make_node("GlobalAveragePool", ["x"], ["p"]),
        helper.make_node("Add", ["p", "z"], ["a"]),
        helper.make_node("Conv", ["a", "w"], ["y"], pads=[1, 1, 1, 1]),
    ]
    assert rows(nodes, z=normal(5, 5), w=normal(10, 3, 3, 3)) == []
    assert rows(nodes, z=normal(1), w=normal(10, 3, 3, 3)) != []


def test_pads_of_any_size_and_kind() -> None:
    wide = helper.make_node("Conv", ["x", "w"], ["y"], pads=[10**8] * 4)
    assert rows([wide], 1, w=normal(10, 3, 3, 3)) == []
    conv = helper.make_node("Conv", ["p", "w"], ["y"])
    pad = helper.make_node("Pad", ["x", "z"], ["p"])
    for odd in (np.zeros(0, np.int64), np.asarray(["a"] * 8, object), np.full(8, np.nan)):
        assert rows([pad, conv], z=odd, w=normal(10, 3, 3, 3)) == []


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("dilation", [1, 2])
@pytest.mark.parametrize("before", [0, 1, 3])
def test_taps_one_by_one(stride: int, dilation: int, before: int) -> None:
    for size in range(1, 6):
        way = (4, stride, dilation, before, 4)
        starts = [step * stride - before for step in range(geometry._out(size, way))]
        places = [[start + tap * dilation for start in starts] for tap in range(4)]
        outside = [not any(0 <= place < size for place in each) for each in places]
        node = helper.make_node(
            "Conv", ["x", "w"], ["y"], strides=[stride], dilations=[dilation], pads=[before, 4]
        )
        assert geometry._taps(node, [4], [size]).tolist() == outside


@pytest.mark.parametrize("hidden", [10**12, 1 << 62])
def test_a_layer_of_more_units_than_there_can_be(hidden: int) -> None:
    node = helper.make_node(
        "LSTM", ["x", "w", "w"], ["", "y"], direction="bidirectional", hidden_size=hidden
    )
    assert rows([node], w=normal(2, 16, 4)) == []
