"""Nodes that lack what their operators ask for are refused; every operator's examples pass."""

import warnings
from collections.abc import Callable

import onnx
import pytest
from exporter_idioms import HONEST
from models import plain
from onnx import helper

from scanner.errors import MalformedModelError
from scanner.graph.core.conform import check_nodes
from scanner.graph.logic.gates import observe
from scanner.graph.logic.unfold import unfold
from scanner.results import Severity
from trainers.graph_backdoor import plant


def _no_input(model: onnx.ModelProto) -> None:
    del model.graph.node[0].input[:]


def _no_output(model: onnx.ModelProto) -> None:
    del model.graph.node[0].output[:]


def _another_input(model: onnx.ModelProto) -> None:
    model.graph.node.append(helper.make_node("Where", ["image"] * 4, ["spare"]))


def _input_of_a_newer_operator(model: onnx.ModelProto) -> None:
    model.opset_import[0].version = 5  # Where came with 9
    model.graph.node.append(helper.make_node("Where", ["image"] * 2, ["spare"]))


def _another_output(model: onnx.ModelProto) -> None:
    model.graph.node.append(helper.make_node("Identity", ["image", "", "image"], ["spare", ""]))


def _other_attribute(model: onnx.ModelProto) -> None:
    attribute = helper.make_attribute("pads", 1.5)
    pads = next(a for a in model.graph.node[0].attribute if a.name == "pads")
    pads.CopyFrom(attribute)


def _no_body(model: onnx.ModelProto) -> None:
    model.graph.node.append(helper.make_node("Loop", ["", ""], ["spare"], name="loop"))


def _short_tensor(model: onnx.ModelProto) -> None:
    model.graph.initializer[0].raw_data = model.graph.initializer[0].raw_data[:-1]


def _no_type(model: onnx.ModelProto) -> None:
    model.graph.initializer[0].data_type = 99


@pytest.mark.parametrize(
    "change",
    [
        _no_input, _no_output, _another_input, _input_of_a_newer_operator, _another_output,
        _other_attribute, _no_body, _short_tensor, _no_type,
    ],
)  # fmt: skip
def test_a_malformed_node_is_refused(change: Callable[[onnx.ModelProto], None]) -> None:
    model = plain()
    change(model)
    with pytest.raises(MalformedModelError):
        observe(unfold(model))


@pytest.mark.parametrize("kind", ["loop", "if-branch"])
def test_a_body_that_gives_less_is_refused(kind: str) -> None:
    model = plant(plain(), kind, target=1).model
    holder = next(node for node in model.graph.node if node.op_type in {"Loop", "If"})
    del holder.attribute[0].g.output[-1]
    with pytest.raises(MalformedModelError, match="bod"):
        unfold(model)


def test_an_operator_of_another_domain_is_not_taken_for_its_namesake() -> None:
    model = plain()
    model.graph.node.append(
        helper.make_node("Loop", ["image"], ["spare"], domain="acme.ops", name="theirs")
    )
    model.opset_import.append(helper.make_opsetid("acme.ops", 1))
    check_nodes(model)
    assert unfold(model).steps[-1].op == "acme.ops.Loop"


@pytest.mark.parametrize("name", HONEST)
def test_honest_exports_conform(name: str) -> None:
    check_nodes(HONEST[name]())


@pytest.mark.slow
def test_every_example_of_every_operator_is_read_and_none_is_suspicious() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the examples compute with NaN and overflow on purpose
        from onnx.backend.test.case.node import collect_testcases  # noqa: PLC0415 - it computes all examples

        examples = [
            (case.name, case.model) for case in collect_testcases(None) if case.model is not None
        ]
    assert len(examples) > 1000
    for name, model in examples:
        assert [o for o in observe(unfold(model)) if o.severity > Severity.WARNING] == [], name
