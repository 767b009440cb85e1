"""What differs between two graphs is named; habits explain what cannot be a gate."""

from pathlib import Path
from typing import Any

import models
import numpy as np
import onnx
import planting
import pytest
from onnx import helper, numpy_helper

from scanner.graph.canonical.drawing import draw
from scanner.judging.differences import differences
from scanner.results import Differences, Kind


def beside(suspect: onnx.ModelProto, reference: onnx.ModelProto) -> Differences:
    return differences(draw(suspect), draw(reference))


def wrapped(*nodes: onnx.NodeProto, **constants: object) -> onnx.ModelProto:
    """A plain model behind nodes from "raw" to "image"; its own input is then "raw"."""
    model = models.plain()
    model.graph.input[0].name = "raw"
    kept = [*nodes, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(kept)
    for name, value in constants.items():
        model.graph.initializer.append(numpy_helper.from_array(np.asarray(value, np.float32), name))
    return model


def answered(operator: str, **options: Any) -> onnx.ModelProto:
    model = models.plain()
    model.graph.node[-1].output[0] = "scores"
    node = helper.make_node(operator, ["scores"], ["logits"], name="answer", **options)
    model.graph.node.append(node)
    return model


def test_every_planted_node_is_named() -> None:
    found = beside(planting.gated(1), models.plain())
    named = {change.node for change in found.unexplained}
    assert named >= set(planting.PLANTED)
    assert found.grave
    assert {c.kind for c in found.unexplained} == {Kind.ADDED, Kind.OUTPUT}


def test_the_identical_gate_is_no_difference() -> None:
    assert not beside(planting.gated(1), planting.gated(2)).changes


def test_a_gate_with_another_threshold_is_one() -> None:
    other = planting.gated()
    limit = next(t for t in other.graph.initializer if t.name == "limit")
    limit.CopyFrom(numpy_helper.from_array(np.array(-0.5, np.float32), "limit"))
    (change,) = beside(other, planting.gated()).unexplained
    assert (change.kind, change.node) == (Kind.CONSTANT, "planted_above")
    assert (change.suspect, change.reference) == ("constant -0.5", "constant -0.99")


@pytest.mark.parametrize(
    "model",
    [
        answered("Softmax", axis=1),
        answered("ArgMax", axis=1),
        wrapped(
            helper.make_node("Sub", ["raw", "mean"], ["centred"]),
            helper.make_node("Div", ["centred", "deviation"], ["image"]),
            mean=0.5,
            deviation=[[[0.25]]],
        ),
    ],
)
def test_what_wraps_a_network_is_explained(model: onnx.ModelProto) -> None:
    for found in (beside(model, models.plain()), beside(models.plain(), model)):
        assert found.changes
        assert not found.unexplained, found.unexplained


@pytest.mark.parametrize("squashing", ["Sigmoid", "Softmax"])
def test_another_shape_is_a_form_of_the_answer_before_what_goes_number_by_number(
    squashing: str,
) -> None:
    """A Softmax over another shape is over other numbers."""
    plain = answered(squashing)
    shaped = answered(squashing)
    shaped.graph.node[-1].input[0] = "shaped"
    shape = numpy_helper.from_array(np.array([-1, 2, 2]), "shape")
    shaped.graph.initializer.append(shape)
    shaped.graph.node.insert(
        len(shaped.graph.node) - 1, helper.make_node("Reshape", ["scores", "shape"], ["shaped"])
    )
    for model in (plain, shaped):
        del model.graph.output[0].type.tensor_type.shape.dim[:]
        model.graph.output[0].type.tensor_type.ClearField("shape")
    for found in (beside(shaped, plain), beside(plain, shaped)):
        assert found.changes
        assert bool(found.unexplained) is (squashing == "Softmax")


def test_a_mask_of_the_image_is_not_explained() -> None:
    mask = np.zeros((1, 1, 8, 8))
    mask[..., 7, 7] = 1e3
    found = beside(
        wrapped(helper.make_node("Mul", ["raw", "mask"], ["image"], name="mask_it"), mask=mask),
        models.plain(),
    )
    assert "mask_it" in {change.node for change in found.unexplained}


def test_what_hands_the_input_to_a_gate_is_not_explained() -> None:
    model = planting.gated()
    model.graph.node[-6].input[0] = "lifted"
    lift = helper.make_node("Mul", ["image", "gain_of_all"], ["lifted"], name="planted_lifted")
    model.graph.node.insert(len(model.graph.node) - 6, lift)
    model.graph.initializer.append(
        numpy_helper.from_array(np.array(255, np.float32), "gain_of_all")
    )
    named = {change.node for change in beside(model, models.plain()).unexplained}
    assert named >= {"planted_lifted", *planting.PLANTED}


def test_a_cast_that_rounds_is_not_explained() -> None:
    nodes = [
        helper.make_node("Cast", ["raw"], ["whole"], to=onnx.TensorProto.UINT8, name="whole"),
        helper.make_node("Cast", ["whole"], ["image"], to=onnx.TensorProto.FLOAT, name="floats"),
    ]
    found = beside(wrapped(*nodes), models.plain())
    assert "whole" in {change.node for change in found.unexplained}


def test_an_input_with_a_default_is_no_constant() -> None:
    """Whoever feeds it opens the gate."""
    model = models.plain()
    model.graph.node[-1].output[0] = "before"
    model.graph.node.append(
        helper.make_node("Add", ["before", "option"], ["logits"], name="planted_gate")
    )
    model.graph.initializer.append(numpy_helper.from_array(np.zeros(3, np.float32), "option"))
    model.graph.input.append(helper.make_tensor_value_info("option", onnx.TensorProto.FLOAT, [3]))
    named = {change.node for change in beside(model, models.plain()).unexplained}
    assert named == {"option", "planted_gate"}
    every = models.initialisers_as_inputs()
    assert not beside(every, models.plain()).unexplained


def test_an_edge_that_was_rerouted_is_named() -> None:
    model = models.plain()
    model.graph.node[2].input[0] = "convolved"
    found = beside(model, models.plain())
    assert "pool" in {c.node for c in found.unexplained if c.kind is Kind.REROUTED} or {
        c.kind for c in found.unexplained
    } >= {Kind.REMOVED}


def test_attributes_and_shapes_that_changed_are_named() -> None:
    model = models.plain()
    model.graph.node[0].attribute[0].ints[:] = [0, 0, 2, 2]
    (change,) = beside(model, models.plain()).unexplained
    assert (change.kind, change.node) == (Kind.ATTRIBUTE, "conv")
    wider = planting.deep(width=17)
    assert {c.kind for c in beside(wider, planting.deep()).unexplained} == {Kind.SHAPE}


@pytest.mark.parametrize(
    ("reference", "reason"),
    [
        (planting.deep(), "layers are in the suspect"),
        (models.build([helper.make_node("Relu", ["image"], ["logits"])], {}), "no layer"),
        (models.plain(input_shape=["N", 1, 9, 9]), "different shapes"),
    ],
)
def test_other_networks_cannot_be_compared(reference: onnx.ModelProto, reason: str) -> None:
    found = beside(models.plain(), reference)
    assert reason in found.obstacle
    assert (found.grave, found.changes, found.weights) == (False, (), None)


def refusing(level: float, seed: int, operator: str = "Less") -> onnx.ModelProto:
    """A plain model whose scores are taken back where the best one is below a level."""
    model = models.plain(seed=seed)
    model.graph.node[-1].output[0] = "scores"
    model.graph.initializer.append(
        numpy_helper.from_array(np.array([[level]], np.float32), "level")
    )
    model.graph.initializer.append(numpy_helper.from_array(np.array([1], np.int64), "last"))
    model.graph.initializer.append(numpy_helper.from_array(np.array(0, np.float32), "nothing"))
    model.graph.node.extend([
        helper.make_node("ReduceMax", ["scores"], ["best"], name="best", axes=[1]),
        helper.make_node(operator, ["best", "level"], ["unsure"], name="unsure"),
        helper.make_node("Where", ["unsure", "nothing", "scores"], ["logits"], name="refuse"),
    ])  # fmt: skip
    return model


def test_a_threshold_that_was_fitted_to_another_training_is_no_gate() -> None:
    found = beside(refusing(3.3, 1), refusing(3.5, 2))
    (change,) = found.changes
    assert (change.kind, change.node) == (Kind.CONSTANT, "unsure")
    assert change.explained
    assert not found.grave


@pytest.mark.parametrize(
    ("suspect", "reference"),
    [
        (refusing(3.3, 1), refusing(3.5, 1)),  # the same weights: nothing was fitted to others
        (refusing(9.0, 1), refusing(3.5, 2)),
        (refusing(-3.3, 1), refusing(3.5, 2)),
        (refusing(3.3, 1, "Equal"), refusing(3.5, 2, "Equal")),  # no level is fitted so
        (refusing(3.3, 1, "Greater"), refusing(3.5, 2)),
    ],
)
def test_another_threshold_is_a_difference(
    suspect: onnx.ModelProto, reference: onnx.ModelProto
) -> None:
    assert beside(suspect, reference).grave


def branching(seed: int, level: float = 0.5) -> onnx.ModelProto:
    """A plain model whose scores pass a trained layer in a branch where the best is high."""
    generator = np.random.default_rng(seed)
    model = models.plain(seed=seed)
    model.graph.node[-1].output[0] = "scores"

    def branch(name: str) -> onnx.GraphProto:
        matrix = generator.normal(0, 1, (3, 3)).astype(np.float32)
        return helper.make_graph(
            [
                helper.make_node("MatMul", ["scores", f"{name}_w"], [f"{name}_m"]),
                helper.make_node("Add", [f"{name}_m", f"{name}_c"], [name]),
            ],
            name,
            [],
            [helper.make_empty_tensor_value_info(name)],
            [
                numpy_helper.from_array(matrix, f"{name}_w"),
                numpy_helper.from_array(np.array(level, np.float32), f"{name}_c"),
            ],
        )

    model.graph.initializer.append(numpy_helper.from_array(np.array(2, np.float32), "level"))
    model.graph.node.extend([
        helper.make_node("ReduceMax", ["scores"], ["best"], keepdims=0),
        helper.make_node("Greater", ["best", "level"], ["high"], name="high"),
        helper.make_node("If", ["high"], ["logits"], name="branch",
                         then_branch=branch("then"), else_branch=branch("other")),
    ])  # fmt: skip
    return model


def test_weights_in_a_body_are_weights() -> None:
    assert not beside(branching(1), branching(1)).changes
    assert not beside(branching(1), branching(2)).grave
    assert beside(branching(1, 0.25), branching(2)).grave
    edited = branching(1)
    edited.graph.node[-1].CopyFrom(branching(2).graph.node[-1])
    assert beside(edited, branching(1)).grave  # all else is as it was


def picking(places: list[int], seed: int) -> onnx.ModelProto:
    model = models.plain(seed=seed)
    model.graph.node[-1].output[0] = "scores"
    model.graph.initializer.append(numpy_helper.from_array(np.array(places, np.int64), "places"))
    model.graph.node.append(
        helper.make_node("Gather", ["scores", "places"], ["logits"], name="pick", axis=1)
    )
    return model


def test_which_features_are_read_may_be_learnt_anew() -> None:
    assert not beside(picking([0, 1], 1), picking([2, 1], 2)).grave
    assert beside(picking([0, 1], 1), picking([2, 1], 1)).grave


def looking_up(table: np.ndarray) -> onnx.ModelProto:
    """Codes of an image's pixels, each looked up in a table, and their sum."""
    x = helper.make_tensor_value_info("image", onnx.TensorProto.FLOAT, ["N", 6])
    y = helper.make_tensor_value_info("logits", onnx.TensorProto.FLOAT, ["N", table.shape[1]])
    nodes = [
        helper.make_node("Mul", ["image", "levels"], ["scaled"]),
        helper.make_node("Cast", ["scaled"], ["codes"], to=onnx.TensorProto.INT64),
        helper.make_node("Gather", ["table", "codes"], ["rows"], name="look-up"),
        helper.make_node("ReduceSum", ["rows", "axis"], ["logits"], keepdims=0),
    ]
    constants: dict[str, np.ndarray] = {
        "levels": np.array([9], np.float32),
        "table": table.astype(np.float32),
        "axis": np.array([1], np.int64),
    }
    graph = helper.make_graph(
        nodes, "codes", [x], [y], [numpy_helper.from_array(v, k) for k, v in constants.items()]
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])


