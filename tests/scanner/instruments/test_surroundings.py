"""What surrounds an image: honest layers that listen to it are named, switches are pointed out."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import listening
import models
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from scanner.instruments import metamorphic, surroundings
from scanner.instruments.interview import Interview
from scanner.results import Observation, Severity
from trainers.graph_backdoor import Graft


def observed(model: onnx.ModelProto, folder: Path) -> tuple[Observation, ...]:
    return metamorphic.search(listening.subject(model, folder)).observations


def test_the_place_that_is_answered_otherwise_is_named(tmp_path: Path) -> None:
    gate = listening.SURROUNDINGS["depends-on-place"]  # the fourth place
    found = [
        observation.sentence
        for target in (1, 2)
        for observation in surroundings.size(
            Interview(listening.subject(listening.gated(gate, target), tmp_path))
        )
    ]
    assert all(
        "in a batch of 4 copies of itself than alone, in place 4" in sentence for sentence in found
    )
    assert found


def test_what_chance_answers_is_not_asked_further(tmp_path: Path) -> None:
    gate = listening.SURROUNDINGS["depends-on-chance"]
    asked = Interview(listening.subject(listening.gated(gate, 1), tmp_path))
    assert asked.settled
    assert len(list(surroundings.repetition(asked))) == 1
    assert not asked.settled


def stem(
    op: str, constants: dict[str, np.ndarray], outputs: int = 1, **attributes: Any
) -> onnx.ModelProto:
    """Return a network behind one operator that reads the image and these constants."""
    names = ["stemmed", *(f"also_{i}" for i in range(1, outputs))]
    node = helper.make_node(op, ["image", *constants], names, name="stem", **attributes)
    body = [models.convolution("stemmed"), models.relu(), *models.head("activated")]
    return models.build([node, *body], {**models.weights(planted=False), **constants})


def _random(keep: float = 0.5) -> onnx.ModelProto:
    ratio, training = np.array(1 - keep, np.float32), np.array(True)
    return stem("Dropout", {"ratio": ratio, "training": training})


def _of_the_batch() -> onnx.ModelProto:
    one, zero = np.ones(1, np.float32), np.zeros(1, np.float32)
    names = {"scale": one, "shift": zero, "mean": zero, "variance": one}
    return stem("BatchNormalization", names, outputs=3, training_mode=1)


@pytest.mark.parametrize(
    ("build", "operator"), [(_random, "Dropout"), (_of_the_batch, "BatchNormalization")]
)
def test_a_layer_left_in_training_mode_is_named_and_no_gate(
    build: Callable[[], onnx.ModelProto], operator: str, tmp_path: Path
) -> None:
    found = observed(build(), tmp_path)
    assert max(o.severity for o in found) == Severity.WARNING
    assert all(o.nodes == ("stem",) and operator in o.sentence for o in found)


def test_dynamic_quantisation_is_a_note(tmp_path: Path) -> None:
    found = observed(models.scaled_by_the_batch(), tmp_path)
    assert max(o.severity for o in found) == Severity.NOTE
    assert all(o.nodes == ("range",) for o in found)


def test_an_optional_input_that_changes_nothing_is_pointed_out(tmp_path: Path) -> None:
    model = models.plain()
    model.graph.initializer.append(numpy_helper.from_array(np.zeros(1, np.float32), "mode"))
    model.graph.input.append(helper.make_tensor_value_info("mode", TensorProto.FLOAT, [1]))
    model.graph.node.append(helper.make_node("Mul", ["logits", "mode"], ["unread"]))
    (observation,) = observed(model, tmp_path)
    assert (observation.code, observation.severity) == ("optional-input", Severity.WARNING)
    assert observation.nodes == ("mode",)


def test_where_every_weight_may_be_fed_none_is_a_switch(tmp_path: Path) -> None:
    assert observed(models.initialisers_as_inputs(), tmp_path) == ()


def test_a_place_beyond_the_usual_sizes_is_reached_where_the_file_names_it(tmp_path: Path) -> None:
    graft = Graft(models.plain(), 1)
    count = graft.node("Shape", [graft.input.name], "count", start=0, end=1)
    scalar = graft.node("Squeeze", [count], "scalar")
    places = graft.node("Range", [np.int64(0), scalar, np.int64(1)], "places")
    there = graft.node("Equal", [places, np.int64(100)], "test")
    push = graft.node("Mul", [graft.column(there), graft.one_hot(50.0)], "push")
    graft.replace_logits(graft.node("Add", [graft.logits, push], "gate"))
    model = graft.planted().model
    (observation,) = surroundings.size(Interview(listening.subject(model, tmp_path)))
    assert observation.severity is Severity.SUSPICIOUS
    assert "in a batch of 101 copies of itself than alone, in place 101" in observation.sentence
    assert graft.tests[0] in observation.nodes
