"""Numbers that are drawn, and the size of the batch, where answers depend on them."""

from collections.abc import Callable, Sequence
from typing import Any

import exporter_idioms
import models
import numpy as np
import onnx
import onnxruntime
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


def test_the_rest_beside_an_open_batch_is_no_size_of_it() -> None:
    """The scale of an attention over tokens, whose count or depth an exporter wrote as -1."""
    for target, axis, found in (
        (("batch", "minus", "four"), -1, None),
        (("batch", "minus", "four"), 1, None),
        (("batch", "four", "minus"), -1, None),
        (("minus", "four", "four"), 0, "Mul(logits)"),
        (("four", "minus", "four"), 1, "Mul(logits)"),
    ):
        nodes = [
            node("Shape", ["image"], "sizes"),
            node("Slice", ["sizes", "nought", "one"], "batch"),
            node("Concat", target, "wanted", axis=0),
            node("Reshape", ["image", "wanted"], "tokens"),
            node("Shape", ["tokens"], "shape"),
            node("Gather", ["shape", "place"], "size"),
            node("Cast", ["size"], "wide", to=1),
            node("Sqrt", ["wide"], "number"),
            MUL,
        ]
        lists: dict[str, Any] = {"nought": [0], "one": [1], "minus": [-1], "four": [4]}
        model = small(*nodes, shape=("N", 4, 4), place=axis, **lists)
        assert usage.asks_for_batch_size(model) == found


def small(*nodes: onnx.NodeProto, shape: Sequence[int | str], **constants: Any) -> onnx.ModelProto:
    """Return a model from `image`, of a shape, to `logits`."""
    arrays = {name: np.asarray(value) for name, value in constants.items()}
    return models.build(nodes, arrays, input_shape=tuple(shape))


def padded() -> list[onnx.NodeProto]:
    """Return nodes that pad the last axis by so much that a size is divisible by seven.

    As a Swin transformer pads its windows, by PyTorch's older exporter; the size is one of a value
    whose own is computed likewise.
    """

    def once(source: str, result: str) -> list[onnx.NodeProto]:
        inner = [
            node("Shape", [source], "s"),
            node("Gather", ["s", "place"], "size"),
            node("Mod", ["size", "seven"], "over"),
            node("Sub", ["seven", "over"], "missing"),
            node("Mod", ["missing", "seven"], "more"),
            node("Unsqueeze", ["more", "zero"], "more1"),
            node("Concat", ["none", "more1"], "pads", axis=0),
            node("Pad", [source, "pads"], result),
        ]
        for each in inner:
            names = {"s", "size", "over", "missing", "more", "more1", "pads"}
            each.input[:] = [f"{result}/{n}" if n in names else n for n in each.input]
            each.output[:] = [f"{result}/{n}" if n in names else n for n in each.output]
        return inner

    return [
        *once("image", "wide"),
        node("Relu", ["wide"], "r"),
        *once("r", "wider"),
        node("Relu", ["wider"], "q"),
        *once("q", "logits"),
    ]


@pytest.mark.parametrize(("axis", "found"), [(0, True), (1, False), (2, False), (-1, False)])
def test_which_size_is_computed_with_is_followed_through_pads(axis: int, found: bool) -> None:
    model = small(
        *padded(),
        shape=("N", 5, 9),
        place=axis,
        seven=7,
        zero=[0],
        none=[0, 0, 0, 0, 0],
    )
    assert (usage.asks_for_batch_size(model) is not None) is found


def test_both_sizes_at_once_are_told() -> None:
    """The batch's and another one in one product."""
    nodes = [
        SHAPE,
        node("Gather", ["shape", "both"], "sizes"),
        node("ReduceProd", ["sizes"], "size", keepdims=0),
        AS_FLOAT,
        MUL,
    ]
    for places, found in (([0, 1], True), ([1, 1], False)):
        model = small(*nodes, shape=("N", 4), both=places)
        assert (usage.asks_for_batch_size(model) is not None) is found