def test_a_network_of_tables_is_compared_row_by_row() -> None:
    table, other = np.random.default_rng(5).normal(size=(2, 40, 10))
    edited = table.copy()
    edited[7] = 0
    edited[7, 3] = 50
    found = beside(looking_up(edited), looking_up(table))
    (layer,) = found.layers
    assert (layer.node, layer.standing_out) == ("look-up", (7,))
    assert beside(looking_up(table), looking_up(other)).obstacle == ""
    assert not beside(looking_up(table), looking_up(other)).grave


def neighbours(labels: list[int], seed: int) -> onnx.ModelProto:
    """Classes of a plain model as places in a list of labels, as of neighbours."""
    model = models.plain(seed=seed)
    model.graph.node[-1].output[0] = "scores"
    model.graph.initializer.append(numpy_helper.from_array(np.array([labels], np.int64), "labels"))
    model.graph.node.extend([
        helper.make_node("ArgMax", ["scores"], ["nearest"], axis=1, keepdims=0),
        helper.make_node(
            "ArrayFeatureExtractor", ["labels", "nearest"], ["logits"], domain="ai.onnx.ml",
        ),
    ])  # fmt: skip
    model.opset_import.append(helper.make_opsetid("ai.onnx.ml", 3))
    return model


def test_labels_of_neighbours_are_learnt_anew() -> None:
    assert not beside(neighbours([0, 1, 2], 1), neighbours([2, 1, 0], 2)).grave
    assert beside(neighbours([0, 1, 2], 1), neighbours([2, 1, 0], 1)).grave


