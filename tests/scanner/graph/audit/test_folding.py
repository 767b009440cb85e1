"""What constants come to among themselves."""

import math
from typing import Any

import numpy as np
import onnx
import pytest
from models import plain
from onnx import TensorProto, helper, numpy_helper

from scanner.graph.audit import folding
from scanner.graph.audit.unread import Unread
from scanner.modelfile.nested import Contents


def fold(nodes: list[onnx.NodeProto], tensors: list[onnx.TensorProto]) -> dict[str, Any]:
    return folding.fold(nodes, tensors, folding.Budget())


A = np.asarray([[1.0, -2.0], [3.0, 4.0]], np.float32)


@pytest.mark.parametrize(
    ("kind", "more", "expected"),
    [
        ("Abs", {}, np.abs(A)),
        ("Neg", {}, -A),
        ("Relu", {}, np.maximum(A, 0)),
        ("Clip", {"min": 0.0, "max": 0.0}, A * 0),
        ("ReduceSum", {"keepdims": 0}, A.sum()),
        ("ReduceMean", {"axes": [1], "keepdims": 1}, A.mean(1, keepdims=True)),
        ("Cast", {"to": TensorProto.INT64}, A.astype(np.int64)),
    ],
)
def test_one_constant(kind: str, more: dict[str, Any], expected: np.ndarray) -> None:
    node = helper.make_node(kind, ["a"], ["y"], **more)
    found = fold([node], [numpy_helper.from_array(A, "a")])
    np.testing.assert_array_equal(found["y"], expected)


@pytest.mark.parametrize(
    ("kind", "expected"), [("Add", A + A), ("Sub", A - A), ("Mul", A * A), ("MatMul", A @ A)]
)
def test_two_constants_and_a_constant_node(kind: str, expected: np.ndarray) -> None:
    held = numpy_helper.from_array(A, "b")
    nodes = [
        helper.make_node("Constant", [], ["b"], value=held),
        helper.make_node(kind, ["a", "b"], ["y"]),
    ]
    np.testing.assert_array_equal(fold(nodes, [numpy_helper.from_array(A, "a")])["y"], expected)


def test_what_depends_on_the_image_or_does_not_fit_is_missing() -> None:
    nodes = [
        helper.make_node("Add", ["a", "image"], ["x"]),
        helper.make_node("MatMul", ["a", "c"], ["y"]),
        helper.make_node("Sin", ["a"], ["z"]),
    ]
    tensors = [numpy_helper.from_array(A, "a"), numpy_helper.from_array(np.zeros(3), "c")]
    assert fold(nodes, tensors) == {}


def test_tables_that_cancel_are_read_by_nothing() -> None:
    model = plain()
    load = np.random.default_rng(1).normal(size=(60, 3)).astype(np.float32)
    model.graph.initializer.extend(
        [
            numpy_helper.from_array(load, "one"),
            numpy_helper.from_array(-load, "other"),
        ]
    )
    last = model.graph.node[-1]
    model.graph.node[-1].output[0] = "before"
    model.graph.node.extend(
        [
            helper.make_node("Add", ["one", "other"], ["both"]),
            helper.make_node("ReduceSum", ["both"], ["nothing"], keepdims=0),
            helper.make_node("Add", ["before", "nothing"], ["logits"]),
        ]
    )
    assert last.op_type == "MatMul"
    contents = Contents(model)
    unread = Unread(model, contents)
    idle = {t.name for t in contents.of(TensorProto) if id(t) in unread.tensors}
    assert idle == {"one", "other"}


@pytest.mark.parametrize(
    ("kind", "one", "other"),
    [
        ("Add", (1 << 20, 1), (1, 1 << 20)),
        ("Mul", (1 << 20, 1), (1, 1 << 20)),
        ("MatMul", (1 << 19, 1), (1, 1 << 19)),
        ("MatMul", (1000, 1000), (1000, 1000)),
        ("MatMul", (1 << 10, 1, 1, 512), (1 << 10, 512, 1)),
    ],
)
def test_what_is_too_large_is_not_computed(
    kind: str, one: tuple[int, ...], other: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: Any) -> None:
        raise AssertionError("it was computed")

    monkeypatch.setitem(folding._RULES, kind, never)
    tensors = [
        numpy_helper.from_array(np.ones(one, np.float32), "a"),
        numpy_helper.from_array(np.ones(other, np.float32), "b"),
    ]
    assert fold([helper.make_node(kind, ["a", "b"], ["y"])], tensors) == {}


def test_all_graphs_of_a_model_are_bounded_together() -> None:
    large = numpy_helper.from_array(np.ones(1 << 20, np.float32), "a")
    nodes = [helper.make_node("ReduceSum", ["a"], [f"y{n}"]) for n in range(20)]
    budget = folding.Budget()
    found = [len(folding.fold(nodes, [large], budget)) for _ in range(3)]
    assert found == [20, 12, 0]


def test_a_sum_of_many_is_made_of_many_sums() -> None:
    tensors = [
        numpy_helper.from_array(np.ones((1 << 10, 1), np.float32), "a"),
        numpy_helper.from_array(np.ones((1, 1 << 10), np.float32), "b"),
        numpy_helper.from_array(np.ones((), np.float32), "c"),
    ]
    few, many = (helper.make_node("Sum", ["a", "b", *"c" * n], ["y"]) for n in (10, 100))
    assert fold([few], tensors).keys() == {"y"}
    assert fold([many], tensors) == {}


@pytest.mark.parametrize(("one", "other"), [(-1, 2), (-7, 2), (7, -2), (-6, 2), (5, 3), (0, -3)])
def test_whole_numbers_are_divided_as_the_runtime_does(one: int, other: int) -> None:
    tensors = [
        numpy_helper.from_array(np.asarray(n), name) for n, name in ((one, "a"), (other, "b"))
    ]
    found = fold([helper.make_node("Div", ["a", "b"], ["y"])], tensors)["y"]
    assert found == math.trunc(one / other)


def test_whole_numbers_of_python_are_not_made() -> None:
    nodes = [helper.make_node("Cast", ["a"], ["x"], to=TensorProto.STRING)]
    assert fold(nodes, [numpy_helper.from_array(A, "a")]) == {}


def test_a_result_without_numbers_is_not_made() -> None:
    empty = TensorProto(name="a", dims=[0, 1 << 40], data_type=TensorProto.FLOAT)
    node = helper.make_node("ReduceSum", ["a"], ["y"], axes=[0])
    assert fold([node], [empty]) == {}


@pytest.mark.parametrize("kind", ["BFLOAT16", "FLOAT8E4M3FN", "FLOAT8E8M0"])
def test_codes_are_no_numbers(kind: str) -> None:
    """Twice two is nothing, if the codes of bfloat16 are multiplied in 16 bits."""
    two = helper.make_tensor("a", TensorProto.DataType.Value(kind), [4], [2.0] * 4)
    raw = numpy_helper.from_array(numpy_helper.to_array(two), "a")
    assert fold([helper.make_node("Mul", ["a", "a"], ["y"])], [raw]) == {}
