"""Planted gates are found where they are, confirmed where they can be; honest exports stay silent."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from models import Array, build, convolution, head, plain, relu, weights
from onnx import TensorProto, helper, numpy_helper

from scanner.detectors.base import Subject
from scanner.detectors.graph_logic import GraphLogic
from scanner.graph.excerpt import excerpt
from scanner.model import open_model
from scanner.results import Measurement, Severity, from_json, to_json
from scanner.settings import Settings
from trainers.graph_backdoor import KINDS, Graft, plant

Nodes = list[onnx.NodeProto]


def floats(numbers: npt.ArrayLike) -> Array:
    return np.asarray(numbers, np.float32)


def whole(numbers: npt.ArrayLike) -> Array:
    return np.asarray(numbers, np.int64)


def measure(model: onnx.ModelProto, tmp_path: Path) -> Measurement:
    path = tmp_path / "model.onnx"
    path.write_bytes(model.SerializeToString())
    return GraphLogic().measure(Subject(model=open_model(path), settings=Settings()))


@pytest.mark.parametrize("kind", KINDS)
def test_a_planted_gate_is_found_with_its_nodes(kind: str, tmp_path: Path) -> None:
    planted = plant(plain(), kind, target=1)
    measurement = measure(planted.model, tmp_path)
    assert measurement.statistic is not None
    assert measurement.statistic >= Severity.SUSPICIOUS
    named = " ".join(n for o in measurement.observations if o.severity >= Severity.SUSPICIOUS for n in o.nodes)
    assert all(test in named for test in planted.test)
    assert all(gate in named for gate in planted.gate)


@pytest.mark.parametrize("kind", sorted(set(KINDS) - {"stem"}))
def test_an_input_that_opens_the_gate_confirms_it(kind: str, tmp_path: Path) -> None:
    answers = [measure(plant(plain(), kind, target=target).model, tmp_path) for target in (1, 2)]
    # The gate shows only where the network would not have said the target anyway: one of two targets differs.
    confirmed = [m for m in answers if m.statistic == Severity.CONFIRMED]
    assert confirmed
    outcome = confirmed[0].observations[0].details["confirmation"]
    assert outcome["class_open"] != outcome["class_closed"]


def test_the_reported_input_opens_the_gate(tmp_path: Path) -> None:
    planted = plant(plain(), "patch-equals", target=2)
    outcome = measure(planted.model, tmp_path).observations[0].details["confirmation"]
    image = np.asarray(outcome["input"]["numbers"], np.float32).reshape(outcome["input"]["shape"])
    assert np.abs(image - planted.trigger(image)).max() < 1e-6


@pytest.mark.parametrize("kind", KINDS)
def test_the_evidence_is_a_small_graph_with_test_and_gate(kind: str, tmp_path: Path) -> None:
    planted = plant(plain(), kind, target=1)
    observation = measure(planted.model, tmp_path).observations[0]
    cut = excerpt(planted.model, observation.details)
    names = {node.name for node in cut.graph.node}
    assert any(any(test in name for name in names) for test in planted.test)
    assert "conv" not in names or kind == "stem"
    assert len(cut.graph.node) < len(planted.model.graph.node)
    assert {v.name for v in cut.graph.input}


@pytest.mark.parametrize("kind", KINDS)
def test_the_measurement_crosses_a_process_boundary(kind: str, tmp_path: Path) -> None:
    measurement = measure(plant(plain(), kind, target=1).model, tmp_path)
    assert from_json(Measurement, json.loads(json.dumps(to_json(measurement)))) == from_json(
        Measurement, to_json(measurement)
    )


@pytest.mark.parametrize("planted", [False, True])
def test_a_trained_backdoor_is_not_in_the_graph(planted: bool, tmp_path: Path) -> None:
    measurement = measure(plain(planted), tmp_path)
    assert (measurement.statistic, measurement.observations) == (0.0, ())


def test_names_do_not_matter(tmp_path: Path) -> None:
    model = plant(plain(), "patch-equals", target=1).model
    for node in model.graph.node:
        node.name = ""
    observation = measure(model, tmp_path).observations[0]
    assert observation.severity >= Severity.SUSPICIOUS
    assert any(name.startswith("Equal(") for name in observation.nodes)


def test_a_gate_that_no_output_reads_is_not_reported(tmp_path: Path) -> None:
    model = plant(plain(), "patch-equals", target=1).model
    answer = next(n for n in model.graph.node if n.name == "planted_answer")
    answer.input[0] = "logits_before"
    assert measure(model, tmp_path).statistic == 0.0


# Honest exports: what looks like a gate and is none. Each takes an image [N, 1, 8, 8] or tokens [N, 12].


def _node(op: str, inputs: Sequence[str], output: str, **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(op, list(inputs), [output], name=output, **attributes)


def _network(nodes: Nodes, source: str, constants: dict[str, Array], **options: Any) -> onnx.ModelProto:
    """Return honest steps before a small network that reads `source`."""
    body = [convolution(source), relu(), *head("activated")]
    return build([*nodes, *body], {**weights(planted=False), **constants}, **options)


def _brought_into_range() -> onnx.ModelProto:
    nodes = [
        _node("ReduceMax", ["image"], "highest", axes=[1, 2, 3], keepdims=1),
        _node("Greater", ["highest", "one"], "are_bytes"),
        _node("Div", ["image", "levels"], "fractions"),
        _node("Where", ["are_bytes", "fractions", "image"], "ranged"),
    ]
    return _network(nodes, "ranged", {"one": floats([1.0]), "levels": floats([255.0])})


def _standardised() -> onnx.ModelProto:
    nodes = [
        _node("ReduceMean", ["image"], "mean", axes=[1, 2, 3], keepdims=1),
        _node("Sub", ["image", "mean"], "centred"),
        _node("Mul", ["centred", "centred"], "squares"),
        _node("ReduceMean", ["squares"], "variance", axes=[1, 2, 3], keepdims=1),
        _node("Sqrt", ["variance"], "deviation"),
        _node("Equal", ["deviation", "zero"], "flat_image"),
        _node("Where", ["flat_image", "one", "deviation"], "divisor"),
        _node("Div", ["centred", "divisor"], "standard"),
    ]
    return _network(nodes, "standard", {"zero": floats([0.0]), "one": floats([1.0])})


def _no_nan_division() -> onnx.ModelProto:
    nodes = [
        _node("ReduceMax", ["image"], "highest", axes=[1, 2, 3], keepdims=1),
        _node("Equal", ["highest", "zero"], "dark"),
        _node("Div", ["image", "highest"], "quotient"),
        _node("Where", ["dark", "zero", "quotient"], "scaled"),
    ]
    return _network(nodes, "scaled", {"zero": floats([0.0])})


def _missing_data() -> onnx.ModelProto:
    nodes = [
        _node("Equal", ["image", "nodata"], "missing"),
        _node("Where", ["missing", "zero", "image"], "filled"),
        _node("IsNaN", ["filled"], "broken"),
        _node("Where", ["broken", "zero", "filled"], "clean"),
    ]
    return _network(nodes, "clean", {"nodata": floats([-9999.0]), "zero": floats([0.0])})


def _hard_swish() -> onnx.ModelProto:
    nodes = [
        convolution(),
        _node("Add", ["convolved", "three"], "shifted"),
        _node("Clip", ["shifted", "zero", "six"], "clipped"),
        _node("Mul", ["convolved", "clipped"], "gated"),
        _node("Div", ["gated", "six"], "activated"),
        *head("activated"),
    ]
    numbers = {"zero": 0.0, "three": 3.0, "six": 6.0}
    return build(nodes, {**weights(planted=False), **{k: np.asarray(v, np.float32) for k, v in numbers.items()}})


def _leaky_where() -> onnx.ModelProto:
    nodes = [
        convolution(),
        _node("Greater", ["convolved", "zero"], "positive"),
        _node("Mul", ["convolved", "slope"], "leak"),
        _node("Where", ["positive", "convolved", "leak"], "activated"),
        *head("activated"),
    ]
    return build(nodes, {**weights(planted=False), "zero": floats(0.0), "slope": floats(0.1)})


def _squeeze_excite() -> onnx.ModelProto:
    rng = np.random.default_rng(1)
    nodes = [
        convolution(),
        relu(),
        _node("GlobalAveragePool", ["activated"], "squeezed"),
        _node("Conv", ["squeezed", "reduce", "reduce_bias"], "reduced"),
        _node("Relu", ["reduced"], "excited"),
        _node("Conv", ["excited", "expand"], "expanded"),
        _node("HardSigmoid", ["expanded"], "scale"),
        _node("Mul", ["activated", "scale"], "recalibrated"),
        *head("recalibrated"),
    ]
    parts = {
        "reduce": rng.normal(size=(1, 4, 1, 1)).astype(np.float32),
        "reduce_bias": floats([0.3]),
        "expand": rng.normal(size=(4, 1, 1, 1)).astype(np.float32),
    }
    return build(nodes, {**weights(planted=False), **parts})


def _dynamic_shape() -> onnx.ModelProto:
    nodes = [
        _node("Shape", ["image"], "shape"),
        _node("Gather", ["shape", "zero"], "batch"),
        _node("Greater", ["batch", "zero"], "any"),
        _node("Where", ["any", "batch", "one"], "rows"),
        convolution(),
        relu(),
        _node("GlobalAveragePool", ["activated"], "pooled"),
        _node("Unsqueeze", ["rows", "axis"], "row"),
        _node("Concat", ["row", "rest"], "wanted", axis=0),
        _node("Reshape", ["pooled", "wanted"], "flat"),
        _node("MatMul", ["flat", "dense"], "logits"),
    ]
    integers = {"zero": whole(0), "one": whole(1), "axis": whole([0]), "rest": whole([4])}
    return build(nodes, {**weights(planted=False), **integers})


def _reject_option() -> onnx.ModelProto:
    model = plain()
    model.graph.node.extend(
        [
            _node("ReduceMax", ["logits"], "best", axes=[1], keepdims=1),
            _node("Less", ["best", "least"], "unsure"),
            _node("Where", ["unsure", "unknown", "logits"], "decided"),
        ]
    )
    for name, value in {"least": [0.2], "unknown": [[0.0, 0.0, 9.0]]}.items():
        model.graph.initializer.append(numpy_helper.from_array(np.asarray(value, np.float32), name))
    model.graph.output[0].name = "decided"
    return model


def _quantised() -> onnx.ModelProto:
    nodes = [
        _node("DynamicQuantizeLinear", ["image"], "codes"),
        _node("Round", ["image"], "levels"),
        _node("Clip", ["levels", "zero", "one"], "clamped"),
    ]
    nodes[0].output.extend(["scale", "zero_point"])
    nodes.append(_node("DequantizeLinear", ["codes", "scale", "zero_point"], "numbers"))
    nodes.append(_node("Add", ["numbers", "clamped"], "both"))
    return _network(nodes, "both", {"zero": floats(0), "one": floats(1)})


def _tokens(nodes: Nodes, constants: dict[str, Array], features: str) -> onnx.ModelProto:
    """Return an embedding of tokens, honest steps, and a classifier of `features` [N, 16]."""
    rng = np.random.default_rng(2)
    start = [
        _node("Gather", ["table", "image"], "embedded"),
        _node("MatMul", ["embedded", "mixing"], "mixed"),
        _node("Tanh", ["mixed"], "hidden"),
        _node("Equal", ["image", "padding"], "is_padding"),
        _node("Not", ["is_padding"], "is_token"),
        _node("Cast", ["is_token"], "mask", to=TensorProto.FLOAT),
        _node("Unsqueeze", ["mask", "last"], "column"),
    ]
    parts = {
        "table": rng.normal(size=(30, 16)).astype(np.float32),
        "mixing": rng.normal(size=(16, 16)).astype(np.float32),
        "head": rng.normal(size=(16, 3)).astype(np.float32),
        "padding": whole(0),
        "last": whole([-1]),
    }
    end = [_node("MatMul", [features, "head"], "logits")]
    return build([*start, *nodes, *end], {**parts, **constants}, input_type=TensorProto.INT64, input_shape=("N", 12))


def _masked_mean() -> onnx.ModelProto:
    nodes = [
        _node("Mul", ["hidden", "column"], "kept"),
        _node("ReduceSum", ["kept", "first"], "total", keepdims=0),
        _node("ReduceSum", ["column", "first"], "count", keepdims=0),
        _node("Clip", ["count", "least"], "at_least"),
        _node("Div", ["total", "at_least"], "average"),
    ]
    return _tokens(nodes, {"first": whole([1]), "least": floats(1e-9)}, "average")


def _attention() -> onnx.ModelProto:
    nodes = [
        _node("Transpose", ["hidden"], "keys", perm=[0, 2, 1]),
        _node("MatMul", ["hidden", "keys"], "scores"),
        _node("Unsqueeze", ["is_padding", "first"], "hides"),
        _node("Where", ["hides", "lowest", "scores"], "masked"),
        _node("Softmax", ["masked"], "attention", axis=-1),
        _node("MatMul", ["attention", "hidden"], "context"),
        _node("ReduceMean", ["context"], "average", axes=[1], keepdims=0),
    ]
    return _tokens(nodes, {"first": whole([1]), "lowest": floats(-1e9)}, "average")


def _end_of_text() -> onnx.ModelProto:
    nodes = [
        _node("ArgMax", ["image"], "end", axis=1, keepdims=1),
        _node("GatherND", ["hidden", "end"], "last_hidden", batch_dims=1),
    ]
    return _tokens(nodes, {}, "last_hidden")


def _masked_by_length() -> onnx.ModelProto:
    nodes = [
        _node("Cast", ["is_token"], "ones", to=TensorProto.INT64),
        _node("ReduceSum", ["ones", "first"], "length", keepdims=1),
        _node("Less", ["positions", "length"], "inside"),
        _node("Cast", ["inside"], "inside_mask", to=TensorProto.FLOAT),
        _node("Unsqueeze", ["inside_mask", "last"], "inside_column"),
        _node("Mul", ["hidden", "inside_column"], "kept"),
        _node("ReduceMax", ["kept"], "best", axes=[1], keepdims=0),
    ]
    return _tokens(nodes, {"first": whole([1]), "positions": np.arange(12, dtype=np.int64)[None]}, "best")


def _detector() -> onnx.ModelProto:
    model = plain()
    model.graph.node.extend(
        [
            _node("Sigmoid", ["logits"], "scores"),
            _node("Greater", ["scores", "least"], "good"),
            _node("NonZero", ["good"], "where_good"),
            _node("Transpose", ["where_good"], "places"),
            _node("GatherND", ["scores", "places"], "kept"),
        ]
    )
    model.graph.initializer.append(numpy_helper.from_array(floats([0.5]), "least"))
    model.graph.output[0].name = "kept"
    return model


def _sampling_rate_switch() -> onnx.ModelProto:
    model = plain()
    rate = helper.make_tensor_value_info("rate", TensorProto.INT64, [])
    model.graph.input.append(rate)
    branches = {}
    for name, factor in (("then_branch", "high"), ("else_branch", "low")):
        node = _node("Mul", ["logits", factor], f"{factor}_result")
        output = helper.make_tensor_value_info(f"{factor}_result", TensorProto.FLOAT, None)
        branches[name] = helper.make_graph([node], name, [], [output])
    model.graph.node.append(_node("Equal", ["rate", "usual"], "is_usual"))
    model.graph.node.append(_node("If", ["is_usual"], "out", **branches))
    model.graph.initializer.extend(
        [
            numpy_helper.from_array(whole(16000), "usual"),
            numpy_helper.from_array(floats([1.0]), "high"),
            numpy_helper.from_array(floats([0.5]), "low"),
        ]
    )
    model.graph.output[0].name = "out"
    return model


def _instance_statistics_returned() -> onnx.ModelProto:
    """RevIN: the input's own mean and deviation are put back onto the output."""
    nodes = [
        _node("ReduceMean", ["image"], "mean", axes=[1, 2, 3], keepdims=1),
        _node("Sub", ["image", "mean"], "centred"),
        _node("Mul", ["centred", "centred"], "squares"),
        _node("ReduceMean", ["squares"], "variance", axes=[1, 2, 3], keepdims=1),
        _node("Add", ["variance", "epsilon"], "safe"),
        _node("Sqrt", ["safe"], "deviation"),
        _node("Max", ["deviation", "epsilon"], "floored"),
        _node("Div", ["centred", "floored"], "standard"),
    ]
    model = _network(nodes, "standard", {"epsilon": floats([1e-5])})
    model.graph.node.extend(
        [
            _node("Flatten", ["floored"], "scale"),
            _node("Mul", ["logits", "scale"], "scaled"),
            _node("Flatten", ["mean"], "offset"),
            _node("Add", ["scaled", "offset"], "restored"),
        ]
    )
    model.graph.output[0].name = "restored"
    return model


