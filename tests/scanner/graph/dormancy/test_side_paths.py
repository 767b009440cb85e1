"""Where values that passed few weights join the network."""

from collections.abc import Sequence

import numpy as np
import onnx
import planting
import pytest
from models import build, convolution, head, plain, relu, weights
from onnx import helper

from scanner.graph.dormancy.side_paths import Joint, Paths
from trainers.graph_backdoor import FAMILIES, KINDS, plant

# They listen to another input, to nothing that an image holds, or to what the network computed.
ELSEWHERE = {*FAMILIES["callers"], *FAMILIES["weights"], "latent-corner"}


def joints(model: onnx.ModelProto) -> list[Joint]:
    return list(Paths(model, model.graph.output[0].name).joints())


def test_a_plain_network_has_no_side_path() -> None:
    assert joints(plain()) == []


def test_the_first_layers_are_those_that_no_layer_feeds() -> None:
    (first,) = Paths(plain(), "logits").first_layers()
    assert (first.value, first.node, first.convolution) == ("convolved", "conv", True)
    planted = plant(plain(), "patch-equals", target=1).model
    assert [each.node for each in Paths(planted, "logits").first_layers()] == ["conv"]


def on_codes(*, other: bool = False) -> onnx.ModelProto:
    """A first layer on dynamically quantised codes; or one whose sums meet the scale of others."""
    node = helper.make_node
    constants = weights(False)
    codes = np.random.default_rng(0).integers(0, 255, constants["kernel"].shape).astype(np.uint8)
    image = "image"
    nodes = list[onnx.NodeProto]()
    if other:
        constants["half"] = np.array(0.5, np.float32)
        nodes = [
            node("Mul", ["image", "half"], ["darker"]),
            node("DynamicQuantizeLinear", ["darker"], ["its_codes", "its_scale", "its_zero"]),
        ]
    nodes += [
        node("DynamicQuantizeLinear", [image], ["codes", "scale", "zero"]),
        node("ConvInteger", ["codes", "bytes", "zero", "middle"], ["sums"], pads=[1, 1, 1, 1]),
        node("Cast", ["sums"], ["cast"], to=onnx.TensorProto.FLOAT),
        node("Mul", ["its_scale" if other else "scale", "step"], ["both"]),
        node("Mul", ["cast", "both"], ["convolved"]),
        relu(),
        *head("activated"),
    ]
    more: dict[str, np.ndarray] = {
        "bytes": codes,
        "middle": np.array(128, np.uint8),
        "step": np.array(0.01, np.float32),
    }
    kept = {name: value for name, value in constants.items() if name != "kernel"}
    return build(nodes, kept | more)


def test_the_scale_of_a_layers_own_codes_is_no_side_path() -> None:
    assert joints(on_codes()) == []
    (joint,) = joints(on_codes(other=True))
    assert (joint.operator, joint.side) == ("Mul", "both")


def test_a_gate_is_where_it_joins_the_scores() -> None:
    planted = plant(plain(), "patch-equals", target=1)
    (joint,) = joints(planted.model)
    assert (joint.node, joint.operator, joint.carrier, joint.shared) == (
        planted.gate[0],
        "Where",
        "logits_before",
        0.0,
    )


def test_behind_a_sequence_the_tensor_that_it_is_made_from_is_the_side_value() -> None:
    planted, place = planting.picked_from_sequence(plain())
    paths = Paths(planted.model, "logits")
    (joint,) = paths.joints()
    assert joint.operator == "SequenceMap"
    assert joint.side == place
    assert all(paths.readable(name) for name in paths.trail(joint.side))
    assert not paths.readable(joint.carrier)


def test_the_way_to_a_side_value_is_told_in_order() -> None:
    planted = plant(plain(), "patch-equals", target=1)
    paths = Paths(planted.model, "logits")
    (joint,) = paths.joints()
    trail = paths.trail(joint.side)
    assert trail[-1] == joint.side
    assert "image" not in trail
    assert list(paths.labels(trail)) == [
        node.name for node in planted.model.graph.node if set(node.output) & set(trail)
    ]


def test_what_only_shapes_decide_is_no_side_value() -> None:
    model = plain()
    model.graph.node[-1].output[0] = "alone"
    model.graph.node.extend([
        helper.make_node("Shape", ["image"], ["size"], start=0, end=1),
        helper.make_node("Cast", ["size"], ["batch"], to=onnx.TensorProto.FLOAT),
        helper.make_node("Add", ["alone", "batch"], ["logits"]),
    ])  # fmt: skip
    assert joints(model) == []


def test_how_many_values_there_are_is_data_where_numbers_decide_it() -> None:
    model = plain()
    model.graph.node[-1].output[0] = "alone"
    model.graph.node.extend([
        helper.make_node("NonZero", ["image"], ["places"]),
        helper.make_node("Size", ["places"], ["size"]),
        helper.make_node("Cast", ["size"], ["count"], to=onnx.TensorProto.FLOAT),
        helper.make_node("Add", ["alone", "count"], ["logits"]),
    ])  # fmt: skip
    assert [joint.side for joint in joints(model)] == ["count"]


