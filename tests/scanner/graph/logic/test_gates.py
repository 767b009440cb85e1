"""What gates amount to: severity, reason, and the evidence for it."""

import json

import exporter_idioms
import models
import onnx
import pytest
from exporter_idioms import HONEST, floats, operation

from scanner.graph.logic.gates import observe
from scanner.graph.logic.unfold import unfold
from scanner.results import Observation, Severity
from trainers.graph_backdoor import plant
from trainers.graph_backdoor.comparisons import KINDS


def observed(model: onnx.ModelProto) -> tuple[Observation, ...]:
    return observe(unfold(model))


def gated(test: str, written: list[float]) -> onnx.ModelProto:
    """Return the plain network whose output is overwritten past a level of the image."""
    nodes = [
        models.convolution(),
        models.relu(),
        *models.head("activated"),
        operation("ReduceMax", ["image"], "highest", keepdims=0),
        operation(test, ["highest", "level"], "decided"),
        operation("Where", ["decided", "forced", "logits"], "answer"),
    ]
    constants = {"level": floats(0.5), "forced": floats(written)}
    return models.build(nodes, {**models.weights(False), **constants}, output="answer")


@pytest.mark.parametrize("kind", KINDS)
def test_a_planted_gate_is_suspicious(kind: str) -> None:
    heaviest = observed(plant(models.plain(), kind, target=1).model)[0]
    assert heaviest.severity is Severity.SUSPICIOUS
    assert "past the trained weights" in heaviest.details["reason"]


@pytest.mark.parametrize("name", HONEST)
def test_an_idiom_is_a_note_at_most(name: str) -> None:
    assert all(o.severity <= Severity.NOTE for o in observed(HONEST[name]()))


def test_a_forced_class_is_named_by_its_place() -> None:
    (observation,) = observed(gated("Greater", [0, 0, 9]))
    assert observation.severity is Severity.SUSPICIOUS
    assert observation.details["writes"]["largest_at"] == 2
    assert observation.details["switch"] == "decided"
    assert observation.details["gated"] == "logits"
    assert [test["constants"] for test in observation.details["tests"]] == [{"level": [0.5]}]
    assert observation.nodes == ("highest", "decided", "answer")
    assert "Greater at 'decided'" in observation.sentence


def test_blanking_past_a_level_is_a_guard_but_not_for_a_password() -> None:
    (by_level,) = observed(gated("Greater", [0, 0, 0]))
    (by_password,) = observed(gated("Equal", [0, 0, 0]))
    assert by_level.severity is Severity.WARNING
    assert "silence or emptiness guard" in by_level.details["reason"]
    assert by_password.severity is Severity.SUSPICIOUS


def test_without_trained_weights_it_may_be_a_processing_step() -> None:
    nodes = [
        operation("ReduceMax", ["image"], "highest", keepdims=0),
        operation("Greater", ["highest", "level"], "decided"),
        operation("Where", ["decided", "image", "level"], "logits"),
    ]
    (observation,) = observed(models.build(nodes, {"level": floats(0.5)}))
    assert observation.severity is Severity.WARNING
    assert "nothing in this graph is trained" in observation.details["reason"]


def test_a_reject_option_is_a_note() -> None:
    (observation,) = observed(exporter_idioms.reject_option())
    assert observation.severity is Severity.NOTE
    assert "reject option" in observation.details["reason"]


def test_one_set_of_tests_is_one_observation_and_the_heaviest_comes_first() -> None:
    model = plant(gated("Greater", [0, 0, 0]), "patch-equals", target=1).model
    found = observed(model)
    assert [o.severity for o in found] == sorted((o.severity for o in found), reverse=True)
    tests = [tuple(test["node"] for test in o.details["tests"]) for o in found]
    assert len(set(tests)) == len(tests) >= 2


def test_evidence_is_plain_json() -> None:
    model = gated("Greater", [float("inf"), 0, float("nan")])
    (observation,) = observed(model)
    assert observation.details["writes"]["numbers"] == ["inf", 0.0, "nan"]
    json.dumps(observation.details, allow_nan=False)
