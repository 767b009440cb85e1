"""Exports of one network have one fingerprint; another network has another."""

import io
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import models
import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scanner.errors import UnsupportedModelError
from scanner.graph.canonical import drawing
from scanner.graph.canonical.drawing import draw
from scanner.judging.differences import differences
from scanner.results import CanonicalGraph, Relation
from scanner.values import from_json, to_json


def renamed(model: onnx.ModelProto, prefix: str) -> onnx.ModelProto:
    """Return a model of which all names but those of its inputs and outputs are others."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    kept = {value.name for value in (*copy.graph.input, *copy.graph.output)} | {""}
    for node in copy.graph.node:
        node.name = f"{prefix}{node.name}"
        for names in (node.input, node.output):
            names[:] = [name if name in kept else f"{prefix}{name}" for name in names]
    for tensor in copy.graph.initializer:
        tensor.name = f"{prefix}{tensor.name}"
    return copy


def shuffled(model: onnx.ModelProto, seed: int) -> onnx.ModelProto:
    """Return a model whose nodes and initialisers are in another order that can run."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    chance = random.Random(seed)  # noqa: S311 - no secret
    waiting, done = list(model.graph.node), {v.name for v in model.graph.input} | {""}
    done |= {tensor.name for tensor in model.graph.initializer}
    ordered = []
    while waiting:
        ready = [n for n in waiting if done.issuperset(n.input)]
        node = chance.choice(ready)
        waiting.remove(node)
        ordered.append(node)
        done.update(node.output)
    tensors = list(model.graph.initializer)
    chance.shuffle(tensors)
    del copy.graph.node[:], copy.graph.initializer[:]
    copy.graph.node.extend(ordered)
    copy.graph.initializer.extend(tensors)
    return copy


@given(st.text(st.characters(categories=("L", "N")), min_size=1, max_size=9), st.integers(0, 2**31))
def test_names_and_order_say_nothing(prefix: str, seed: int) -> None:
    model = models.plain()
    other = draw(shuffled(renamed(model, prefix), seed))
    own = draw(model)
    assert own.fingerprint == other.fingerprint
    found = differences(own, other)
    assert (found.obstacle, found.changes, found.weights) == ("", (), Relation.EQUAL)


@given(st.integers(0, 2**31), st.integers(0, 2**31))
def test_retrainings_do_not_differ(one: int, other: int) -> None:
    found = differences(draw(models.plain(seed=one)), draw(models.plain(seed=other)))
    assert (found.obstacle, found.changes, found.standing_out) == ("", (), ())
    assert found.suspect == found.reference


@given(st.integers(0, 2**31))
def test_half_precision_is_a_habit(seed: int) -> None:
    weights = models.weights(False, seed)
    nodes = [models.convolution(), models.relu(), *models.head("activated")]
    halves = {name: value.astype(np.float16) for name, value in weights.items()}
    half = draw(models.build(nodes, halves, input_type=onnx.TensorProto.FLOAT16))
    found = differences(half, draw(models.build(nodes, weights)))
    assert found.suspect == found.reference
    assert not found.grave
    assert found.weights is Relation.ROUNDED


def test_int8_is_a_habit(tmp_path: Path) -> None:
    quantization = pytest.importorskip("onnxruntime.quantization")
    model = models.plain()
    source, target = models.save(model, tmp_path / "float.onnx"), tmp_path / "int8.onnx"

    class Reader(quantization.CalibrationDataReader):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            images = np.random.default_rng(0).random((8, 1, 8, 8), np.float32)
            self._batches = iter([{"image": images}])

        def get_next(self) -> Any:
            return next(self._batches, None)

    for form in (quantization.QuantFormat.QDQ, quantization.QuantFormat.QOperator):
        quantization.quantize_static(source, target, Reader(), quant_format=form)
        found = differences(draw(onnx.load(target)), draw(model))
        assert (found.obstacle, found.unexplained) == ("", ()), form
        assert found.weights is Relation.ROUNDED
    quantization.quantize_dynamic(source, target)
    found = differences(draw(onnx.load(target)), draw(model))
    assert not found.grave


def exported(network: Any, images: Any, **options: Any) -> onnx.ModelProto:
    """Return a network as one of PyTorch's exporters writes it."""
    torch = pytest.importorskip("torch")
    buffer = io.BytesIO()
    if options.get("dynamo"):
        pytest.importorskip("onnxscript")
        sizes = ({0: torch.export.Dim("batch")},)
        program = torch.onnx.export(
            network, (images,), dynamic_shapes=sizes, verbose=False, **options
        )
        model: onnx.ModelProto = program.model_proto
        return model
    axes = {"image": {0: "batch"}}
    torch.onnx.export(
        network, (images,), buffer, input_names=["image"], dynamic_axes=axes, **options
    )
    return onnx.load_from_string(buffer.getvalue())


@pytest.mark.filterwarnings("ignore")
def test_both_exporters_folded_or_not_are_one() -> None:
    torch = pytest.importorskip("torch")
    nn = torch.nn
    network = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.GELU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(4, 3),
    )  # fmt: skip
    images = torch.rand(2, 1, 8, 8)
    network(images)
    network.eval()
    forms: list[dict[str, Any]] = [
        {"dynamo": False},
        {
            "dynamo": False,
            "do_constant_folding": False,
            "training": torch.onnx.TrainingMode.PRESERVE,
        },
        {"dynamo": True},
    ]
    graphs = [draw(exported(network, images, **form)) for form in forms]
    assert len({graph.fingerprint for graph in graphs}) == 1
    for graph in graphs[1:]:
        found = differences(graph, graphs[0])
        assert not found.grave
        assert found.weights in {Relation.EQUAL, Relation.ROUNDED}


def told(change: Callable[[onnx.ModelProto], None]) -> CanonicalGraph:
    model = models.plain()
    change(model)
    return draw(model)


def padded(model: onnx.ModelProto) -> None:
    conv = model.graph.node[0]
    conv.attribute[0].ints[:] = [0, 0, 2, 2]


def leaky(model: onnx.ModelProto) -> None:
    model.graph.node[1].op_type = "LeakyRelu"


def rewired(model: onnx.ModelProto) -> None:
    model.graph.node[2].input[0] = "convolved"


@pytest.mark.parametrize("change", [padded, leaky, rewired])
def test_another_network_has_another_fingerprint(
    change: Callable[[onnx.ModelProto], None],
) -> None:
    assert told(change).fingerprint != draw(models.plain()).fingerprint


def test_a_graph_survives_json() -> None:
    graph = draw(models.plain())
    assert from_json(CanonicalGraph, to_json(graph)) == graph


def test_too_many_nodes_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drawing, "_MOST_NODES", 3)
    with pytest.raises(UnsupportedModelError, match="more than the 3 that can be compared"):
        draw(models.plain())
