"""Numbers that are drawn, and the size of the batch, where answers depend on them."""

from collections.abc import Callable, Sequence
from typing import Any

import exporter_idioms
import models
import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from scanner.graph.audit import usage
from scanner.graph.core.flatten import flatten


def graph(*nodes: onnx.NodeProto, batch: int | str = "N", **constants: Any) -> onnx.ModelProto:
    """Return a model from `image` to `logits` of these nodes."""
    arrays = {name: np.asarray(value) for name, value in constants.items()}
    return models.build(nodes, arrays, input_shape=(batch, 4))


def node(kind: str, inputs: Sequence[str], output: str, **attributes: object) -> onnx.NodeProto:
    made = helper.make_node(kind, inputs, [output])
    made.attribute.extend(helper.make_attribute(k, v) for k, v in attributes.items())
    return made


def test_drawn_numbers_that_reach_an_output_are_found() -> None:
    noise = node("RandomNormal", [], "noise", shape=[1])
    add = node("Add", ["image", "noise"], "logits")
    assert usage.drawn(graph(noise, add)) == "RandomNormal(noise)"
    assert usage.drawn(graph(noise, node("Identity", ["image"], "logits"))) is None
    body = helper.make_graph([noise], "b", [], [helper.make_empty_tensor_value_info("noise")])
    chosen = node("If", ["yes"], "number", then_branch=body, else_branch=body)
    inside = graph(chosen, node("Add", ["image", "number"], "logits"), yes=np.array(True))
    assert usage.drawn(inside) == "RandomNormal(noise)"


@pytest.mark.parametrize(("training", "draws"), [(True, True), (False, False)])
def test_a_dropout_draws_in_training_only(training: bool, draws: bool) -> None:
    drop = node("Dropout", ["image", "ratio", "training"], "logits")
    model = graph(drop, ratio=np.float32(0.5), training=np.array(training))
    assert (usage.drawn(model) is not None) is draws
    assert usage.drawn(graph(node("Dropout", ["image"], "logits"))) is None


SHAPE = node("Shape", ["image"], "shape")
PICK = node("Gather", ["shape", "place"], "size")
AS_FLOAT = node("Cast", ["size"], "number", to=1)
MUL = node("Mul", ["image", "number"], "logits")


def test_a_factor_made_of_the_batchs_size_is_found() -> None:
    assert usage.asks_for_batch_size(graph(SHAPE, PICK, AS_FLOAT, MUL, place=0)) == "Mul(logits)"
    assert usage.asks_for_batch_size(graph(SHAPE, PICK, AS_FLOAT, MUL, place=1)) is None
    assert usage.asks_for_batch_size(graph(SHAPE, PICK, AS_FLOAT, MUL, place=-2)) == "Mul(logits)"
    fixed = graph(SHAPE, PICK, AS_FLOAT, MUL, batch=3, place=0)
    assert usage.asks_for_batch_size(fixed) is None


@pytest.mark.parametrize(("start", "end", "found"), [(0, 1, True), (1, 2, False), (-1, 9, False)])
def test_a_slice_is_followed(start: int, end: int, found: bool) -> None:
    cut = node("Slice", ["shape", "start", "end"], "size")
    model = graph(SHAPE, cut, AS_FLOAT, MUL, start=[start], end=[end])
    assert (usage.asks_for_batch_size(model) is not None) is found


def test_a_slice_by_constant_nodes_is_followed() -> None:
    """As PyTorch's older exporter writes the scale of an attention."""
    for start, found in (([-1], None), ([0], "Div(logits)")):
        constants = [
            node("Constant", [], name, value=numpy_helper.from_array(np.array(numbers)))
            for name, numbers in (("from", start), ("to", [start[0] + 1 or 2**62]))
        ]
        nodes = [
            *constants,
            node("Shape", ["image"], "sizes"),
            node("Slice", ["sizes", "from", "to"], "size"),
            node("Cast", ["size"], "number", to=1),
            node("Div", ["image", "number"], "logits"),
        ]
        assert usage.asks_for_batch_size(graph(*nodes)) == found


def test_ones_added_up_are_the_batchs_size() -> None:
    ones = node("ConstantOfShape", ["shape"], "ones", value=_tensor(1.0))
    total = node("ReduceSum", ["ones"], "number", keepdims=0)
    assert usage.asks_for_batch_size(graph(SHAPE, ones, total, MUL)) == "Mul(logits)"
    nothing, one = node("Mul", ["image", "zero"], "none"), node("Add", ["none", "one"], "ones")
    numbers: dict[str, Any] = {"zero": np.float32(0), "one": np.float32(1)}
    model = graph(nothing, one, total, MUL, **numbers)
    assert usage.asks_for_batch_size(model) == "ReduceSum(number)"
    rows = node("ReduceSum", ["ones", "axis"], "number")
    model = graph(nothing, one, rows, MUL, axis=[1], **numbers)
    assert usage.asks_for_batch_size(model) is None


def test_a_branch_chosen_by_the_batchs_size_is_found() -> None:
    body = helper.make_graph(
        [node("Relu", ["image"], "r")], "b", [], [helper.make_empty_tensor_value_info("r")]
    )
    equal = node("Equal", ["size", "seven"], "yes")
    chosen = node("If", ["yes"], "logits", then_branch=body, else_branch=body)
    model = graph(SHAPE, PICK, equal, chosen, place=0, seven=7)
    assert usage.asks_for_batch_size(model) == "If(logits)"


def test_a_size_that_only_gives_a_result_its_shape_is_no_use() -> None:
    """A class token, repeated for each image; and an exporter's way to write Expand."""
    keep = node("Concat", ["size1", "rest"], "wanted", axis=0)
    row = node("Unsqueeze", ["size", "axis"], "size1")
    same = node("Equal", ["wanted", "minus"], "any")
    where = node("Where", ["any", "ones", "wanted"], "sizes")
    token = node("Expand", ["token", "sizes"], "tokens")
    add = node("Add", ["image", "tokens"], "logits")
    model = graph(
        SHAPE, PICK, row, keep, same, where, token, add,
        place=0, axis=[0], rest=[4], minus=-1, ones=[1, 1], token=np.ones((1, 4), np.float32),
    )  # fmt: skip
    assert usage.asks_for_batch_size(model) is None


def _tensor(number: float) -> onnx.TensorProto:
    return numpy_helper.from_array(np.array([number], np.float32))


BUILDS: dict[str, Callable[[], onnx.ModelProto]] = {
    **{name: lambda build=build: build(False) for name, build in models.MEASURABLE.items()},  # type: ignore[misc]
    **exporter_idioms.HONEST,
}


@pytest.mark.parametrize("name", BUILDS)
def test_no_honest_model_is_doubted(name: str) -> None:
    flat = flatten(BUILDS[name]())
    assert usage.drawn(flat) is None
    assert usage.asks_for_batch_size(flat) is None
