"""Step graphs: what goes in and comes out, whatever the network calls its own values.

That their arithmetic is that of the loops on the host is tested in test_device_search.py.
"""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import triggered
from onnx.reference import ReferenceEvaluator

from scanner.graph.gradient import step_graphs
from scanner.graph.gradient.backward import Objective
from scanner.graph.gradient.step_graphs import (
    ASCENT,
    BOUNDLESS,
    INVERSION,
    Classified,
    Descent,
    StepGraph,
)
from scanner.instruments.differentiable import written
from scanner.modelfile.model import open_model

SHAPE = (1, 8, 8)
DESCENT = Descent(
    channels=0,
    learning_rate=0.1,
    betas=(0.5, 0.9),
    tiny=1e-8,
    hits=3,
    first_cost=0.01,
    patience=2,
    cost_up=2.0,
    cost_down=3.0,
    smaller=0.999,
    early_stop=5,
)


def network(folder: Path, objective: Objective, made: onnx.ModelProto | None = None) -> Classified:
    subject = triggered.subject(made or triggered.classifier(), folder)
    return Classified(
        gradient=written(subject.model, subject.settings, objective).gradient,
        image="image",
        shape=SHAPE,
        classes=4,
        low=0.0,
        high=1.0,
    )


def inversion(folder: Path, batch: int = 3, made: onnx.ModelProto | None = None) -> StepGraph:
    return step_graphs.inversion(
        network(folder, Objective.CROSS_ENTROPY, made), DESCENT, images=6, batch=batch, block=4
    )


def feeds(graph: StepGraph, **given: Any) -> dict[str, Any]:
    """Return a value for each input: zeros, but for those that are given."""
    return {
        place.read: np.asarray(given.get(name, np.zeros(place.shape)))
        .reshape(place.shape)
        .astype(place.dtype)
        for name, place in graph.places.items()
    }


def step(graph: StepGraph, **given: Any) -> dict[str, Any]:
    """Take one step in the reference evaluator."""
    outputs = [o.name for o in graph.proto.graph.output]
    found = ReferenceEvaluator(graph.proto).run(outputs, feeds(graph, **given))
    by_output = dict(zip(outputs, found, strict=True))
    return {n: by_output[p.written] for n, p in graph.places.items() if p.written}


def numbers(**given: float) -> list[float]:
    start = dict.fromkeys(INVERSION, 0.0) | {"size": BOUNDLESS}
    return [(start | given)[name] for name in INVERSION]


@pytest.mark.parametrize("batch", [3, 6])
def test_a_step_graph_is_a_model_whose_state_keeps_its_shape(batch: int, tmp_path: Path) -> None:
    graph = inversion(tmp_path, batch)
    onnx.checker.check_model(graph.proto)
    state = {n: p.shape for n, p in graph.places.items() if p.written}
    assert ("draws" in graph.places) == (batch < 6)
    assert state["a"] == state["mask"] == (1, 1, 8, 8)
    after = step(graph, images=np.full((6, *SHAPE), 0.5), numbers=numbers())
    assert {name: array.shape for name, array in after.items()} == state
    assert all(array.dtype == np.float32 for array in after.values())


def test_images_are_those_that_were_laid_down_for_the_step(tmp_path: Path) -> None:
    """The loss of a step is that of its images: the others are not of the class."""
    graph = inversion(tmp_path)
    images = np.zeros((6, *SHAPE))
    images[[0, 2, 4]] = 1.0
    draws = [[1, 3, 5], [0, 2, 4], [1, 1, 1], [0, 0, 0]]
    losses = [
        dict(zip(INVERSION, step(
            graph, images=images, draws=draws, a=np.full((1, 1, 8, 8), -20.0),
            numbers=numbers(steps=taken),
        )["numbers"], strict=True))["loss"]
        for taken in range(6)
    ]  # fmt: skip
    assert losses[0] == pytest.approx(losses[2]) == pytest.approx(losses[4])
    assert losses[1] == pytest.approx(losses[3]) == pytest.approx(losses[5])
    assert losses[0] != pytest.approx(losses[1])


@pytest.mark.parametrize(
    ("was", "over"),
    [
        ({"size": 9.0, "cost": 0.1, "stale": 5.0}, True),
        ({"size": 9.0, "cost": 0.1, "stale": 4.0}, False),
        ({"size": 9.0, "cost": 0.0, "stale": 5.0}, False),
        ({"cost": 0.1, "stale": 5.0}, False),
        ({"broken": 1.0}, True),
    ],
)
def test_what_is_over_changes_no_more(was: dict[str, float], over: bool, tmp_path: Path) -> None:
    graph = inversion(tmp_path, batch=6)
    kept = np.full((1, 1, 8, 8), 0.25)
    before = numbers(**was)
    after = step(graph, images=np.ones((6, *SHAPE)), numbers=before, mask=kept)
    assert np.array_equal(after["numbers"], np.array(before, np.float32)) == over
    if over:
        np.testing.assert_array_equal(after["mask"], kept)


def test_names_that_a_network_uses_itself_stay_its_own(tmp_path: Path) -> None:
    made = triggered.classifier()
    renamed = {"flat": "step/numbers", "product": "next/numbers", "weights": "step/images"}
    for node in made.graph.node:
        for names in (node.input, node.output):
            names[:] = [renamed.get(name, name) for name in names]
    for tensor in made.graph.initializer:
        tensor.name = renamed.get(tensor.name, tensor.name)
    given = {"images": np.full((6, *SHAPE), 0.5), "numbers": numbers(), "target": 2}
    (tmp_path / "one").mkdir()
    (tmp_path / "other").mkdir()
    plain = step(inversion(tmp_path / "one", 6), **given)
    awkward = step(inversion(tmp_path / "other", 6, made), **given)
    for name, array in plain.items():
        np.testing.assert_array_equal(array, awkward[name])


def test_an_ascent_stays_within_the_range_and_keeps_the_largest_margin(tmp_path: Path) -> None:
    graph = step_graphs.ascent(
        network(tmp_path, Objective.MARGIN), starts=2, first_rate=0.5, decay=0.5
    )
    onnx.checker.check_model(graph.proto)
    x = np.random.default_rng(0).random((2, *SHAPE)).astype(np.float32)
    state = {"x": x, "numbers": np.array([0, -BOUNDLESS, 0], np.float32)}
    margins = list[float]()
    lengths = list[float]()
    for _ in range(4):
        after = step(graph, target=1, **state)
        lengths.append(float(np.abs(after["x"] - state["x"]).max()))
        state = after
        margins.append(dict(zip(ASCENT, after["numbers"], strict=True))["margin"])
        assert 0 <= after["x"].min() <= after["x"].max() <= 1
    assert margins == sorted(margins)
    for length, allowed in zip(lengths, (0.5, 0.25, 0.125, 0.0625), strict=True):
        assert length <= allowed + 1e-6
    assert open_model(tmp_path / "model.onnx").identity.inputs[0].name == "image"
