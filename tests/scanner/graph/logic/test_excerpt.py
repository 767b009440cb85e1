"""The sub-graph that is shown, and the models with which a gate is opened and held."""

import numpy as np
import onnx
import pytest
from models import plain

from scanner.graph.logic.excerpt import element_type, excerpt, held, openable
from scanner.graph.logic.gates import observe
from scanner.graph.logic.unfold import unfold
from scanner.instruments.runtime import open_session
from scanner.settings import Device
from trainers.graph_backdoor import Planted, plant
from trainers.graph_backdoor.comparisons import KINDS

IMAGE = np.random.default_rng(0).uniform(0.05, 0.9, (1, 1, 8, 8)).astype(np.float32)


def planted_with_details(kind: str) -> tuple[Planted, dict[str, object]]:
    planted = plant(plain(), kind, target=1)
    (observation, *_) = observe(unfold(planted.model))
    return planted, dict(observation.details)


@pytest.mark.parametrize("kind", sorted(set(KINDS) - {"loop", "if-branch"}))
def test_the_excerpt_is_a_graph_in_order(kind: str) -> None:
    planted, details = planted_with_details(kind)
    cut = excerpt(planted.model, details)
    known = {v.name for v in cut.graph.input} | {t.name for t in cut.graph.initializer}
    for node in cut.graph.node:
        assert set(node.input) <= known | {""}
        known |= set(node.output)
    assert {v.name for v in cut.graph.output} <= known
    assert onnx.ModelProto.FromString(cut.SerializeToString()) == cut


def test_large_weights_are_left_out_of_the_excerpt() -> None:
    planted, details = planted_with_details("where")
    big = planted.model.graph.initializer.add()
    big.CopyFrom(onnx.numpy_helper.from_array(np.zeros(70_000, np.float32), "big"))
    gate = next(n for n in planted.model.graph.node if n.name in planted.gate)
    gate.input[1] = "big"
    cut = excerpt(planted.model, details)
    assert "big" not in {t.name for t in cut.graph.initializer}
    assert "big" in {v.name for v in cut.graph.input}


@pytest.mark.parametrize("kind", ["where", "patch-equals", "function", "loop", "if-branch"])
def test_a_gate_held_open_forces_the_target_on_any_image(kind: str) -> None:
    planted, details = planted_with_details(kind)
    switch = str(details["switch"])
    trigger = openable(planted.model, switch)
    assert trigger is not None
    closed = open_session(trigger.SerializeToString(), Device.CPU, 1).run(IMAGE, [switch])[0]
    whole = open_session(
        held(planted.model, switch, element_type(closed)).SerializeToString(), Device.CPU, 1
    )
    honest = open_session(plain().SerializeToString(), Device.CPU, 1).run(IMAGE)[0]
    np.testing.assert_allclose(
        whole.feed({"image": IMAGE, switch: closed}, ["logits"])[0], honest, rtol=1e-5
    )
    assert whole.feed({"image": IMAGE, switch: np.asarray(~closed)}, ["logits"])[0].argmax() == 1


def test_a_switch_inside_a_body_cannot_be_held() -> None:
    assert openable(plain(), "1:inner") is None
