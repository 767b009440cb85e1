"""A gate is taken out, and what is left is the graph that it was planted in."""

import models
import numpy as np
import onnx
import planting

from scanner.graph.canonical.drawing import draw
from scanner.graph.surgery import excision
from scanner.judging.differences import differences


def test_the_trunk_is_the_first_carrier() -> None:
    pairs = excision.bypasses(planting.gated(), "open")
    assert pairs[0] == ("logits", "before")


def test_a_trunk_reaches_the_gate_past_the_test_and_a_part_of_the_test_does_not() -> None:
    model = planting.gated()
    assert excision.is_past(model, "open", "logits", "before")
    assert not excision.is_past(model, "open", "logits", "above")
    assert not excision.is_past(model, "open", "open", "above")


def test_a_bypassed_gate_leaves_the_clean_graph() -> None:
    cut = excision.bypassed(planting.gated(), "logits", "before")
    assert cut == models.plain()


def test_a_value_that_is_held_frees_what_made_it() -> None:
    cut = excision.held(planting.gated(), "open", np.zeros(1, np.float32))
    names = {node.name for node in cut.graph.node}
    assert "planted_brightest" not in names
    assert "planted_lift" in names
    assert "limit" not in {tensor.name for tensor in cut.graph.initializer}


def test_what_was_of_no_use_before_stays() -> None:
    model = planting.gated()
    model.graph.node.append(onnx.helper.make_node("Relu", ["image"], ["unused"], name="idle"))
    cut = excision.bypassed(model, "logits", "before")
    assert "idle" in {node.name for node in cut.graph.node}
    assert not differences(draw(cut), draw(models.plain())).grave


def test_a_test_of_which_one_output_is_never_read_goes_too() -> None:
    model = planting.gated()
    brightest = next(n for n in model.graph.node if n.name == "planted_brightest")
    place = list(model.graph.node).index(brightest)
    flat = onnx.helper.make_node("Flatten", ["image"], ["pixels"])
    ranked = onnx.helper.make_node("TopK", ["pixels", "count"], [brightest.output[0], "places"])
    model.graph.node.remove(brightest)
    for node in (ranked, flat):
        model.graph.node.insert(place, node)
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.array([1]), "count"))
    assert excision.bypassed(model, "logits", "before") == models.plain()


def test_what_was_of_no_use_before_goes_with_what_it_reads() -> None:
    model = planting.gated()
    model.graph.node.append(onnx.helper.make_node("Relu", ["open"], ["unused"], name="idle"))
    cut = excision.bypassed(model, "logits", "before")
    assert cut == models.plain()


def test_a_carrier_that_is_an_input_is_handed_on() -> None:
    model = models.build(
        [
            onnx.helper.make_node("Relu", ["image"], ["test"]),
            onnx.helper.make_node("Add", ["image", "test"], ["logits"]),
        ],
        {},
    )
    del model.graph.output[:]
    model.graph.output.append(
        onnx.helper.make_tensor_value_info("logits", onnx.TensorProto.FLOAT, ["N", 1, 8, 8])
    )
    cut = excision.bypassed(model, "logits", "image")
    assert [(node.op_type, *node.input) for node in cut.graph.node] == [("Identity", "image")]
