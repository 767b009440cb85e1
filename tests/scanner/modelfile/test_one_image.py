"""A file that takes one image is measured as one of a batch of one."""

from pathlib import Path

import models
import numpy as np
import onnx
import onnxruntime as ort
import pytest
import triggered
from hypothesis import given
from hypothesis import strategies as st
from onnx import helper

from scanner.detectors.head import Head
from scanner.detectors.layerwise import Layerwise
from scanner.detectors.mm_bd import MmBd
from scanner.detectors.translation import Translation
from scanner.instruments.detector import Detector
from scanner.modelfile.model import open_model, required_inputs
from scanner.modelfile.one_image import give_batch_axis, takes_one

CHANNELS, SIDE, CLASSES = 2, 8, 5
Sizes = list[int | str]


def value(name: str, sizes: Sizes, kind: int = 1) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, sizes)


@pytest.mark.parametrize(
    ("image", "outputs", "expected"),
    [
        ([3, 8, 8], [[5]], True),
        ([3, 8, 8], [[1, 5]], True),
        ([3, 8, 8], [[1, 5, 1, 1]], True),
        ([1, 8, 8], [[5]], True),
        ([64], [[10]], True),
        ([3, 8, 8], [[5], [16, 4, 4]], True),
        ([1, 8, 8], [[1, 5]], False),
        ([3, 8, 8], [[3, 5]], False),
        ([3, 8, 8], [[5], [3, 5]], False),
        (["N", 8, 8], [["N", 5]], False),
        ([3, "H", 8], [[5]], False),
        ([3, 8, 8], [["C"]], False),
        ([1, 3, 8, 8], [[1, 5]], False),
        ([4, 3, 8, 8], [[4, 5]], False),
        ([3, 8, 8], [[1]], False),
    ],
)
def test_which_files_take_one_image(image: Sizes, outputs: list[Sizes], expected: bool) -> None:
    ends = [value(f"y{place}", sizes) for place, sizes in enumerate(outputs)]
    assert takes_one([value("x", image)], ends) == expected


@given(st.integers(1, 9), st.lists(st.integers(1, 9), max_size=3), st.integers(1, 9))
def test_a_batch_of_images_is_one(count: int, sizes: list[int], classes: int) -> None:
    image, scores = value("x", [count, *sizes]), value("y", [count, classes])
    assert not takes_one([image], [scores])


def network(*, alone: bool, flat: bool = True) -> onnx.ModelProto:
    """Return a network for one image, or the same for a batch."""
    rng = np.random.default_rng(0)
    constants = {
        "kernel": rng.standard_normal((4, CHANNELS, 3, 3)).astype(np.float32),
        "bias": rng.standard_normal(4).astype(np.float32),
        "dense": rng.standard_normal((4, CLASSES)).astype(np.float32),
        "first": np.array([0]),
    }
    node = helper.make_node
    nodes = [
        models.convolution("batch" if alone else "image"),
        models.relu(),
        node("GlobalAveragePool", ["activated"], ["pooled"]),
        node("Flatten", ["pooled"], ["flat"]),
        node("MatMul", ["flat", "dense"], ["row" if alone and flat else "logits"]),
    ]
    size: Sizes = [CHANNELS, SIDE, SIDE]
    scores: Sizes = [CLASSES]
    if alone:
        nodes.insert(0, node("Unsqueeze", ["image", "first"], ["batch"]))
        if flat:
            nodes.append(node("Squeeze", ["row", "first"], ["logits"]))
    if not (alone and flat):
        scores = [1, *scores]
    model = models.build(nodes, constants, input_shape=size if alone else [1, *size])
    model.graph.output[0].CopyFrom(value("logits", scores))
    return model


@pytest.mark.parametrize("named", [True, False])
@pytest.mark.parametrize("flat", [True, False])
def test_it_answers_the_same(flat: bool, named: bool) -> None:
    """Some exporters call a node as its value, and ONNX Runtime wants different names."""
    model = network(alone=True, flat=flat)
    for node in model.graph.node if named else ():
        node.name = node.output[0]
    image = np.random.default_rng(1).random((CHANNELS, SIDE, SIDE), dtype=np.float32)
    before = ort.InferenceSession(model.SerializeToString()).run(None, {"image": image})[0]
    assert give_batch_axis(model, required_inputs(model.graph))
    onnx.checker.check_model(model, full_check=True)
    after = ort.InferenceSession(model.SerializeToString()).run(None, {"image": image[None]})[0]
    assert after.shape == (1, CLASSES)
    np.testing.assert_array_equal(after.reshape(-1), before.reshape(-1))


@pytest.mark.parametrize("flat", [True, False])
@pytest.mark.parametrize("detector", [MmBd(), Head(), Layerwise()], ids=lambda d: d.rule.id)
def test_it_is_measured_as_a_batch_of_one(detector: Detector, flat: bool, tmp_path: Path) -> None:
    subject = triggered.subject(network(alone=True, flat=flat), tmp_path)
    measured = detector.measure(subject).statistic
    batch = triggered.subject(network(alone=False), tmp_path)
    assert measured == pytest.approx(detector.measure(batch).statistic, rel=1e-4)
    assert [o.code for o in Translation().measure(subject).observations] == ["not-its-bytes"]


def test_its_identity_is_that_of_a_batch_of_one(tmp_path: Path) -> None:
    model = open_model(models.save(network(alone=True), tmp_path / "m.onnx"))
    assert model.identity.inputs[0].shape == (1, CHANNELS, SIDE, SIDE)
    assert model.rewritten == "it takes one image, without a batch axis"
    assert model.plain is None
    other = open_model(models.save(network(alone=False), tmp_path / "o.onnx"))
    assert other.identity.architecture == model.identity.architecture
    assert not other.rewritten


def test_a_name_that_is_taken_leaves_the_file_as_it_is() -> None:
    model = network(alone=True)
    model.graph.node[1].output[0] = "image/one"
    model.graph.node[2].input[0] = "image/one"
    assert not give_batch_axis(model, required_inputs(model.graph))
