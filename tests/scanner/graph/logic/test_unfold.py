"""A model laid out as one line of steps: what was nested lies in place, and nothing is lost."""

import itertools
from typing import Any

import numpy as np
import onnx
import pytest
from models import build, plain
from onnx import TensorProto, helper, numpy_helper

from scanner.errors import MalformedModelError
from scanner.graph.core.ancestors import ancestors
from scanner.graph.logic.unfold import unfold


def node(op: str, inputs: list[str], output: str, **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(op, inputs, [output], name=output, **attributes)


def test_branches_are_laid_out_and_joined() -> None:
    branches = {}
    for name in ("then", "else"):
        inner = node("Relu" if name == "then" else "Neg", ["image"], f"{name}_value")
        output = helper.make_tensor_value_info(f"{name}_value", TensorProto.FLOAT, None)
        branches[f"{name}_branch"] = helper.make_graph([inner], name, [], [output])
    top = [
        node("ReduceMax", ["image"], "highest", keepdims=0),
        node("Greater", ["highest", "level"], "bright"),
        helper.make_node("If", ["bright"], ["logits"], name="choice", **branches),
    ]
    flow = unfold(build(top, {"level": np.asarray(0.5, np.float32)}))
    join = next(step for step in flow.steps if step.op == "If")
    assert join.inputs[0] == "bright"
    made = [step for name in join.inputs[1:] if (step := flow.producer(name)) is not None]
    assert [step.op for step in made] == ["Neg", "Relu"] or [step.op for step in made] == [
        "Relu",
        "Neg",
    ]
    assert all(step.label.startswith("choice/") for step in made)


def test_a_function_is_laid_out() -> None:
    body = [helper.make_node("Relu", ["a"], ["b"], name="inside")]
    function = helper.make_function("own", "Act", ["a"], ["b"], body, [helper.make_opsetid("", 17)])
    call = helper.make_node("Act", ["image"], ["logits"], domain="own", name="call")
    model = build([call], {}, domains=[helper.make_opsetid("own", 1)], functions=[function])
    assert [step.op for step in unfold(model).steps] == ["Relu"]


@pytest.mark.parametrize("size", [1, 40, 400])
def test_steps_are_as_many_as_nodes(size: int) -> None:
    names = ["image", *(f"v{i}" for i in range(size - 1)), "logits"]
    flow = unfold(build([node("Relu", [a], b) for a, b in itertools.pairwise(names)], {}))
    assert len(flow.steps) == size


def test_ancestors_name_the_way() -> None:
    flow = unfold(build([node("Relu", ["image"], "a"), node("Neg", ["a"], "logits")], {}))
    assert ancestors(["logits"], flow.sources) == {"logits": None, "a": "logits", "image": "a"}


def test_what_is_known_of_the_plain_network() -> None:
    flow = unfold(plain())
    assert [step.op for step in flow.steps][:2] == ["Conv", "Relu"]
    assert (flow.inputs, flow.outputs, flow.looped) == (("image",), ("logits",), False)
    assert flow.shapes["convolved"] == ("N", 4, 8, 8)
    assert flow.elem_types["convolved"] == TensorProto.FLOAT
    assert (flow.elements("kernel"), flow.elements("convolved")) == (36, 0)
    assert flow.sources("activated") == ("convolved",)
    assert flow.sources("image") == ()


def test_a_large_constant_is_not_read() -> None:
    large = np.zeros((300, 300), np.float32)
    flow = unfold(build([node("MatMul", ["image", "w"], "logits")], {"w": large}))
    assert flow.array("w") is None
    assert flow.elements("w") == 90000


def test_a_constant_that_lies_about_its_shape_is_refused() -> None:
    model = build([node("Add", ["image", "w"], "logits")], {"w": np.zeros(3, np.float32)})
    model.graph.initializer[0].raw_data = b"12345678"
    with pytest.raises(MalformedModelError, match="'w' does not hold what its shape and type say"):
        unfold(model).array("w")


@pytest.mark.parametrize(
    ("attribute", "given", "dtype"),
    [("value_float", 2.0, np.float32), ("value_ints", [1, 2], np.int64)],
)
def test_constant_nodes_are_constants(attribute: str, given: object, dtype: type) -> None:
    nodes = [node("Constant", [], "c", **{attribute: given}), node("Add", ["image", "c"], "logits")]
    flow = unfold(build(nodes, {}))
    array = flow.array("c")
    assert array is not None
    assert array.dtype == dtype
    assert array.tolist() == given
    assert [step.op for step in flow.steps] == ["Add"]


def test_an_operator_of_another_domain_keeps_it_before_its_name() -> None:
    strange = helper.make_node("Strange", ["image"], ["logits"], domain="somewhere")
    model = build([strange], {}, domains=[helper.make_opsetid("somewhere", 1)])
    assert [step.op for step in unfold(model).steps] == ["somewhere.Strange"]


@pytest.mark.parametrize("operator", ["Loop", "Scan", "SequenceMap"])
def test_a_body_of_another_domain_is_not_laid_out(operator: str) -> None:
    result = helper.make_tensor_value_info("negative", TensorProto.FLOAT, None)
    body = helper.make_graph([node("Neg", ["image"], "negative")], "body", [], [result])
    strange = helper.make_node(operator, ["image"], ["logits"], domain="somewhere", body=body)
    model = build([strange], {}, domains=[helper.make_opsetid("somewhere", 1)])
    assert [step.op for step in unfold(model).steps] == [f"somewhere.{operator}"]


def test_a_scan_sweeps_over_its_slices_and_carries_its_state() -> None:
    inner = [node("Add", ["state", "row"], "next"), node("Neg", ["next"], "collected")]
    given = [helper.make_tensor_value_info(n, TensorProto.FLOAT, None) for n in ("state", "row")]
    results = [
        helper.make_tensor_value_info(n, TensorProto.FLOAT, None) for n in ("next", "collected")
    ]
    body = helper.make_graph(inner, "body", given, results)
    scan = helper.make_node(
        "Scan", ["start", "image"], ["last", "logits"], name="scan", body=body, num_scan_inputs=1
    )
    flow = unfold(build([scan], {"start": np.zeros((1, 8, 8), np.float32)}))
    assert [step.op for step in flow.steps] == ["Carry", "Sweep", "Add", "Neg", "Loop", "Stack"]
    carry = flow.steps[0]
    assert carry.inputs[0] == "start"
    assert carry.inputs[1] == flow.steps[2].outputs[0]
    assert flow.looped


def test_a_map_over_a_sequence_sweeps_over_it() -> None:
    given, result = (
        helper.make_tensor_value_info(n, TensorProto.FLOAT, None) for n in ("item", "sum")
    )
    body = helper.make_graph([node("Add", ["item", "image"], "sum")], "body", [given], [result])
    nodes = [
        helper.make_node("SequenceConstruct", ["image"], ["items"]),
        helper.make_node("SequenceMap", ["items"], ["sums"], name="map", body=body),
        helper.make_node("ConcatFromSequence", ["sums"], ["logits"], axis=0),
    ]
    sequence, sweep, add, stack, _ = unfold(build(nodes, {})).steps
    assert [sweep.op, add.op, stack.op] == ["Sweep", "Add", "Stack"]
    assert sweep.inputs == sequence.outputs
    assert add.inputs == (*sweep.outputs, "image")
    assert stack.inputs == add.outputs
    assert stack.outputs == ("sums",)


def test_names_in_two_branches_do_not_clash() -> None:
    branches = {}
    for name, operator in (("then", "Relu"), ("else", "Neg")):
        output = helper.make_tensor_value_info("inner", TensorProto.FLOAT, None)
        branches[f"{name}_branch"] = helper.make_graph(
            [node(operator, ["image"], "inner")], name, [], [output]
        )
    test = [node("ReduceMax", ["image"], "top", keepdims=0), node("Greater", ["top", "c"], "b")]
    choice = helper.make_node("If", ["b"], ["logits"], **branches)
    flow = unfold(build([*test, choice], {"c": np.array(0, np.float32)}))
    inner = [step.outputs[0] for step in flow.steps if step.op in ("Relu", "Neg")]
    assert len(set(inner)) == 2


def test_a_sparse_constant_has_a_shape() -> None:
    model = build([node("Add", ["image", "sparse"], "logits")], {})
    values = numpy_helper.from_array(np.ones(1, np.float32), "sparse")
    indices = numpy_helper.from_array(np.zeros(1, np.int64), "indices")
    model.graph.sparse_initializer.append(helper.make_sparse_tensor(values, indices, [8]))
    assert unfold(model).shapes["sparse"] == (8,)


def test_what_no_output_derives_from_is_not_live() -> None:
    nodes = [
        node("Neg", ["image"], "negative"),
        node("Div", ["image", "negative"], "unread"),
        node("Mul", ["negative", "zero"], "nothing"),
        node("Add", ["image", "nothing"], "logits"),
    ]
    live = unfold(build(nodes, {"zero": np.zeros(1, np.float32)})).live
    assert {"image", "nothing", "logits"} <= live
    assert not {"unread", "negative"} & live


@pytest.mark.parametrize(
    ("numbers", "least", "most"),
    [
        (np.zeros((300, 300)), 0, 0),
        (np.eye(300), 1, 1),
        (np.arange(90_000.0).reshape(300, 300) % 7, 6, 6),
        (np.random.default_rng(0).normal(size=(300, 300)), 90_000, 90_000),
        (np.random.default_rng(0).normal(size=(300, 300)) * (np.arange(300) < 150), 40_000, 50_000),
        (np.random.default_rng(0).integers(-90, 90, (300, 300), np.int8), 88_000, 90_000),
    ],
)
def test_weights_are_counted_by_what_can_have_been_trained(
    numbers: np.ndarray[Any, Any], least: int, most: int
) -> None:
    kept = numbers if numbers.dtype == np.int8 else numbers.astype(np.float32)
    flow = unfold(build([node("Identity", ["image"], "logits")], {"weights": kept}))
    assert least <= flow.effect("weights") <= most