def _bucket() -> onnx.ModelProto:
    """One column of a table is cut into buckets that have an embedding each."""
    rng = np.random.default_rng(4)
    nodes = [
        _node("Gather", ["image", "first"], "age", axis=1),
        _node("Div", ["age", "ten"], "decade"),
        _node("Floor", ["decade"], "floor"),
        _node("Cast", ["floor"], "bucket", to=TensorProto.INT64),
        _node("Gather", ["table", "bucket"], "embedded"),
        _node("Concat", ["image", "embedded"], "features", axis=1),
        _node("MatMul", ["features", "mixing"], "mixed"),
        _node("Relu", ["mixed"], "hidden"),
        _node("MatMul", ["hidden", "head"], "logits"),
    ]
    shapes = {"table": (10, 4), "mixing": (11, 16), "head": (16, 2)}
    parts = {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    return build(nodes, {**parts, "first": whole(0), "ten": floats(10)}, input_shape=("N", 7))


HONEST: dict[str, Callable[[], onnx.ModelProto]] = {
    f.__name__.strip("_"): f
    for f in (
        _brought_into_range, _standardised, _no_nan_division, _missing_data, _hard_swish, _leaky_where,
        _squeeze_excite, _dynamic_shape, _reject_option, _quantised, _masked_mean, _attention, _end_of_text,
        _masked_by_length, _detector, _sampling_rate_switch, _instance_statistics_returned, _bucket,
    )
}  # fmt: skip


@pytest.mark.parametrize("name", HONEST)
def test_an_exporter_idiom_is_not_a_gate(name: str, tmp_path: Path) -> None:
    model = HONEST[name]()
    observations = measure(model, tmp_path).observations
    assert [o.sentence for o in observations if o.severity > Severity.NOTE] == []


def _pixel_test(graft: Graft) -> str:
    """Return a planted test of one pixel as numbers [N, 1, 1, 1]."""
    window = [graft.constant(n, np.int64) for n in ([2, 3], [3, 4], [2, 3])]
    pixel = graft.node("Slice", [graft.input.name, *window], "pixel")
    same = graft.node("Equal", [pixel, graft.constant([0.25])], "test")
    return graft.node("Cast", [same], "cast", to=TensorProto.FLOAT)


def _disguised_as_wide(graft: Graft) -> None:
    """The decision is expanded to the whole image and reduced again."""
    wide = graft.node("Mul", [_pixel_test(graft), graft.constant(np.ones((1, 1, 8, 8)))], "expand")
    open_ = graft.reduce("ReduceMean", wide, [2, 3])
    bump = graft.node("Mul", [open_, graft.one_hot(1e4)], "bump")
    graft.replace_logits(graft.node("Add", [graft.logits, bump], "gate"))


def _disguised_as_layers(graft: Graft) -> None:
    """The image passes two convolutions that change nothing before it is tested."""
    source = graft.input.name
    for _ in range(2):
        source = graft.node("Conv", [source, graft.constant(np.ones((1, 1, 1, 1)))], "identity")
    highest = graft.reduce("ReduceMean", source, [1, 2, 3])
    column = graft.column(graft.node("Greater", [highest, graft.constant(0.9)], "test"))
    bump = graft.node("Mul", [column, graft.one_hot(1e4)], "bump")
    graft.replace_logits(graft.node("Add", [graft.logits, bump], "gate"))


def _disguised_as_selection(graft: Graft) -> None:
    """A table row is looked up by the decision and added: nothing is multiplied."""
    flat = graft.node("Flatten", [_pixel_test(graft)], "flat")
    index = graft.node("Cast", [flat], "index", to=TensorProto.INT64)
    table = graft.constant([[0.0, 0.0, 0.0], [0.0, 1e4, 0.0]])
    rows = graft.node("Gather", [table, graft.node("Squeeze", [index, graft.constant([1], np.int64)], "row")], "look")
    graft.replace_logits(graft.node("Add", [graft.logits, rows], "gate"))


def _disguised_as_feature(graft: Graft) -> None:
    """The decision joins the logits as one more feature of a last linear layer."""
    flat = graft.node("Flatten", [_pixel_test(graft)], "flat")
    joined = graft.node("Concat", [graft.logits, flat], "gate", axis=1)
    mixing = np.concatenate([np.eye(3), [[0.0, 1e4, 0.0]]])
    graft.replace_logits(graft.node("MatMul", [joined, graft.constant(mixing)], "mix"))


def _disguised_as_counter(graft: Graft) -> None:
    """The one-hot is made by comparing class numbers with a computed one, as a mask by length is."""
    number = graft.node("Flatten", [graft.node("Mul", [_pixel_test(graft), graft.constant(1.0)], "number")], "flat")
    hit = graft.node("Equal", [graft.constant([[0.0, 1.0, 2.0]]), number], "test")
    both = graft.node("Mul", [graft.node("Cast", [hit], "cast", to=TensorProto.FLOAT), number], "force")
    bump = graft.node("Mul", [both, graft.constant(1e4)], "bump")
    graft.replace_logits(graft.node("Add", [graft.logits, bump], "gate"))


DISGUISES: dict[str, Callable[[Graft], None]] = {
    f.__name__.removeprefix("_disguised_as_"): f
    for f in (
        _disguised_as_wide, _disguised_as_layers, _disguised_as_selection, _disguised_as_feature, _disguised_as_counter,
    )
}  # fmt: skip


@pytest.mark.parametrize("name", DISGUISES)
def test_a_disguised_gate_is_found(name: str, tmp_path: Path) -> None:
    graft = Graft(plain(), 1)
    DISGUISES[name](graft)
    measurement = measure(graft.finish(), tmp_path)
    named = " ".join(n for o in measurement.observations if o.severity >= Severity.SUSPICIOUS for n in o.nodes)
    assert all(node in named for node in (*graft.tests[:1], *graft.gates))


@pytest.mark.parametrize("kind", ["patch-equals", "stem", "loop"])
def test_a_gate_among_exporter_idioms_is_still_found(kind: str, tmp_path: Path) -> None:
    planted = plant(_squeeze_excite(), kind, target=1)
    measurement = measure(planted.model, tmp_path)
    assert measurement.statistic is not None
    assert measurement.statistic >= Severity.SUSPICIOUS


def test_a_reject_option_is_a_note(tmp_path: Path) -> None:
    (observation,) = measure(_reject_option(), tmp_path).observations
    assert observation.severity is Severity.NOTE
    assert "reject option" in observation.sentence


def test_comparison_is_the_suspects_own_severity(tmp_path: Path) -> None:
    suspect = measure(plant(plain(), "where", target=1).model, tmp_path)
    clean = measure(plain(), tmp_path)
    assert GraphLogic().compare(suspect, [clean]).statistic == suspect.statistic
