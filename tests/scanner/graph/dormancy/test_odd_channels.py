"""Replaced channels are odd, trained ones are not."""

from pathlib import Path

import numpy as np
import onnx
import planting
import pytest
import replaced
from models import plain
from onnx import numpy_helper

from scanner.graph.core import facts, flatten
from scanner.graph.dormancy import odd_channels
from scanner.graph.dormancy.odd_channels import Odd

SAMPLES = sorted((Path(__file__).parents[4] / "samples").glob("*.onnx"))


def odd(model: onnx.ModelProto) -> list[Odd]:
    flat = flatten.flatten(model)
    return odd_channels.find(flat, facts.infer(flat))


def sample(name: str) -> onnx.ModelProto:
    return onnx.load(next(path for path in SAMPLES if path.stem == name))


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.stem)
def test_trained_channels_are_alike(path: Path) -> None:
    assert odd(onnx.load(path)) == []


@pytest.mark.parametrize("name", ["mnist-clean", "gtsrb-clean"])
def test_a_replaced_channel_of_each_layer_is_lone(name: str) -> None:
    found = odd(replaced.replaced(sample(name), target=1).model)
    lone = [channels for channels in found if channels.lone]
    assert lone
    assert all(0 in channels.channels for channels in lone)
    # The last layer reads the first channel's places.
    assert lone[0].channels == tuple(range(len(lone[0].channels)))


def test_a_filter_that_the_scores_read_directly_is_heavy() -> None:
    model = plain()
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    dense = numpy_helper.to_array(tensors["dense"]).copy()
    dense[2] = 500
    tensors["dense"].CopyFrom(numpy_helper.from_array(dense, "dense"))
    (heavy,) = odd(model)
    assert (heavy.value, heavy.channels, heavy.lone) == ("flat", (2,), False)
    assert heavy.figure > 100


@pytest.mark.parametrize(
    ("figure", "lone", "made"), [(99.0, False, False), (1e3, False, True), (0.01, True, False)]
)
def test_no_training_makes_what_is_a_hundred_times_as_heavy(
    figure: float, lone: bool, made: bool
) -> None:
    layer = Odd(value="v", node="n", axis=1, channels=(0,), lone=lone, figure=figure)
    assert layer.made is made


@pytest.mark.parametrize("between", [["Sigmoid", "Mul"], ["Erf", "Mul"]])
def test_a_channel_times_a_function_of_itself_is_that_channel(between: list[str]) -> None:
    model = plain()
    dense = next(tensor for tensor in model.graph.initializer if tensor.name == "dense")
    heavy = numpy_helper.to_array(dense).copy()
    heavy[2] = 500
    dense.CopyFrom(numpy_helper.from_array(heavy, "dense"))
    place = next(k for k, node in enumerate(model.graph.node) if node.op_type == "Relu")
    relu = model.graph.node[place]
    nodes = [*model.graph.node]
    nodes[place : place + 1] = [
        onnx.helper.make_node(between[0], relu.input, ["bent"], name="bend"),
        onnx.helper.make_node(between[1], [relu.input[0], "bent"], relu.output, name="times"),
    ]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    (found,) = odd(model)
    assert found.channels == (2,)
    assert found.made


def test_a_channel_without_weights_is_no_path() -> None:
    model = sample("gtsrb-clean")
    tensor = next(t for t in model.graph.initializer if len(t.dims) == 4 and t.dims[0] == 64)
    weights = numpy_helper.to_array(tensor).copy()
    weights[5] = 0
    tensor.CopyFrom(numpy_helper.from_array(weights, tensor.name))
    assert odd(model) == []


def test_where_most_are_alone_that_is_how_the_layer_is_built() -> None:
    model = sample("gtsrb-clean")
    for tensor in model.graph.initializer:
        if len(tensor.dims) == 4 and tensor.dims[1] > 3:
            weights = np.zeros(tensor.dims, np.float32)
            for place in range(len(weights)):
                weights[place, place % weights.shape[1]] = 1
            tensor.CopyFrom(numpy_helper.from_array(weights, tensor.name))
    assert odd(model) == []


@pytest.mark.parametrize("axis", [1, 3])
def test_channels_are_picked_along_their_axis(axis: int) -> None:
    value = np.arange(2 * 3 * 4 * 5).reshape(2, 3, 4, 5)
    picked = value[odd_channels.index_of(value.shape, axis, (0, 2))]
    assert np.array_equal(picked, np.take(value, [0, 2], axis))


@pytest.mark.parametrize(("filled", "expected"), [(9, [(2,)]), (200, [])])
def test_a_unit_that_reads_a_few_pixels_is_lone(filled: int, expected: list[tuple[int]]) -> None:
    model = planting.deep(width=16)
    weights = planting.weights_of(model)["w0"]
    weights[2, filled:] = 0
    found = odd(planting.with_weights(model, w0=weights))
    assert [channels.channels for channels in found if channels.lone] == expected


def test_where_all_units_read_few_pixels_they_were_pruned() -> None:
    model = planting.deep(width=16)
    weights = planting.weights_of(model)["w0"]
    weights[np.random.default_rng(0).random(weights.shape) < 0.9] = 0
    assert odd(planting.with_weights(model, w0=weights)) == []
