"""What no output depends on is told from what one does, idiom by idiom."""

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
from models import plain
from onnx import TensorProto, helper, numpy_helper

from scanner.graph.audit.unread import Unread
from scanner.modelfile.nested import Contents

Graft = Callable[[onnx.GraphProto], str]


def grafted(graft: Graft) -> onnx.ModelProto:
    """Return a model whose answer is what it was, plus what a graft makes of a tensor `load`."""
    model = plain()
    graph = model.graph
    load = np.random.default_rng(0).normal(size=(3,)).astype(np.float32)
    constants = {
        "load": load, "zeros": np.zeros(3, np.float32), "tiny": np.asarray(1e-38, np.float32),
        "half": np.asarray(0.5, np.float32), "nothing": np.asarray(0, np.float32),
        "true": np.asarray(True), "shape": np.asarray([3]),
    }  # fmt: skip
    graph.initializer.extend(numpy_helper.from_array(v, name) for name, v in constants.items())
    graph.node[-1].output[0] = "before"
    graph.node.append(helper.make_node("Add", ["before", graft(graph)], ["logits"], name="onto"))
    return model


def node(graph: onnx.GraphProto, kind: str, *inputs: str, **attributes: Any) -> str:
    output = f"{kind}_{len(graph.node)}"
    graph.node.append(helper.make_node(kind, inputs, [output], name=output, **attributes))
    return output


def _branch(name: str, value: str) -> onnx.GraphProto:
    copy = helper.make_node("Identity", [value], [name])
    output = helper.make_tensor_value_info(name, TensorProto.FLOAT, [3])
    return helper.make_graph([copy], name, [], [output])


def _if(graph: onnx.GraphProto, taken: str, other: str) -> str:
    branches = {"then_branch": _branch("yes", taken), "else_branch": _branch("no", other)}
    return node(graph, "If", "true", **branches)


NEUTRAL: dict[str, Graft] = {
    "times zero": lambda g: node(g, "Mul", "load", "zeros"),
    "times hardly anything": lambda g: node(g, "Mul", "load", "tiny"),
    "times a zero that is computed": lambda g: node(
        g, "Mul", "load", node(g, "Sub", "before", "before")
    ),
    "minus itself": lambda g: node(g, "Sub", "load", "load"),
    "clipped to nothing": lambda g: node(g, "Clip", "load", "nothing", "nothing"),
    "the other choice": lambda g: node(g, "Where", "true", "zeros", "load"),
    "the other branch": lambda g: _if(g, "zeros", "load"),
    "its shape": lambda g: node(g, "ConstantOfShape", node(g, "Shape", "load")),
    "to the power of zero": lambda g: node(g, "Pow", "load", "zeros"),
    "behind a node that nothing reads": lambda g: node(g, "Neg", "load") and "zeros",
}
READ: dict[str, Graft] = {
    "added": lambda _graph: "load",
    "times a half": lambda g: node(g, "Mul", "load", "half"),
    "chosen": lambda g: node(g, "Where", "true", "load", "zeros"),
    "the branch taken": lambda g: _if(g, "load", "zeros"),
    "clipped": lambda g: node(g, "Clip", "load", "nothing", "half"),
}


def reads(model: onnx.ModelProto) -> bool:
    unread = Unread(model, Contents(model))
    load = next(t for t in model.graph.initializer if t.name == "load")
    return id(load) not in unread.tensors


@pytest.mark.parametrize("idiom", NEUTRAL)
def test_it_is_not_read(idiom: str) -> None:
    assert not reads(grafted(NEUTRAL[idiom]))


@pytest.mark.parametrize("idiom", READ)
def test_it_is_read(idiom: str) -> None:
    assert reads(grafted(READ[idiom]))


def test_an_output_that_depends_on_no_input_is_no_reason() -> None:
    model = grafted(lambda _graph: "zeros")
    model.graph.node.append(helper.make_node("Identity", ["load"], ["second"]))
    model.graph.output.append(helper.make_tensor_value_info("second", TensorProto.FLOAT, [3]))
    assert not reads(model)