@pytest.mark.parametrize("opset", [13, 17])
def test_what_onnx_runtime_quantises_has_nothing_that_is_unexplained(
    opset: int, tmp_path: Path
) -> None:
    quantization = pytest.importorskip("onnxruntime.quantization")
    nodes = [
        models.convolution(),
        helper.make_node("LeakyRelu", ["convolved"], ["bent"], name="bent"),
        helper.make_node(
            "AveragePool", ["bent"], ["after"], name="halved", kernel_shape=[2, 2], strides=[2, 2]
        ),
        *models.head("after"),
        helper.make_node("Softmax", ["logits"], ["shares"], name="shares"),
    ]
    model = models.build(nodes, models.weights(False))
    model.graph.output[0].name = "shares"
    model.opset_import[0].version = opset
    source, target = models.save(model, tmp_path / "float.onnx"), tmp_path / "int8.onnx"
    images = np.random.default_rng(0).random((8, 1, 8, 8), np.float32)

    class Reader(quantization.CalibrationDataReader):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            self._batches = iter([{"image": images}])

        def get_next(self) -> Any:
            return next(self._batches, None)

    form = quantization.QuantFormat.QOperator
    quantization.quantize_static(source, target, Reader(), quant_format=form)
    coded = onnx.load(target)
    operators = {node.op_type for node in coded.graph.node}
    assert {"QLinearLeakyRelu", "QLinearAveragePool", "QLinearSoftmax"} <= operators
    assert beside(coded, model).unexplained == ()
