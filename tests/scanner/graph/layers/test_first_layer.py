"""The stem that is cut as bytes is the stem that onnx cuts, byte for byte; or it is not cut."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import exporter_idioms
import models
import numpy as np
import onnx
import pytest
from hostile import attacks
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper

from scanner.graph.layers import first_layer
from scanner.limits import Limits
from scanner.modelfile import fast_reader, parser
from scanner.modelfile import model as opened
from scanner.modelfile.model import Model

SAMPLES = sorted((Path(__file__).parents[4] / "samples").glob("*.onnx"))
LIMITS = Limits(memory=2**30)
BUILT: dict[str, Callable[[], onnx.ModelProto]] = {
    **{name: lambda build=build: build(True) for name, build in models.MEASURABLE.items()},  # type: ignore[misc]
    **{
        f.__name__: f
        for f in (models.without_activation, models.with_nan, models.fused_convolution)
    },
    **exporter_idioms.HONEST,
    **attacks.MALFORMED,
    **{
        name: build
        for name, build in attacks.REFUSED.items()
        if name not in {"function_chain", "node_flood"}
    },
    **{
        f.__name__: f
        for f in (attacks.hostile_names, attacks.custom_operator, attacks.memory_at_run_time)
    },
}


def quick(data: bytes, limits: Limits = LIMITS) -> first_layer.Stem | None:
    """Return the stem cut as bytes, None where the file was declined; onnx must see the same."""
    file = fast_reader.read(data, limits)
    if file is None:
        return None
    model = Model(Path("m.onnx"), "m.onnx", data, limits)
    assert opened._identity("m", data, file) == opened._identity(
        "m", data, parser.parse(data, "m", limits)
    )
    found = first_layer._plain_stem(file, limits)
    if found is not None:
        assert found == first_layer._parsed_stem(model, None)
    return found


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.stem)
def test_a_sample_is_cut_as_bytes(path: Path) -> None:
    assert quick(path.read_bytes()) is not None


@pytest.mark.parametrize("build", BUILT.values(), ids=BUILT)
def test_no_model_is_seen_otherwise(build: Callable[[], onnx.ModelProto]) -> None:
    quick(build().SerializeToString())


@pytest.mark.parametrize("opset", [*fast_reader._OPSETS])
def test_every_operator_set_gives_the_same_bytes(opset: int) -> None:
    assert quick(models.plain(opset=opset).SerializeToString()) is not None


def normalised() -> onnx.ModelProto:
    nodes = [
        models.convolution(),
        helper.make_node(
            "BatchNormalization", ["convolved", "bias", "bias", "bias", "bias"], ["normal"]
        ),
        helper.make_node("Relu", ["normal"], ["activated"]),
        *models.head("activated"),
    ]
    return models.build(nodes, models.weights(False))


def test_a_normalisation_may_lie_between() -> None:
    assert quick(normalised().SerializeToString()) is not None


def test_a_second_convolution_may_lie_between() -> None:
    nodes = [
        helper.make_node("Conv", ["image", "one"], ["first"]),
        models.convolution("first"),
        models.relu(),
        *models.head("activated"),
    ]
    constants = {**models.weights(False), "one": np.ones((1, 1, 1, 1), np.float32)}
    assert quick(models.build(nodes, constants).SerializeToString()) is not None


def test_what_comes_before_the_first_relu_is_left_to_onnx() -> None:
    """It may be another activation."""
    nodes = [
        helper.make_node("Conv", ["image", "one"], ["first"]),
        helper.make_node("HardSigmoid", ["first"], ["gate"]),
        models.convolution("first"),
        models.relu(),
        *models.head("activated"),
    ]
    constants = {**models.weights(False), "one": np.ones((1, 1, 1, 1), np.float32)}
    assert quick(models.build(nodes, constants).SerializeToString()) is None


@pytest.mark.parametrize(
    "shape", [("N", 1, "H", 8), ("N", 2, 8, 8), (0, 1, 8, 8), ("N", 1, 0, 8), ("N", 1, 8), ()]
)
def test_an_input_that_does_not_fit_is_left_to_onnx(shape: tuple[int | str, ...]) -> None:
    assert quick(models.plain(input_shape=shape).SerializeToString()) is None


@pytest.mark.parametrize(
    "attributes",
    [
        {"pads": [1, 1]},
        {"pads": [-1, 0, 0, 0]},
        {"strides": [0, 1]},
        {"dilations": [9, 9]},
        {"group": 2},
        {"kernel_shape": [5, 5]},
        {"auto_pad": "SAME_UPPER"},
        {"strides": [1]},
        {"group": 0},
    ],
    ids=str,
)
def test_a_convolution_that_does_not_fit_is_left_to_onnx(attributes: dict[str, Any]) -> None:
    nodes = [
        helper.make_node("Conv", ["image", "kernel", "bias"], ["convolved"], **attributes),
        models.relu(),
    ]
    data = models.build(
        [*nodes, *models.head("activated")], models.weights(False)
    ).SerializeToString()
    assert fast_reader.read(data, LIMITS) is not None
    assert quick(data) is None


def test_a_value_beyond_the_memory_limit_is_left_to_onnx() -> None:
    data = models.plain().SerializeToString()
    assert quick(data, Limits(memory=1024)) is not None
    assert quick(data, Limits(memory=1023)) is None


def test_a_named_layer_is_left_to_onnx(tmp_path: Path) -> None:
    model = opened.open_model(models.save(models.plain(), tmp_path / "m.onnx"))
    assert (
        first_layer.cut(model, None)
        == first_layer.cut(model, "activated")
        == first_layer.cut(model, "relu")
    )
    assert first_layer.cut(model, "conv").value == "convolved"


MUTATED = [models.plain().SerializeToString(), normalised().SerializeToString()]


@settings(max_examples=2000, deadline=None)
@given(st.data())
def test_no_twist_of_several_bytes_is_seen_otherwise(data: st.DataObject) -> None:
    original = data.draw(st.sampled_from(MUTATED))
    start = data.draw(st.integers(0, len(original)))
    end = data.draw(st.integers(start, min(len(original), start + 8)))
    quick(original[:start] + data.draw(st.binary(max_size=8)) + original[end:])


@pytest.mark.parametrize("original", MUTATED, ids=["plain", "normalised"])
def test_no_flip_of_a_bit_is_seen_otherwise(original: bytes) -> None:
    weights = {i for t in models.plain().graph.initializer for i in _span(original, t.raw_data)}
    places = [(p, bit) for p in range(len(original)) if p not in weights for bit in range(8)]
    cut = [
        quick(original[:p] + bytes([original[p] ^ 1 << bit]) + original[p + 1 :])
        for p, bit in places
    ]
    assert len(cut) - cut.count(None) > 100


def _span(data: bytes, part: bytes) -> range:
    """Return where a tensor's elements lie, without the first byte: all are treated alike."""
    start = data.index(part)
    return range(start + 1, start + len(part))


def test_no_truncation_and_no_repetition_is_seen_otherwise() -> None:
    for original in MUTATED:
        for position in range(len(original)):
            quick(original[:position])
            quick(original + original[:position])