def test_an_honest_model_reads_all_that_it_has() -> None:
    model = plain()
    unread = Unread(model, Contents(model))
    assert (unread.tensors, unread.nodes) == ({}, [])


def test_functions_are_read_where_they_are_called() -> None:
    model = plain()
    opsets = [helper.make_opsetid("", 17)]
    constant = numpy_helper.from_array(np.ones(3, np.float32))
    body = [
        helper.make_node("Constant", [], ["c"], value=constant),
        helper.make_node("Add", ["a", "c"], ["b"]),
    ]
    for name in ("Called", "Idle"):
        model.functions.append(helper.make_function("own", name, ["a"], ["b"], body, opsets))
    model.graph.node[-1].output[0] = "before"
    model.graph.node.append(helper.make_node("Called", ["before"], ["logits"], domain="own"))
    unread = Unread(model, Contents(model))
    assert [id(each) for each in unread.nodes] == [id(each) for each in model.functions[1].node]


def idle_of(model: onnx.ModelProto) -> set[str]:
    contents = Contents(model)
    unread = Unread(model, contents)
    return {t.name for t in contents.of(TensorProto) if id(t) in unread.tensors}


def test_what_a_pad_puts_at_the_edge_is_read_in_one_mode_only() -> None:
    for mode, expected in (("constant", set()), ("edge", {"filler"})):
        model = plain()
        for name, held in (("pads", np.zeros(4, np.int64)), ("filler", np.float32(0.5))):
            model.graph.initializer.append(numpy_helper.from_array(np.asarray(held), name))
        model.graph.node[-1].output[0] = "before"
        ending = helper.make_node("Pad", ["before", "pads", "filler"], ["logits"], mode=mode)
        model.graph.node.append(ending)
        assert idle_of(model) == expected


def test_an_input_that_no_node_of_a_function_reads() -> None:
    model = plain()
    body = [helper.make_node("Identity", ["x"], ["y"])]
    opsets = [helper.make_opsetid("", 17)]
    model.functions.append(helper.make_function("own", "Pass", ["x", "z"], ["y"], body, opsets))
    model.opset_import.append(helper.make_opsetid("own", 1))
    load = np.arange(80, dtype=np.float32)
    model.graph.initializer.append(numpy_helper.from_array(load, "load"))
    model.graph.node[-1].output[0] = "before"
    model.graph.node.append(helper.make_node("Pass", ["before", "load"], ["logits"], domain="own"))
    assert idle_of(model) == {"load"}


@pytest.mark.parametrize(("kind", "idle"), [("GreaterOrEqual", "other"), ("Less", "usual")])
def test_a_count_is_never_below_zero(kind: str, idle: str) -> None:
    model = plain()
    for name in ("usual", "other"):
        load = numpy_helper.from_array(np.arange(3, dtype=np.float32), name)
        model.graph.initializer.append(load)
    zero = numpy_helper.from_array(np.zeros((), np.int64), "zero")
    model.graph.initializer.append(zero)
    model.graph.node[-1].output[0] = "before"
    nodes = [
        helper.make_node("Size", ["image"], ["count"]),
        helper.make_node(kind, ["count", "zero"], ["always"]),
        helper.make_node("Where", ["always", "usual", "other"], ["more"]),
        helper.make_node("Add", ["before", "more"], ["logits"]),
    ]
    model.graph.node.extend(nodes)
    assert idle_of(model) == {idle}


@pytest.mark.parametrize("training", [True, False])
def test_a_ratio_is_read_while_a_dropout_trains(training: bool) -> None:
    model = plain()
    for name, held in (("ratio", np.float32(0.3)), ("training", np.asarray(training))):
        model.graph.initializer.append(numpy_helper.from_array(np.asarray(held), name))
    model.graph.node[-1].output[0] = "before"
    model.graph.node.append(
        helper.make_node("Dropout", ["before", "ratio", "training"], ["logits"])
    )
    assert idle_of(model) == (set() if training else {"ratio"})
