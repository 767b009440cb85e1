"""Solving tests backwards: where a rule has an answer, the step answers as wanted."""

from typing import Any

import numpy as np
import onnx
import pytest
from models import Array, build
from onnx import helper

from scanner.graph.logic.excerpt import openable
from scanner.graph.logic.open_gate import wanted_inputs
from scanner.graph.logic.unfold import unfold
from scanner.instruments.runtime import open_session
from scanner.settings import Device


def _node(op: str, inputs: list[str], output: str, **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(op, inputs, [output], name=output, **attributes)


def solve(
    nodes: list[onnx.NodeProto], target: Any, constants: dict[str, Array], rounds: int = 1
) -> tuple[Array, Array, Array]:
    """Return the first image, the one after `rounds` of solving, and what the last value became."""
    last = nodes[-1].output[0]
    model = build([*nodes, _node("Identity", [last], "logits")], constants)
    trigger = openable(model, last)
    assert trigger is not None
    flow, session = unfold(model), open_session(trigger.SerializeToString(), Device.CPU, 1)
    names = [v.name for v in trigger.graph.output]
    numbers = {n: a for n in flow.constants if (a := flow.array(n)) is not None}
    first = image = np.random.default_rng(0).uniform(0.05, 0.9, (1, 1, 8, 8)).astype(np.float32)
    for _ in range(rounds):
        values = {**numbers, **dict(zip(names, session.run(image), strict=True)), "image": image}
        wanted = wanted_inputs(flow, last, values, np.full_like(values[last], target))
        assert wanted is not None
        image = np.clip(wanted["image"], 0, 1)
    return first, image, session.run(image, [last])[0]


def f32(numbers: Any) -> Array:
    return np.asarray(numbers, np.float32)


def i64(numbers: Any) -> Array:
    return np.asarray(numbers, np.int64)


def _far(operator: str, test: str) -> list[onnx.NodeProto]:
    """Return how far two pixels are from a level, what joins both, and a test of that."""
    ends = [(f"{name}_start", f"{name}_end") for name in ("one", "other")]
    far = [
        (
            _node("Slice", ["image", start, end, "axes"], f"{start}_pixel"),
            _node("Sub", [f"{start}_pixel", "level"], f"{start}_less"),
            _node("Abs", [f"{start}_less"], f"{start}_far"),
        )
        for start, end in ends
    ]
    joined = ["one_start_far", "other_start_far"]
    last = [_node(operator, joined, "joined"), _node(test, ["joined", "end"], "y")]
    return [*(node for nodes in far for node in nodes), *last]


TWO_PIXELS = {
    "one_start": i64([1, 1]),
    "one_end": i64([2, 2]),
    "other_start": i64([6, 2]),
    "other_end": i64([7, 3]),
    "axes": i64([2, 3]),
    "level": f32(0.3),
}

CASES: dict[str, tuple[list[onnx.NodeProto], Any, dict[str, Array]]] = {
    "the largest of two": (_far("Max", "Less"), True, TWO_PIXELS | {"end": f32(0.01)}),
    "the smallest of two": (_far("Min", "Greater"), True, TWO_PIXELS | {"end": f32(0.65)}),
    "equal": ([_node("Equal", ["image", "c"], "y")], True, {"c": f32(0.25)}),
    "not greater": (
        [_node("Greater", ["image", "c"], "g"), _node("Not", ["g"], "y")],
        True,
        {"c": f32(0.5)},
    ),
    "less": ([_node("Less", ["image", "c"], "y")], True, {"c": f32(0.5)}),
    "less or equal, swapped": ([_node("LessOrEqual", ["c", "image"], "y")], True, {"c": f32(0.5)}),
    "affine": (
        [
            _node("Mul", ["image", "a"], "m"),
            _node("Sub", ["b", "m"], "s"),
            _node("Greater", ["s", "c"], "y"),
        ],
        True,
        {"a": f32(2), "b": f32(1), "c": f32(0.7)},
    ),
    "divided": (
        [_node("Div", ["image", "a"], "d"), _node("Greater", ["d", "c"], "y")],
        True,
        {"a": f32(4), "c": f32(0.2)},
    ),
    "mean": (
        [_node("ReduceMean", ["image"], "m"), _node("Greater", ["m", "c"], "y")],
        True,
        {"c": f32(0.97)},
    ),
    "low mean": (
        [_node("ReduceMean", ["image"], "m"), _node("Less", ["m", "c"], "y")],
        True,
        {"c": f32(0.05)},
    ),
    "highest": (
        [_node("ReduceMax", ["image"], "m"), _node("Greater", ["m", "c"], "y")],
        True,
        {"c": f32(0.95)},
    ),
    "low highest": (
        [_node("ReduceMax", ["image"], "m"), _node("Less", ["m", "c"], "y")],
        True,
        {"c": f32(0.3)},
    ),
    "lowest": (
        [_node("ReduceMin", ["image"], "m"), _node("Greater", ["m", "c"], "y")],
        True,
        {"c": f32(0.4)},
    ),
    "remainder": (
        [
            _node("Mul", ["image", "l"], "s"),
            _node("Round", ["s"], "r"),
            _node("ReduceSum", ["r"], "sum"),
            _node("Mod", ["sum", "m"], "rest", fmod=1),
            _node("Equal", ["rest", "c"], "y"),
        ],
        True,
        {"l": f32(255), "m": f32(97), "c": f32(13)},
    ),
    "arg-max": (
        [
            _node("Flatten", ["image"], "f"),
            _node("ArgMax", ["f"], "a", axis=1),
            _node("Equal", ["a", "c"], "y"),
        ],
        True,
        {"c": i64(9)},
    ),
    "pixels": (
        [
            _node("Gather", ["image", "i"], "row", axis=2),
            _node("Transpose", ["row"], "t", perm=[0, 1, 3, 2]),
            _node("Slice", ["t", "from", "to", "axis"], "part"),
            _node("Equal", ["part", "c"], "y"),
        ],
        True,
        {"i": i64([3, 1]), "from": i64([2]), "to": i64([4]), "axis": i64([2]), "c": f32(0.125)},
    ),
    "pixels by a table, counted from behind": (
        [_node("Gather", ["image", "i"], "p", axis=-1), _node("Equal", ["p", "c"], "y")],
        True,
        {"i": i64([[0, -1], [1, 2]]), "c": f32(0.125)},
    ),
    "pixels without axes": (
        [
            _node("Slice", ["image", "from", "to", "", "step"], "part"),
            _node("Equal", ["part", "c"], "y"),
        ],
        True,
        {"from": i64([0, 0, 6]), "to": i64([1, 1, 8]), "step": i64([1, 1, 1]), "c": f32(0.125)},
    ),
    "a sum over no axes": (
        [
            _node("ReduceSum", ["image", "none"], "same", noop_with_empty_axes=1),
            _node("Greater", ["same", "c"], "y"),
        ],
        True,
        {"none": i64([]), "c": f32(0.95)},
    ),
    "both of two": (
        [
            _node("Greater", ["image", "low"], "over"),
            _node("Less", ["image", "high"], "under"),
            _node("And", ["over", "under"], "y"),
        ],
        True,
        {"low": f32(0.9), "high": f32(2)},
    ),
    "one of two": (
        [
            _node("Greater", ["image", "a"], "g"),
            _node("Equal", ["image", "b"], "e"),
            _node("Or", ["g", "e"], "y"),
        ],
        True,
        {"a": f32(0.9), "b": f32(0.5)},
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_one_walk_backwards_gives_the_wanted_answer(name: str) -> None:
    nodes, target, constants = CASES[name]
    first, image, made = solve(nodes, target, constants)
    assert not np.array_equal(first, image)
    assert made.astype(np.bool_).all()


def test_a_filter_is_met_after_some_rounds() -> None:
    kernel = np.asarray([[1, -1, 1], [-1, 1, -1], [1, -1, 1]], np.float32)[None, None]
    nodes = [
        _node("Conv", ["image", "kernel"], "filtered"),
        _node("ReduceMax", ["filtered"], "best"),
        _node("Greater", ["best", "c"], "y"),
    ]
    _, image, made = solve(nodes, True, {"kernel": kernel, "c": f32(4.7)}, rounds=12)
    assert made.all()
    assert 0 <= image.min() <= image.max() <= 1


def test_a_matrix_is_met_by_the_smallest_move() -> None:
    weights = np.random.default_rng(3).normal(size=(64, 2)).astype(np.float32)
    nodes = [
        _node("Flatten", ["image"], "flat"),
        _node("MatMul", ["flat", "weights"], "scores"),
        _node("Greater", ["scores", "c"], "y"),
    ]
    _, _, made = solve(nodes, True, {"weights": weights, "c": f32(3)}, rounds=6)
    assert made.all()


def test_a_step_without_a_rule_is_not_solved() -> None:
    model = build(
        [_node("Erf", ["image"], "e"), _node("Greater", ["e", "c"], "logits")], {"c": f32(0.5)}
    )
    flow = unfold(model)
    values = {"image": np.zeros((1, 1, 8, 8), np.float32), "e": np.zeros((1, 1, 8, 8), np.float32)}
    values |= {"c": f32(0.5), "logits": np.zeros((1, 1, 8, 8), np.bool_)}
    assert wanted_inputs(flow, "logits", values, np.ones((1, 1, 8, 8), np.bool_)) is None


def test_a_step_whose_rule_does_not_reckon_with_its_padding_is_not_solved() -> None:
    """A filter that is half outside the image has fewer pixels to move than numbers."""
    nodes = [
        _node("Conv", ["image", "kernel"], "filtered", auto_pad="SAME_UPPER"),
        _node("Gather", ["filtered", "last"], "edge", axis=3),
        _node("Greater", ["edge", "c"], "logits"),
    ]
    model = build(nodes, {"kernel": f32(np.ones((1, 1, 3, 3))), "last": i64(7), "c": f32(5.9)})
    trigger = openable(model, "logits")
    assert trigger is not None
    flow, session = unfold(model), open_session(trigger.SerializeToString(), Device.CPU, 1)
    image = np.random.default_rng(0).random((1, 1, 8, 8), dtype=np.float32)
    names = [v.name for v in trigger.graph.output]
    numbers = {n: a for n in flow.constants if (a := flow.array(n)) is not None}
    values = {**numbers, **dict(zip(names, session.run(image), strict=True)), "image": image}
    assert wanted_inputs(flow, "logits", values, np.full_like(values["logits"], True)) is None