def test_sizes_that_a_file_leaves_open_are_those_of_the_image() -> None:
    """Height and width are none of the batch's, once it is known what is shown."""
    for place, found in ((0, True), (2, False), (3, False)):
        model = small(SHAPE, PICK, AS_FLOAT, MUL, shape=("N", 3, "H", "W"), place=place)
        assert (usage.asks_for_batch_size(model, (3, 8, 8)) is not None) is found
        assert usage.asks_for_batch_size(model) is not None


FULL = node("ConstantOfShape", ["shape"], "full", value=numpy_helper.from_array(np.array([1])))
ZERO_ONE: dict[str, Any] = {"nought": np.float32(0), "unit": np.float32(1)}
ONES = [node("Mul", ["image", "nought"], "none"), node("Add", ["none", "unit"], "ones")]
SMUGGLED: dict[str, tuple[list[onnx.NodeProto], dict[str, Any]]] = {
    "the shape of a value within": (
        [
            node("Relu", ["image"], "r"),
            node("Transpose", ["r"], "t", perm=[1, 0]),
            node("Shape", ["t"], "shape"),
            PICK,
            AS_FLOAT,
            MUL,
        ],
        {"place": 1},
    ),
    "the number of elements": ([node("Size", ["image"], "size"), AS_FLOAT, MUL], {}),
    "a flat image": (
        [
            node("Reshape", ["image", "minus"], "flat"),
            node("Shape", ["flat"], "shape"),
            PICK,
            AS_FLOAT,
            MUL,
        ],
        {"minus": [-1], "place": 0},
    ),
    "a shape of unknown rank": (
        [
            node("Transpose", ["image"], "t", perm=[1, 0]),
            node("Shape", ["t"], "s"),
            node("Mul", ["image", "nought"], "none"),
            node("ReduceMax", ["none"], "least", keepdims=0),
            node("Add", ["least", "two"], "rank"),
            node("Cast", ["rank"], "whole", to=7),
            node("Unsqueeze", ["whole", "start"], "found"),
            node("Slice", ["s", "start", "found"], "wanted"),
            node("Reshape", ["t", "wanted"], "again"),
            node("Shape", ["again"], "shape"),
            PICK,
            AS_FLOAT,
            MUL,
        ],
        {"start": [0], "place": 1, "nought": np.float32(0), "two": np.float32(2)},
    ),
    "the largest index of a constant": (
        [
            SHAPE,
            FULL,
            node("NonZero", ["full"], "places"),
            node("ReduceMax", ["places"], "size", keepdims=0),
            AS_FLOAT,
            MUL,
        ],
        {},
    ),
    "the last index of a constant": (
        [
            SHAPE,
            FULL,
            node("NonZero", ["full"], "places"),
            node("Slice", ["places", "last", "end", "axis"], "size"),
            AS_FLOAT,
            MUL,
        ],
        {"last": [0, -1], "end": [1, 2**62], "axis": [0, 1]},
    ),
    "how many indices a constant has": (
        [
            SHAPE,
            FULL,
            node("NonZero", ["full"], "places"),
            node("Size", ["places"], "size"),
            AS_FLOAT,
            MUL,
        ],
        {},
    ),
    "how many indices the image has": (
        [
            *ONES,
            node("NonZero", ["ones"], "places"),
            node("Shape", ["places"], "shape"),
            PICK,
            AS_FLOAT,
            MUL,
        ],
        {**ZERO_ONE, "place": 1},
    ),
    "the end of a range": (
        [
            SHAPE,
            PICK,
            node("Range", ["start", "size", "step"], "range"),
            node("Gather", ["range", "last"], "end"),
            node("Cast", ["end"], "number", to=1),
            MUL,
        ],
        {"place": 0, "start": 0, "step": 1, "last": -1},
    ),
    "ones in a row, added up": (
        [
            *ONES,
            node("Reshape", ["ones", "row"], "flat"),
            node("ReduceSum", ["flat", "axis"], "number"),
            MUL,
        ],
        {**ZERO_ONE, "row": [1, -1], "axis": [1]},
    ),
    "ones of unknown rank, added up over another axis": (
        [
            *ONES,
            node("ReduceMax", ["ones"], "one", keepdims=0),
            node("Add", ["one", "unit"], "rank"),
            node("Cast", ["rank"], "whole", to=7),
            node("Unsqueeze", ["whole", "start"], "found"),
            node("Slice", ["wide", "start", "found"], "wanted"),
            node("Reshape", ["ones", "wanted"], "again"),
            node("ReduceSum", ["again", "axis"], "number"),
            MUL,
        ],
        {**ZERO_ONE, "start": [0], "axis": [1], "wide": [1, -1, 7]},
    ),
    "the rest of what may be nothing": (
        [
            node("Slice", ["image", "five", "end"], "later"),
            node("Transpose", ["later"], "t", perm=[1, 0]),
            node("Shape", ["later"], "sizes"),
            node("Slice", ["sizes", "start", "one"], "left"),
            node("Concat", ["left", "minus"], "wanted", axis=0),
            node("Reshape", ["t", "wanted"], "again"),
            node("Shape", ["again"], "shape"),
            PICK,
            AS_FLOAT,
            MUL,
        ],
        {"five": [5], "end": [99], "start": [0], "one": [1], "minus": [-1], "place": 1},
    ),
    "ones added up over another axis": (
        [
            *ONES,
            node("Transpose", ["ones"], "t", perm=[1, 0]),
            node("ReduceSum", ["t", "axis"], "number", keepdims=0),
            node("Mul", ["ones", "number"], "logits"),
        ],
        {**ZERO_ONE, "axis": [1]},
    ),
}


