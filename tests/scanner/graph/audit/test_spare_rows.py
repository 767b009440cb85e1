"""Numbers of tables that no index reaches."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from scanner.graph.audit import carried, spare_rows
from scanner.results import Severity

TABLE = np.random.default_rng(0).normal(size=(40, 10)).astype(np.float32)


def spare(
    nodes: Sequence[onnx.NodeProto], kind: int = TensorProto.FLOAT, **constants: Any
) -> list[spare_rows.Spare]:
    """What is spare of `table`, of which the nodes make "y" for the input "x"."""
    tables = {"table": TABLE, **constants}
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", kind, [1, 3, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.asarray(held), name) for name, held in tables.items()],
    )
    return spare_rows.find([spare_rows.Followed(graph)])


def node(operator: str, inputs: str, output: str, **keys: Any) -> onnx.NodeProto:
    return helper.make_node(operator, inputs.split(), [output], **keys)


CHOICES = [
    ([node("Slice", "table zero ten zero", "y")], TABLE[10:]),
    ([node("Gather", "table rows", "y")], np.delete(TABLE, [1, 3], 0)),
    ([node("Gather", "table zero", "a", axis=1), node("Tanh", "a", "y")], TABLE[:, 1:]),
    ([node("Transpose", "table", "a"), node("Gather", "a rows", "y", axis=1)],
     np.delete(TABLE, [1, 3], 0)),
    ([node("Compress", "table chosen", "y", axis=0)], TABLE[5:]),
    ([helper.make_node("Split", ["table", "parts"], ["y", "unread"], axis=0)], TABLE[8:]),
    ([node("Where", "condition table other", "y")], TABLE[:, 1:]),
    ([node("Reshape", "table flat", "a"), node("GatherElements", "a rows", "y")],
     np.delete(TABLE.reshape(-1), [1, 3])),
    ([node("Mul", "table mask", "y")], TABLE[:, 1:]),
]  # fmt: skip
CONSTANTS: dict[str, Any] = {
    "zero": [0], "ten": [10], "rows": [1, 3], "chosen": np.arange(40) < 5, "parts": [8, 32],
    "condition": np.arange(10) < 1, "other": np.zeros((40, 10), np.float32), "flat": [400],
    "mask": (np.arange(10) < 1).astype(np.float32),
}  # fmt: skip


@pytest.mark.parametrize(("nodes", "left"), CHOICES)
def test_what_constant_places_do_not_take_is_spare(
    nodes: list[onnx.NodeProto], left: np.ndarray
) -> None:
    (found,) = spare(nodes, **CONSTANTS)
    assert found.name == "table"
    np.testing.assert_array_equal(found.numbers, left.reshape(-1))


@pytest.mark.parametrize(("nodes", "left"), CHOICES)
def test_what_is_read_elsewhere_is_not(nodes: list[onnx.NodeProto], left: np.ndarray) -> None:
    assert left.size
    assert not spare(
        [*nodes, node("Tanh", "table", "also"), node("Sum", "y also", "z")], **CONSTANTS
    )


@pytest.mark.parametrize(
    ("before", "rows"),
    [
        ([node("Greater", "x half", "t"), node("Cast", "t", "i", to=TensorProto.INT64)], 2),
        ([node("Clip", "x low high", "t"), node("Cast", "t", "i", to=TensorProto.INT64)], 8),
        ([node("Cast", "x", "t", to=TensorProto.INT64), node("Mod", "t seven", "i")], 7),
        ([node("Sigmoid", "x", "s"), node("Mul", "s high", "t"),
          node("Cast", "t", "i", to=TensorProto.INT64)], 8),
    ],
)  # fmt: skip
def test_indices_are_followed_to_what_bounds_them(before: list[onnx.NodeProto], rows: int) -> None:
    constants: dict[str, Any] = {
        "half": np.float32(0.5), "low": np.float32(0), "high": np.float32(7), "seven": [7],
    }  # fmt: skip
    (found,) = spare([*before, node("Gather", "table i", "y")], **constants)
    np.testing.assert_array_equal(found.numbers, TABLE[rows:].reshape(-1))


def test_a_table_of_pixels_has_256_rows() -> None:
    table = np.random.default_rng(1).normal(size=400).astype(np.float32)
    nodes = [
        node("Round", "x", "r"), node("Cast", "r", "i", to=TensorProto.INT64),
        node("Gather", "table i", "y"),
    ]  # fmt: skip
    direct = [node("Cast", "x", "i", to=TensorProto.INT64), nodes[2]]
    for kind, before in ((TensorProto.FLOAT, nodes), (TensorProto.UINT8, direct)):
        (found,) = spare(before, kind, table=table)
        np.testing.assert_array_equal(found.numbers, table[256:])


@pytest.mark.parametrize(
    "nodes",
    [
        [node("Cast", "x", "i", to=TensorProto.INT64), node("Mul", "i i", "j"),
         node("Gather", "table j", "y")],
        [node("Slice", "table zero x", "y")],
        [node("Gather", "table rows", "y", axis=7)],
        [node("Gather", "table far", "y")],
    ],
)  # fmt: skip
def test_where_nothing_bounds_an_index_nothing_is_spare(nodes: list[onnx.NodeProto]) -> None:
    assert not spare(nodes, **CONSTANTS, far=[99])


def test_fillers_and_a_few_numbers_are_nothing() -> None:
    nodes = [node("Slice", "table zero ten zero", "y")]
    assert not spare(nodes, **CONSTANTS, table=np.zeros((40, 10), np.float32))
    assert not spare(nodes, **CONSTANTS, table=TABLE[:14])


def test_room_is_a_note_and_a_load_there_is_told() -> None:
    load = b"#!/bin/sh\necho nothing\n" + b"true # nothing\n" * 20
    table = np.frombuffer(load, np.uint8).astype(np.float32) / 255
    graph = helper.make_graph(
        [node("Slice", "table zero one zero", "s"), node("Add", "x s", "y")],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 1])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 1])],
        [numpy_helper.from_array(table, "table"),
         numpy_helper.from_array(np.asarray([0]), "zero"),
         numpy_helper.from_array(np.asarray([1]), "one")],
    )  # fmt: skip
    model = helper.make_model(graph)
    found = {o.code: o for o in carried.observe(model, b"")}
    assert found["spare-rows"].severity == Severity.NOTE
    assert found["spare-rows"].details["count"] == len(load) - 1


def test_paths_that_double_at_each_step_end() -> None:
    """Two ways lead through each of 30 steps, so that 2^30 would be followed."""
    ways = []
    for step in range(30):
        value = f"w{step - 1}" if step else "table"
        ways += [
            helper.make_node("Neg", [value], [f"n{step}"]),
            helper.make_node("Where", ["choice", value, f"n{step}"], [f"w{step}"]),
        ]
    sums = [helper.make_node("ArgMax", ["x"], ["s0"])]
    sums += [helper.make_node("Add", [f"s{n}", f"s{n}"], [f"s{n + 1}"]) for n in range(30)]
    sums.append(helper.make_node("Gather", ["table", "s30"], ["y"]))
    for nodes in (ways, sums):
        graph = helper.make_graph(
            nodes,
            "g",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 2])],
            [],
            [
                numpy_helper.from_array(np.arange(2000, dtype=np.float32), "table"),
                numpy_helper.from_array(np.ones(2000, np.bool_), "choice"),
            ],
        )
        uses = spare_rows.Followed(graph)
        spare_rows.find([uses])
        assert uses.left > -(1 << 24)


@pytest.mark.parametrize(
    "step",
    [
        node("Mul", "wide tall", "y"),
        node("Where", "truths tall other", "y"),
        node("Gather", "wide many", "y"),
        node("GatherND", "wide places", "y"),
    ],
    ids=lambda step: step.op_type,
)
def test_what_would_be_made_of_a_table_has_a_limit(step: onnx.NodeProto) -> None:
    long = np.random.default_rng(1).normal(size=100_000).astype(np.float32)
    held: dict[str, Any] = {
        "wide": long[None], "tall": long[:, None], "truths": long[None] > 0, "other": [0.0],
        "many": np.zeros(200_000, np.int64), "places": np.zeros((200_000, 1), np.int64),
    }  # fmt: skip
    used = {name: held[name] for name in step.input}
    assert spare([step], **used) == []


def test_a_condition_is_read_whatever_it_chooses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spare_rows, "_DIFFERENT", 0)
    truths = np.arange(100) < 90
    held: dict[str, Any] = {"truths": truths, "one": np.float32(1), "other": np.float32(2)}
    assert spare([node("Where", "truths one other", "y")], **held) == []
