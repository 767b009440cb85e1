"""Facts about values: what they depend on, how wide they are, whether they are decisions."""

import math
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from models import Array, build, plain
from onnx import TensorProto, helper

from scanner.graph.logic.dataflow import Analysis, Depends
from scanner.graph.logic.unfold import unfold


def node(op: str, inputs: list[str], output: str, **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(op, inputs, [output], name=output, **attributes)


def analyse(nodes: list[onnx.NodeProto], **constants: Array) -> Analysis:
    return Analysis(
        unfold(build([*nodes, node("Identity", [nodes[-1].output[0]], "logits")], constants))
    )


def test_a_shape_is_not_data_and_a_pixel_is() -> None:
    facts = analyse([node("Shape", ["image"], "shape"), node("Neg", ["image"], "negative")]).facts
    assert facts["shape"].depends is Depends.SHAPE
    assert facts["negative"].data


def test_a_shape_that_values_decide_counts_them() -> None:
    facts = analyse(
        [node("NonZero", ["image"], "places"), node("Shape", ["places"], "count")]
    ).facts
    assert facts["count"].data
    assert facts["count"].decision


BRIGHT = [
    node("ReduceMax", ["image"], "highest", keepdims=0),
    node("Greater", ["highest", "level"], "bright"),
    node("Cast", ["bright"], "number", to=TensorProto.INT64),
    node("Unsqueeze", ["number", "first"], "numbers"),
]


def body(name: str, held: str) -> onnx.GraphProto:
    result = helper.make_tensor_value_info(name, TensorProto.FLOAT, None)
    return helper.make_graph([node("Identity", [held], name)], name, [], [result])


@pytest.mark.parametrize(
    "sized",
    [
        node("ConstantOfShape", ["numbers"], "sized"),
        node("Range", ["number", "two", "two"], "sized"),
        helper.make_node("Split", ["pair", "numbers"], ["sized"]),
        node("Unsqueeze", ["pair", "numbers"], "sized"),
        node("ReduceSum", ["pairs", "numbers"], "sized", keepdims=0),
        node("OneHot", ["numbers", "number", "pair"], "sized"),
        helper.make_node(
            "If", ["bright"], ["sized"], then_branch=body("a", "pair"), else_branch=body("b", "one")
        ),
    ],
    ids=lambda sized: sized.op_type,
)
def test_the_size_of_what_a_decision_made_is_a_decision(sized: onnx.NodeProto) -> None:
    constants = {
        "level": np.array(0.5, np.float32),
        "first": np.array([0]),
        "two": np.array(2),
        "one": np.ones(1, np.float32),
        "pair": np.ones(2, np.float32),
        "pairs": np.ones((2, 3), np.float32),
    }
    fact = analyse([*BRIGHT, sized, node("Shape", ["sized"], "size")], **constants).fact("size")
    assert fact.data
    assert fact.decision


def test_branches_of_one_shape_have_a_shape_that_nothing_decides() -> None:
    branches = {name: body(name, "pair") for name in ("then_branch", "else_branch")}
    chosen = helper.make_node("If", ["bright"], ["chosen"], **branches)
    constants = {
        "level": np.array(0.5, np.float32),
        "first": np.array([0]),
        "pair": np.ones(2, np.float32),
    }
    analysis = analyse([*BRIGHT, chosen, node("Shape", ["chosen"], "size")], **constants)
    assert analysis.fact("size").depends is Depends.SHAPE


@pytest.mark.parametrize("end", [-1, 2**31 - 1, 2**63 - 1])
def test_a_slice_without_an_end_is_as_long_as_what_it_cuts(end: int) -> None:
    cut = node("Slice", ["image", "start", "end", "axis"], "cut")
    bounds = {"start": np.array([1]), "end": np.array([end]), "axis": np.array([1])}
    model = build([cut, node("Neg", ["cut"], "logits")], bounds, input_shape=("N", "L", 4))
    assert Analysis(unfold(model)).fact("cut").width == math.inf


def test_a_comparison_is_a_decision_and_a_reduction_narrows_it() -> None:
    analysis = analyse(
        [
            node("Greater", ["image", "level"], "bright"),
            node("Cast", ["bright"], "ones", to=TensorProto.FLOAT),
            node("ReduceMax", ["ones"], "any", axes=[1, 2, 3]),
            node("Mul", ["any", "wide"], "expanded"),
        ],
        level=np.asarray(0.5, np.float32),
        wide=np.ones((1, 1, 8, 8), np.float32),
    )
    widths = [analysis.fact(name).width for name in ("bright", "ones", "any", "expanded")]
    assert widths == [64, 64, 1, 1]
    assert all(analysis.fact(name).decision for name in ("bright", "any", "expanded"))


def test_rounding_an_image_is_no_decision_but_rounding_one_number_is() -> None:
    analysis = analyse(
        [
            node("Round", ["image"], "levels"),
            node("ReduceSum", ["levels", "axes"], "sum"),
            node("Floor", ["sum"], "whole"),
        ],
        axes=np.asarray([1, 2, 3], np.int64),
    )
    assert not analysis.fact("levels").decision
    assert analysis.fact("whole").decision


def test_what_meets_a_decision_is_no_decision() -> None:
    analysis = analyse(
        [
            node("Greater", ["image", "level"], "bright"),
            node("Where", ["bright", "image", "level"], "kept"),
        ],
        level=np.asarray(0.5, np.float32),
    )
    assert not analysis.fact("kept").decision


def test_an_option_beside_the_image_is_not_data() -> None:
    model = plain()
    model.graph.input.append(helper.make_tensor_value_info("rate", TensorProto.INT64, []))
    model.graph.node.append(node("Neg", ["rate"], "negative"))
    analysis = Analysis(unfold(model))
    assert analysis.fact("negative").depends is Depends.OPTION
    assert math.isclose(analysis.fact("image").width, 64)


def _looped(body_nodes: list[onnx.NodeProto], result: str) -> onnx.ModelProto:
    body = helper.make_graph(
        [*body_nodes, node("Identity", ["going"], "still_going")],
        "body",
        [
            helper.make_tensor_value_info("turn", TensorProto.INT64, []),
            helper.make_tensor_value_info("going", TensorProto.BOOL, []),
            helper.make_tensor_value_info("carried", TensorProto.FLOAT, None),
        ],
        [
            helper.make_tensor_value_info("still_going", TensorProto.BOOL, []),
            helper.make_tensor_value_info(result, TensorProto.FLOAT, None),
        ],
    )
    loop = helper.make_node("Loop", ["count", "", "start"], ["logits"], name="loop", body=body)
    return build(
        [loop], {"count": np.asarray(3, np.int64), "start": np.zeros((1, 1, 8), np.float32)}
    )


def test_a_carried_value_depends_on_what_comes_back() -> None:
    model = _looped(
        [node("Gather", ["image", "turn"], "row", axis=2), node("Add", ["carried", "row"], "next")],
        "next",
    )
    analysis = Analysis(unfold(model))
    carried = next(step.outputs[0] for step in analysis.flow.steps if step.op == "Carry")
    assert analysis.fact("logits").data
    assert analysis.fact(carried).data
    assert not analysis.fact(carried).sweep


def test_a_slice_by_the_turn_of_a_loop_is_a_sweep() -> None:
    model = _looped(
        [node("Gather", ["image", "turn"], "row", axis=2), node("Add", ["carried", "row"], "next")],
        "next",
    )
    analysis = Analysis(unfold(model))
    gathered = next(step.outputs[0] for step in analysis.flow.steps if step.op == "Gather")
    assert analysis.fact(gathered).sweep


@given(
    st.lists(
        st.sampled_from(["Relu", "Neg", "Abs", "Sigmoid", "Round", "Sign", "Identity"]), max_size=12
    )
)
def test_no_chain_of_pointwise_steps_narrows_or_widens(operators: list[str]) -> None:
    nodes, value = [], "image"
    for place, operator in enumerate(operators):
        nodes.append(node(operator, [value], f"v{place}"))
        value = f"v{place}"
    analysis = analyse([*nodes, node("Identity", [value], "end")])
    assert analysis.fact("end").width == 64
    assert analysis.fact("end").decision == ("Sign" in operators)


def test_a_value_handed_on_from_turn_to_turn_still_depends_on_the_image() -> None:
    stages = 9
    names = [f"carried{i}" for i in range(stages)]
    body = helper.make_graph(
        [
            node("Identity", ["going"], "still_going"),
            node("ReduceMean", ["image"], "mean", keepdims=0),
            *(
                node("Identity", [before], f"{name}_next")
                for before, name in zip(["mean", *names], names, strict=False)
            ),
        ],
        "body",
        [
            helper.make_tensor_value_info("turn", TensorProto.INT64, []),
            helper.make_tensor_value_info("going", TensorProto.BOOL, []),
            *(helper.make_tensor_value_info(name, TensorProto.FLOAT, []) for name in names),
        ],
        [
            helper.make_tensor_value_info("still_going", TensorProto.BOOL, []),
            *(
                helper.make_tensor_value_info(f"{name}_next", TensorProto.FLOAT, [])
                for name in names
            ),
        ],
    )
    results = [*(f"out{i}" for i in range(stages - 1)), "logits"]
    loop = helper.make_node(
        "Loop", ["count", "", *["zero"] * stages], results, name="loop", body=body
    )
    constants: dict[str, Array] = {
        "count": np.asarray(20, np.int64),
        "zero": np.asarray(0, np.float32),
    }
    assert Analysis(unfold(build([loop], constants))).fact("logits").data


def soft(*nodes: onnx.NodeProto, **constants: Array) -> Analysis:
    """Analyse steps behind the mean of the image, one number."""
    mean = node("ReduceMean", ["image"], "mean", axes=[1, 2, 3], keepdims=0)
    return analyse([mean, *nodes], **constants)


@pytest.mark.parametrize(
    ("op", "attributes"),
    [
        ("ThresholdedRelu", {"alpha": 0.9}),
        ("Shrink", {"lambd": 0.9}),
        ("HardSigmoid", {"alpha": 500.0, "beta": -450.0}),
        ("Clip", {"min": 0.9, "max": 1.0}),
    ],
)
def test_a_level_in_an_attribute_is_a_threshold(op: str, attributes: dict[str, float]) -> None:
    mean = node("ReduceMean", ["image"], "mean", axes=[1, 2, 3], keepdims=0)
    rectified = node(op, ["mean"], "logits", **attributes)
    model = build([mean, rectified], {}, opset=10 if op == "Clip" else 17)
    assert Analysis(unfold(model)).fact("logits").decision


def test_a_clamp_at_zero_is_no_threshold() -> None:
    analysis = soft(node("Relu", ["mean"], "positive"), node("Sqrt", ["positive"], "root"))
    assert not analysis.fact("root").decision


def test_a_distance_from_written_numbers_that_is_squashed_is_a_decision() -> None:
    analysis = analyse(
        [
            node("Sub", ["image", "pattern"], "apart"),
            node("Mul", ["apart", "apart"], "squares"),
            node("ReduceSum", ["squares"], "distance", keepdims=0),
            node("Neg", ["distance"], "nearness"),
            node("Exp", ["nearness"], "near"),
        ],
        pattern=np.linspace(0, 1, 64, dtype=np.float32).reshape(1, 1, 8, 8),
    )
    assert analysis.fact("near").decision
    assert not analysis.fact("near").hard


def test_gentle_gains_of_several_layers_are_one_steep_gain() -> None:
    four, level = np.asarray(4.0, np.float32), np.asarray(0.9, np.float32)
    over = node("Sub", ["mean", "level"], "value0")
    layers = [
        step
        for i in range(3)
        for step in (
            node("Mul", [f"value{i}", "four"], f"gained{i}"),
            node("Tanh", [f"gained{i}"], f"value{i + 1}"),
        )
    ]
    analysis = soft(over, *layers, four=four, level=level)
    assert analysis.fact("value3").steep
    assert not analysis.fact("value2").steep


@pytest.mark.parametrize(("variance", "steep"), [(1e-6, True), (1.0, False)])
def test_a_tiny_variance_is_a_gain(variance: float, steep: bool) -> None:
    numbers = {"scale": 1.0, "shift": 0.0, "centre": 0.9, "variance": variance}
    analysis = analyse(
        [
            node("GlobalAveragePool", ["image"], "mean"),
            node("BatchNormalization", ["mean", *numbers], "normal", epsilon=1e-9),
            node("Relu", ["normal"], "over"),
        ],
        **{name: np.array([number], np.float32) for name, number in numbers.items()},
    )
    assert analysis.fact("over").decision
    assert analysis.fact("over").steep == steep


def test_what_is_multiplied_by_zeros_derives_from_nothing() -> None:
    analysis = analyse(
        [node("Mul", ["image", "zero"], "nothing")], zero=np.zeros((1, 1, 1, 1), np.float32)
    )
    assert not analysis.fact("nothing").data


@given(st.integers(1, 40))
def test_an_identity_is_no_weight_however_large(size: int) -> None:
    analysis = analyse(
        [node("Flatten", ["image"], "flat"), node("MatMul", ["flat", "same"], "mixed")],
        same=np.tile(np.eye(64, dtype=np.float32), size),
    )
    assert analysis.fact("mixed").weights == 1


def test_a_written_matrix_behind_a_test_leaves_it_a_test() -> None:
    rng = np.random.default_rng(0)
    for matrix, decision in ((np.ones((64, 9)), True), (rng.normal(size=(64, 9)), False)):
        analysis = analyse(
            [
                node("Greater", ["image", "level"], "bright"),
                node("Cast", ["bright"], "ones", to=TensorProto.FLOAT),
                node("Flatten", ["ones"], "flat"),
                node("MatMul", ["flat", "matrix"], "mixed"),
            ],
            level=np.asarray(0.5, np.float32),
            matrix=matrix.astype(np.float32),
        )
        assert analysis.fact("mixed").decision == decision


def test_a_count_of_many_positions_goes_by_degrees() -> None:
    def counted(axes: list[int], start: str) -> bool:
        analysis = analyse(
            [
                node("Slice", ["image", "zero", "two", "rows"], "part"),
                node("Equal", [start, "level"], "same"),
                node("Cast", ["same"], "ones", to=TensorProto.FLOAT),
                node("ReduceSum", ["ones"], "count", keepdims=0),
            ],
            level=np.asarray(0.5, np.float32),
            zero=np.array([0, 0]), two=np.array([2, 2]), rows=np.array(axes),
        )  # fmt: skip
        return analysis.fact("count").counted

    assert counted([2, 3], "image")
    assert not counted([2, 3], "part")