@pytest.mark.parametrize("name", SMUGGLED)
def test_the_batchs_size_is_told_however_it_is_found_out(name: str) -> None:
    nodes, constants = SMUGGLED[name]
    model = small(*nodes, shape=("N", 4), **constants)
    session = onnxruntime.InferenceSession(model.SerializeToString())
    five, six = (session.run(None, {"image": np.ones((n, 4), np.float32)})[0] for n in (5, 6))
    assert np.any(five != six[:5])  # it is what the name says
    assert usage.asks_for_batch_size(model, (4,)) is not None


@pytest.mark.parametrize(("axis", "found"), [(0, True), (1, False), (-1, False)])
def test_ones_that_are_counted_along_another_axis_tell_no_batch(axis: int, found: bool) -> None:
    """As positions are numbered in an EdgeNeXt: row by row, for each image alike."""
    ones = node("ConstantOfShape", ["shape"], "ones", value=_tensor(1.0))
    count = node("CumSum", ["ones", "axis"], "number")
    model = graph(SHAPE, ones, count, MUL, axis=axis)
    assert (usage.asks_for_batch_size(model) is not None) is found


def test_what_a_file_claims_of_a_value_within_is_not_believed() -> None:
    nodes, constants = SMUGGLED["how many indices the image has"]
    model = small(*nodes, shape=("N", 4), **constants)
    model.graph.value_info.append(helper.make_tensor_value_info("places", 7, [2, 12]))
    model.graph.value_info.append(helper.make_tensor_value_info("shape", 7, [2]))
    assert usage.asks_for_batch_size(model) is not None


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


def test_a_slice_along_no_axis_leaves_a_shape_as_it_is() -> None:
    cut = node("Slice", ["shape", "none", "none"], "whole")
    pick = node("Gather", ["whole", "place"], "size")
    for place, found in ((0, "Mul(logits)"), (1, None)):
        none = np.zeros(0, np.int64)
        model = graph(SHAPE, cut, pick, AS_FLOAT, MUL, none=none, place=place)
        assert usage.asks_for_batch_size(model) == found
