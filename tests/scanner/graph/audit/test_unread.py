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
