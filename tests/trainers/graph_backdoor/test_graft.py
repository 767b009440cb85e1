"""Grafting: constants, inputs that may be left out, newer operators."""

import numpy as np
import pytest
from models import plain
from onnx import numpy_helper

from trainers.graph_backdoor import Graft
from trainers.graph_backdoor.graft import Operand


@pytest.mark.parametrize(
    ("numbers", "kind"),
    [
        (0.5, "float32"),
        (2, "int64"),
        ([1, 2], "int64"),
        (np.zeros(2), "float32"),
        (np.zeros(2, np.uint8), "uint8"),
        (np.float16(1), "float16"),
    ],
)
def test_numbers_become_constants_of_their_kind(numbers: Operand, kind: str) -> None:
    graft = Graft(plain(), 1)
    graft.node("Identity", [numbers], "test")
    made = numpy_helper.to_array(graft.graph.initializer[-1])
    assert made.dtype == kind
    np.testing.assert_array_equal(made, numbers)


def test_what_a_role_says_is_what_is_listed() -> None:
    graft = Graft(plain(), 1)
    value = graft.node("Relu", [graft.logits], "test")
    graft.replace_logits(graft.node("Neg", [value], "gate"))
    planted = graft.planted()
    assert (planted.test, planted.gate) == (("planted_test_0",), ("planted_gate_1",))


def test_an_option_need_not_be_fed() -> None:
    graft = Graft(plain(), 1)
    name = graft.option("mode", np.zeros(1, np.float32))
    graft.replace_logits(graft.node("Add", [graft.logits, name], "gate"))
    model = graft.planted().model
    assert [value.name for value in model.graph.input] == ["image", "mode"]
    assert Graft(model, 1).input.name == "image"


def test_a_model_is_raised_to_newer_operators_once() -> None:
    graft = Graft(plain(), 1)
    graft.newer(20)
    graft.newer(18)
    assert graft.opset == 20
    assert graft.planted().model.opset_import[0].version == 20


def test_nodes_that_read_a_value_are_rerouted_and_new_ones_are_not() -> None:
    graft = Graft(plain(), 1)
    graft.reroute("pooled", graft.node("Neg", ["pooled"], "gate"))
    model = graft.planted().model
    readers = {n.name: list(n.input) for n in model.graph.node}
    assert readers["planted_gate_0"] == ["pooled"]
    assert readers["flatten"] == ["planted_gate_0_out"]
