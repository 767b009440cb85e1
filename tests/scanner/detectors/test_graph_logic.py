"""Planted gates are found where they are, and confirmed where possible; honest exports are not."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from exporter_idioms import HONEST, floats, operation, reject_option, squeeze_excite, tokens
from hostile.attacks import gates_in_a_row
from models import plain
from onnx import TensorProto, helper

from scanner.detectors import graph_logic
from scanner.detectors.graph_logic import GraphLogic
from scanner.errors import WorkerTimeoutError
from scanner.graph.logic.excerpt import excerpt
from scanner.graph.logic.gates import observe
from scanner.graph.logic.unfold import unfold
from scanner.instruments import kept, runtime
from scanner.instruments.detector import Subject
from scanner.judging.comparison import compare
from scanner.modelfile.model import open_model
from scanner.results import Measurement, Severity
from scanner.sandbox import deadline
from scanner.settings import Settings
from scanner.values import from_json, to_json
from trainers.graph_backdoor import Graft, plant
from trainers.graph_backdoor.comparisons import KINDS


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
    named = " ".join(
        n for o in measurement.observations if o.severity >= Severity.SUSPICIOUS for n in o.nodes
    )
    assert all(test in named for test in planted.test)
    assert all(gate in named for gate in planted.gate)


@pytest.mark.parametrize("kind", sorted(set(KINDS) - {"stem"}))
def test_an_input_that_opens_the_gate_confirms_it(kind: str, tmp_path: Path) -> None:
    answers = [measure(plant(plain(), kind, target=target).model, tmp_path) for target in (1, 2)]
    # The gate shows only where the network would not have said the target anyway: one of two
    # targets differs.
    confirmed = [m for m in answers if m.statistic == Severity.CONFIRMED]
    assert confirmed
    outcome = confirmed[0].observations[0].details["confirmation"]
    assert outcome["class_open"] != outcome["class_closed"]


def test_the_reported_input_opens_the_gate(tmp_path: Path) -> None:
    planted = plant(plain(), "patch-equals", target=2)
    outcome = measure(planted.model, tmp_path).observations[0].details["confirmation"]
    image = np.asarray(outcome["input"]["numbers"], np.float32).reshape(outcome["input"]["shape"])
    assert np.abs(image - planted.trigger(image)).max() < 1e-6


def test_the_input_that_opens_it_is_shown_with_its_classes(tmp_path: Path) -> None:
    planted = plant(plain(), "patch-equals", target=2)
    observation = measure(planted.model, tmp_path).observations[0]
    outcome, shown = observation.details["confirmation"], observation.input
    assert shown is not None
    assert shown.class_after == outcome["class_open"] == 2
    assert shown.class_without == outcome["class_closed"] != 2
    assert shown.original is not None
    assert shown.original != shown.image
    assert shown.class_before is not None
    assert shown.success == 1.0


def test_a_failure_to_show_it_takes_no_confirmation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise WorkerTimeoutError("the time is used up", remedy="wait")

    monkeypatch.setattr(kept, "changed_alike", fail)
    observation = measure(plant(plain(), "patch-equals", target=2).model, tmp_path).observations[0]
    assert observation.severity is Severity.CONFIRMED
    assert observation.input is not None
    assert observation.input.original is not None
    assert observation.input.class_after is None


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
    text = json.dumps(to_json(measurement), allow_nan=False)
    assert from_json(Measurement, json.loads(text)) == from_json(Measurement, to_json(measurement))


def test_infinite_constants_are_written_as_words(tmp_path: Path) -> None:
    planted = plant(plain(), "where", target=1)
    for tensor in planted.model.graph.initializer:
        array = onnx.numpy_helper.to_array(tensor)
        if array.shape == (1, 3):
            tensor.CopyFrom(
                onnx.numpy_helper.from_array(
                    np.where(array > 0, np.float32(np.inf), array), tensor.name
                )
            )
    measurement = measure(planted.model, tmp_path)
    assert measurement.observations[0].details["writes"]["numbers"] == [0.0, "inf", 0.0]
    json.dumps(to_json(measurement), allow_nan=False)


@pytest.mark.parametrize("planted", [False, True])
def test_a_trained_backdoor_is_not_in_the_graph(planted: bool, tmp_path: Path) -> None:
    measurement = measure(plain(planted), tmp_path)
    assert (measurement.statistic, measurement.observations) == (0.0, ())


def test_a_deadline_takes_no_finding(tmp_path: Path) -> None:
    planted = plant(plain(), "patch-equals", target=1).model
    deadline.expire()
    try:
        measurement = measure(planted, tmp_path)
    finally:
        deadline.renew()
    assert measurement.statistic == Severity.SUSPICIOUS
    assert [o.details["confirmation"]["reason"] for o in measurement.observations] == [
        "the time ran out"
    ]


def test_a_large_graph_keeps_all_its_gates_though_few_are_tried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(graph_logic, "_MOST_STEPS", 500)
    observations = measure(gates_in_a_row(gates=20, activations=200), tmp_path).observations
    assert len(observations) == 20
    assert {o.severity for o in observations} == {Severity.SUSPICIOUS, Severity.CONFIRMED}
    reasons = [o.details["confirmation"].get("reason") for o in observations]
    assert reasons == [None, None, *["enough others were tried"] * 18]


@pytest.mark.parametrize("steps", [0, 1, 3_000, 100_000, 10**7])
def test_fewer_gates_are_tried_the_larger_a_graph_is(steps: int) -> None:
    tried = graph_logic.most_tried(steps)
    assert 1 <= tried <= 64
    assert tried == 1 or tried * steps <= graph_logic._MOST_STEPS


def test_a_gate_costs_one_load_of_the_whole_graph(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loads = []
    load = runtime.open_session

    def counted(*arguments: Any) -> runtime.Session:
        loads.append(arguments)
        return load(*arguments)

    monkeypatch.setattr(runtime, "open_session", counted)
    # Inputs that open this gate do not change the class: every start is tried.
    monkeypatch.setattr(graph_logic, "_differ", lambda *_: False)
    (observation,) = measure(plant(plain(), "patch-equals", target=1).model, tmp_path).observations
    assert observation.details["confirmation"]["opened"]
    # The test, the answers, the test held, twice; then the inverse, and it held.
    assert len(loads) == 6


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


@pytest.mark.parametrize("name", HONEST)
def test_an_exporter_idiom_is_not_a_gate(name: str, tmp_path: Path) -> None:
    model = HONEST[name]()
    observations = measure(model, tmp_path).observations
    assert [o.sentence for o in observations if o.severity > Severity.NOTE] == []


SAMPLES = sorted((Path(__file__).parents[3] / "samples").glob("*.onnx"))


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.stem)
def test_gates_planted_in_trained_models_are_found(path: Path) -> None:
    clean = onnx.ModelProto.FromString(path.read_bytes())
    assert observe(unfold(clean)) == ()
    for kind in KINDS:
        planted = plant(clean, kind, target=1)
        found = [o for o in observe(unfold(planted.model)) if o.severity >= Severity.SUSPICIOUS]
        named = " ".join(name for observation in found for name in observation.nodes)
        assert [n for n in (*planted.test, *planted.gate) if n not in named] == [], kind


def test_every_kind_is_confirmed_in_a_trained_model(tmp_path: Path) -> None:
    clean = onnx.ModelProto.FromString(
        next(p for p in SAMPLES if p.stem == "mnist-clean").read_bytes()
    )
    statistics = {
        kind: measure(plant(clean, kind, target=7).model, tmp_path).statistic for kind in KINDS
    }
    assert statistics == dict.fromkeys(KINDS, float(Severity.CONFIRMED))


def test_shapes_that_the_file_claims_are_not_believed(tmp_path: Path) -> None:
    model = plant(plain(), "patch-equals", target=1).model
    for node in model.graph.node:
        for name in node.output:
            claimed = helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", 640, 480])
            model.graph.value_info.append(claimed)
    # ONNX Runtime may refuse such a file; the graph still says what it does.
    statistic = measure(model, tmp_path).statistic
    assert statistic is not None
    assert statistic >= Severity.SUSPICIOUS


def test_a_pixel_of_a_picture_of_any_size_is_one_number(tmp_path: Path) -> None:
    graft = Graft(plain(), 1)
    flat = graft.node("Flatten", [_pixel_test(graft)], "flat")
    open_ = graft.node("Cast", [flat], "bool", to=TensorProto.BOOL)
    graft.replace_logits(graft.node("Where", [open_, graft.one_hot(1e4), graft.logits], "gate"))
    model = graft.planted().model
    for size in model.graph.input[0].type.tensor_type.shape.dim[2:]:
        size.dim_param = "any"
    statistic = measure(model, tmp_path).statistic
    assert statistic is not None
    assert statistic >= Severity.SUSPICIOUS


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
    rows = graft.node(
        "Gather",
        [table, graft.node("Squeeze", [index, graft.constant([1], np.int64)], "row")],
        "look",
    )
    graft.replace_logits(graft.node("Add", [graft.logits, rows], "gate"))


def _disguised_as_feature(graft: Graft) -> None:
    """The decision joins the logits as one more feature of a last linear layer."""
    flat = graft.node("Flatten", [_pixel_test(graft)], "flat")
    joined = graft.node("Concat", [graft.logits, flat], "gate", axis=1)
    mixing = np.concatenate([np.eye(3), [[0.0, 1e4, 0.0]]])
    graft.replace_logits(graft.node("MatMul", [joined, graft.constant(mixing)], "mix"))


def _disguised_as_counter(graft: Graft) -> None:
    """The one-hot compares class numbers with a computed one, as a mask by length does."""
    number = graft.node(
        "Flatten", [graft.node("Mul", [_pixel_test(graft), graft.constant(1.0)], "number")], "flat"
    )
    hit = graft.node("Equal", [graft.constant([[0.0, 1.0, 2.0]]), number], "test")
    both = graft.node(
        "Mul", [graft.node("Cast", [hit], "cast", to=TensorProto.FLOAT), number], "force"
    )
    bump = graft.node("Mul", [both, graft.constant(1e4)], "bump")
    graft.replace_logits(graft.node("Add", [graft.logits, bump], "gate"))


def _disguised_as_late(graft: Graft) -> None:
    """The test reads a pixel plus nothing of the logits, as if it asked what was computed."""
    total = graft.reduce("ReduceSum", graft.logits, [1])
    nothing = graft.node("Mul", [total, graft.constant(0.0)], "nothing")
    pixel = graft.reduce("ReduceMax", graft.input.name, [1, 2, 3])
    both = graft.node("Add", [pixel, nothing], "both")
    test = graft.node("Greater", [both, graft.constant(0.95)], "test")
    column = graft.node("Cast", [graft.column(test)], "bool", to=TensorProto.BOOL)
    graft.replace_logits(graft.node("Where", [column, graft.one_hot(1e4), graft.logits], "gate"))


DISGUISES: dict[str, Callable[[Graft], None]] = {
    f.__name__.removeprefix("_disguised_as_"): f
    for f in (
        _disguised_as_wide, _disguised_as_layers, _disguised_as_selection, _disguised_as_feature,
        _disguised_as_counter,
        _disguised_as_late,
    )
}  # fmt: skip


@pytest.mark.parametrize("name", DISGUISES)
def test_a_disguised_gate_is_found(name: str, tmp_path: Path) -> None:
    graft = Graft(plain(), 1)
    DISGUISES[name](graft)
    measurement = measure(graft.planted().model, tmp_path)
    named = " ".join(
        n for o in measurement.observations if o.severity >= Severity.SUSPICIOUS for n in o.nodes
    )
    assert all(node in named for node in (*graft.tests[:1], *graft.gates))


@pytest.mark.parametrize("kind", ["patch-equals", "stem", "loop"])
def test_a_gate_among_exporter_idioms_is_still_found(kind: str, tmp_path: Path) -> None:
    planted = plant(squeeze_excite(), kind, target=1)
    measurement = measure(planted.model, tmp_path)
    assert measurement.statistic is not None
    assert measurement.statistic >= Severity.SUSPICIOUS


def test_an_answer_forced_at_each_position_is_a_warning(tmp_path: Path) -> None:
    """A tagger writes fixed logits wherever one token stands: padding, or a word as trigger."""
    model = tokens([], {"forced": floats([[[9.0, 0.0, 0.0]]])}, "hidden")
    model.graph.node.append(operation("Unsqueeze", ["is_padding", "last"], "here"))
    model.graph.node.append(operation("Where", ["here", "forced", "logits"], "tags"))
    model.graph.output[0].name = "tags"
    (observation,) = measure(model, tmp_path).observations
    assert observation.severity is Severity.WARNING
    assert "each position" in observation.sentence


def test_a_reject_option_is_a_note(tmp_path: Path) -> None:
    (observation,) = measure(reject_option(), tmp_path).observations
    assert observation.severity is Severity.NOTE
    assert "reject option" in observation.sentence


def test_comparison_is_the_suspects_own_severity(tmp_path: Path) -> None:
    suspect = measure(plant(plain(), "where", target=1).model, tmp_path)
    clean = measure(plain(), tmp_path)
    assert compare(GraphLogic(), suspect, [clean]).statistic == suspect.statistic


def _mean_of(graft: Graft) -> str:
    return graft.reduce("ReduceMean", graft.input.name, [1, 2, 3], keep=True)


def _chosen(graft: Graft, test: str, other: str) -> None:
    graft.replace_input(graft.node("Where", [test, other, graft.input.name], "chosen"))


def _automatic_inversion(graft: Graft) -> None:
    bright = graft.node("Greater", [_mean_of(graft), graft.constant(0.5)], "bright")
    _chosen(graft, bright, graft.node("Sub", [graft.constant(1.0), graft.input.name], "inverse"))


def _automatic_gamma(graft: Graft) -> None:
    dark = graft.node("Less", [_mean_of(graft), graft.constant(0.4)], "dark")
    _chosen(graft, dark, graft.node("Sqrt", [graft.input.name], "lighter"))


def _contrast_check(graft: Graft) -> None:
    apart = graft.node("Sub", [graft.input.name, _mean_of(graft)], "apart")
    squares = graft.node("Mul", [apart, apart], "squares")
    variance = graft.reduce("ReduceMean", squares, [1, 2, 3], keep=True)
    dull = graft.node("Less", [variance, graft.constant(0.01)], "dull")
    stretched = graft.node("Mul", [apart, graft.constant(4.0)], "stretched")
    _chosen(graft, dull, graft.node("Add", [stretched, graft.constant(0.5)], "recentred"))


def _signed_range(graft: Graft) -> None:
    lowest = graft.reduce("ReduceMin", graft.input.name, [1, 2, 3], keep=True)
    signed = graft.node("Less", [lowest, graft.constant(0.0)], "signed")
    moved = graft.node("Add", [graft.input.name, graft.constant(1.0)], "moved")
    _chosen(graft, signed, graft.node("Div", [moved, graft.constant(2.0)], "halved"))


def _router(graft: Graft) -> None:
    rng = np.random.default_rng(0)
    mixings = (np.eye(3) + 0.3 * rng.normal(size=(2, 3, 3))).astype(np.float32)
    heads = [graft.node("MatMul", [graft.logits, graft.constant(m)], "head") for m in mixings]
    day = graft.node("Greater", [graft.column(_mean_of(graft)), graft.constant(0.45)], "day")
    graft.replace_logits(graft.node("Where", [day, *heads], "routed"))


def _mixture(graft: Graft) -> None:
    rng = np.random.default_rng(0)
    over = graft.node("Sub", [graft.column(_mean_of(graft)), graft.constant(0.5)], "over")
    share = graft.node(
        "Sigmoid", [graft.node("Mul", [over, graft.constant(60.0)], "gain")], "share"
    )
    rest = graft.node("Sub", [graft.constant(1.0), share], "rest")
    head = graft.node("MatMul", [graft.logits, graft.constant(rng.normal(size=(3, 3)))], "head")
    parts = [graft.node("Mul", pair, "part") for pair in ([share, head], [rest, graft.logits])]
    graft.replace_logits(graft.node("Add", parts, "mixed"))


def _energy_gate(graft: Graft) -> None:
    squares = graft.node("Mul", [graft.input.name, graft.input.name], "squares")
    energy = graft.column(graft.reduce("ReduceMean", squares, [1, 2, 3]))
    over = graft.node("Sub", [energy, graft.constant(0.1)], "over")
    share = graft.node(
        "Sigmoid", [graft.node("Mul", [over, graft.constant(80.0)], "gain")], "share"
    )
    graft.replace_logits(graft.node("Mul", [graft.logits, share], "weighed"))


HABITS = {
    f.__name__.removeprefix("_"): f
    for f in (
        _automatic_inversion, _automatic_gamma, _contrast_check, _signed_range, _router, _mixture,
        _energy_gate,
    )
}  # fmt: skip


@pytest.mark.parametrize("name", HABITS)
def test_what_ordinary_images_take_both_ways_is_a_note_with_its_share(
    name: str, tmp_path: Path
) -> None:
    graft = Graft(plain(), 1)
    HABITS[name](graft)
    model = graft.planted().model
    assert max(o.severity for o in observe(unfold(model))) >= Severity.SUSPICIOUS
    observations = measure(model, tmp_path).observations
    assert {o.severity for o in observations} == {Severity.NOTE}
    shares = [o.details["ordinary"] for o in observations if "ordinary" in o.details]
    assert all(share["taken"] * 20 >= share["asked"] or share["guesses"] for share in shares)


def test_a_guard_of_empty_images_is_a_warning(tmp_path: Path) -> None:
    graft = Graft(plain(), 1)
    peak = graft.column(graft.reduce("ReduceMax", graft.input.name, [1, 2, 3]))
    silent = graft.node("Less", [peak, graft.constant(0.01)], "silent")
    graft.replace_logits(graft.node("Where", [silent, graft.one_hot(5.0), graft.logits], "gate"))
    (observation,) = measure(graft.planted().model, tmp_path).observations
    assert observation.severity is Severity.WARNING
    assert "may be a guard" in observation.sentence


def test_two_gates_that_do_the_same_do_not_clear_one_another(tmp_path: Path) -> None:
    graft = Graft(plain(), 2)
    peak = graft.column(graft.reduce("ReduceMax", graft.input.name, [1, 2, 3]))
    value = graft.logits
    for _ in range(2):
        test = graft.node("Greater", [peak, graft.constant(0.8)], "test")
        value = graft.node("Where", [test, graft.one_hot(1e4), value], "gate")
    graft.replace_logits(value)
    observations = measure(graft.planted().model, tmp_path).observations
    assert all(o.severity >= Severity.SUSPICIOUS for o in observations)


def test_a_confirmation_says_how_often_the_gate_opens_and_not_what_it_is_for(
    tmp_path: Path,
) -> None:
    observation = measure(plant(plain(), "patch-equals", target=2).model, tmp_path).observations[0]
    assert observation.severity is Severity.CONFIRMED
    asked = observation.details["ordinary"]["asked"]
    assert f"0 of {asked} ordinary images take the rarer way" in observation.sentence
    assert "not what it is for" in observation.sentence