def test_a_residual_connection_meets_as_a_side_path() -> None:
    """It carries something on every image: that is for a run to see."""
    nodes = [
        convolution(),
        relu(),
        helper.make_node("Add", ["activated", "image"], ["sum"]),
        *head("sum"),
    ]
    assert [joint.side for joint in joints(build(nodes, weights(planted=False)))] == ["image"]


@pytest.mark.parametrize("kind", sorted(set(KINDS) - ELSEWHERE))
def test_every_grafted_gate_joins_somewhere(kind: str) -> None:
    assert joints(plant(plain(), kind, target=1).model)


def scored_one_by_one(sizes: Sequence[int], operator: str = "ReduceSum") -> onnx.ModelProto:
    """Quadratic discriminants: each class's score of a matrix of its own."""
    nodes = [helper.make_node("Flatten", ["image"], ["flat"])]
    constants = {"axis": np.array([1], np.int64)}
    for place, size in enumerate(sizes):
        constants[f"w{place}"] = np.ones((64, size), np.float32)
        made = operator if place == 0 else "ReduceSum"
        nodes += [
            helper.make_node("MatMul", ["flat", f"w{place}"], [f"m{place}"]),
            helper.make_node("Mul", [f"m{place}", f"m{place}"], [f"q{place}"]),
            helper.make_node(made, [f"q{place}", "axis"], [f"s{place}"], keepdims=1),
        ]
    scores = [f"s{place}" for place in range(len(sizes))]
    nodes.append(helper.make_node("Concat", scores, ["logits"], axis=1))
    return build(nodes, constants)


def test_scores_that_are_computed_one_by_one_bypass_nothing() -> None:
    assert joints(scored_one_by_one([8, 8, 8])) == []


def test_a_score_of_another_make_is_a_side_path() -> None:
    assert joints(scored_one_by_one([1, 8, 8]))
    assert joints(scored_one_by_one([8, 8, 8], "ReduceMax"))
    assert joints(scored_one_by_one([8, 8]))


def test_what_joins_one_of_such_scores_is_a_side_path() -> None:
    model = scored_one_by_one([8, 8, 8])
    model.graph.node[-1].input[0] = "lifted"
    model.graph.node.insert(1, helper.make_node("ReduceMax", ["flat"], ["top"], axes=[1]))
    model.graph.node.insert(
        len(model.graph.node) - 1, helper.make_node("Add", ["s0", "top"], ["lifted"])
    )
    assert "top" in {joint.side for joint in joints(model)}


def scored(nodes: Sequence[onnx.NodeProto], **constants: np.ndarray) -> onnx.ModelProto:
    """A plain network with nodes behind its scores."""
    body = [convolution(), relu(), *head("activated")]
    body[-1].output[0] = "scores"
    return build([*body, *nodes], {**weights(planted=False), **constants})


def test_what_reads_only_a_shape_of_scores_has_passed_no_weights() -> None:
    nodes = [
        helper.make_node("Shape", ["scores"], ["sizes"], start=1),
        helper.make_node("ReduceMax", ["image"], ["brightest"], axes=[1, 2, 3], keepdims=0),
        helper.make_node("Cast", ["brightest"], ["whole"], to=onnx.TensorProto.INT64),
        helper.make_node("Unsqueeze", ["whole", "one"], ["column"]),
        helper.make_node("Add", ["column", "order"], ["moved"]),
        helper.make_node("Mod", ["moved", "sizes"], ["places"]),
        helper.make_node("GatherElements", ["scores", "places"], ["logits"], axis=1),
    ]
    model = scored(nodes, one=np.array([1]), order=np.array([[0, 1, 2]]))
    assert [(joint.side, joint.shared) for joint in joints(model)] == [("places", 0.0)]


def test_one_number_added_to_scores_is_a_side_path_whatever_it_has_passed() -> None:
    nodes = [
        helper.make_node("MatMul", ["flat", "probe"], ["match"]),
        helper.make_node("Mul", ["match", "row"], ["push"]),
        helper.make_node("Add", ["scores", "push"], ["logits"]),
    ]
    probe, row = np.ones((4, 1), np.float32), np.array([[0, 1, 0]], np.float32)
    (joint,) = joints(scored(nodes, probe=probe, row=row))
    assert (joint.side, joint.carrier, joint.single) == ("push", "scores", True)
    assert joint.shared > 0.5


def test_scores_of_a_second_network_are_none() -> None:
    nodes = [
        helper.make_node("MatMul", ["flat", "other"], ["more"]),
        helper.make_node("Add", ["scores", "more"], ["logits"]),
    ]
    other = np.random.default_rng(1).normal(size=(4, 3)).astype(np.float32)
    assert joints(scored(nodes, other=other)) == []


def test_an_image_is_carried_by_what_moves_it() -> None:
    """The grid of a sampling is larger than the image, and no network."""
    nodes = [
        helper.make_node("ReduceMax", ["image"], ["brightest"], axes=[1, 2, 3], keepdims=1),
        helper.make_node("Add", ["brightest", "still"], ["grid"]),
        helper.make_node("GridSample", ["image", "grid"], ["sampled"]),
        convolution("sampled"), relu(), *head("activated"),
    ]  # fmt: skip
    still = np.zeros((1, 8, 8, 2), np.float32)
    (joint,) = joints(build(nodes, {**weights(planted=False), "still": still}))
    assert (joint.side, joint.carrier) == ("grid", "image")
