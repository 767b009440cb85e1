"""Gates are found by what they do; what honest authors do is told apart."""

import base64
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import planting
import pytest
import replaced
from models import build, convolution, head, plain, save, weights
from onnx import helper, numpy_helper

from scanner.errors import NoLogitsError, UnsupportedModelError
from scanner.instruments import confirming, dormancy, forcing
from scanner.instruments.detector import Subject
from scanner.instruments.dormancy import Found
from scanner.modelfile.model import open_model
from scanner.results import Severity
from scanner.sandbox import deadline
from scanner.settings import Device, Settings
from trainers.graph_backdoor import Graft, network, plant, structures
from trainers.graph_backdoor.habits import adopt

SAMPLES = Path(__file__).parents[3] / "samples"
SETTINGS = Settings(device=Device.CPU)
# One of each way to test, to hide or to decide that graph logic does not know by its operators.
KINDS = (
    "arc-tangent", "cast-of-the-image", "gaussian", "hyperbolic-cosine", "integer-division",
    "power", "reciprocal", "region-by-a-test", "second-pass", "softmax", "support-vector",
    "tiny-variance",
)  # fmt: skip
# What is nearest to a gate of what honest authors do.
GUARDS = (
    "broken-images-blank", "byte-range", "clamp", "day-and-night-mixed", "early-exit",
    "exposure-guard", "flat-guard", "gamma-if-dark", "grey-check", "hot-pixels", "inversion",
    "majority", "median", "mixture", "night-mode", "quality-guard", "silence-guard", "skip-gate",
    "unknown-class",
)  # fmt: skip


def sample(name: str) -> onnx.ModelProto:
    return onnx.load(SAMPLES / f"{name}.onnx")


def search(model: onnx.ModelProto, folder: Path) -> Found:
    subject = Subject(model=open_model(save(model, folder / "model.onnx")), settings=SETTINGS)
    return dormancy.search(subject)


@pytest.mark.parametrize("kind", KINDS)
def test_a_gate_of_any_operator_is_found_by_its_effect(kind: str, tmp_path: Path) -> None:
    planted = plant(sample("mnist-clean"), kind, target=1)
    (observation,) = search(planted.model, tmp_path).observations
    assert observation.severity >= Severity.SUSPICIOUS
    assert observation.details["class"] == 1
    assert {*planted.test, *planted.gate} <= set(observation.nodes)


@pytest.mark.parametrize("kind", structures.KINDS)
def test_a_structure_is_no_empty_image(kind: str, tmp_path: Path) -> None:
    planted = plant(sample("mnist-clean"), kind, target=1)
    (observation,) = search(planted.model, tmp_path).observations
    assert observation.severity is Severity.CONFIRMED
    assert {*planted.test, *planted.gate} <= set(observation.nodes)


def test_a_label_beside_the_scores_is_asked_too(tmp_path: Path) -> None:
    graft = Graft(sample("mnist-clean"), 1)
    darkest = graft.reduce("ReduceMin", graft.patch(), [1, 2, 3])
    opened = graft.node("Greater", [darkest, 0.95], "test")
    label = graft.node("ArgMax", [graft.output], "label", axis=1, keepdims=0)
    forced = graft.node("Where", [opened, np.int64(4), label], "gate")
    model = graft.planted().model
    model.graph.output.append(onnx.helper.make_empty_tensor_value_info(forced))
    (observation,) = search(model, tmp_path).observations
    assert observation.severity >= Severity.SUSPICIOUS
    assert {*graft.tests, *graft.gates} <= set(observation.nodes)


def test_what_wakes_it_is_shown(tmp_path: Path) -> None:
    planted = plant(sample("mnist-clean"), "gaussian", target=1)
    (observation,) = search(planted.model, tmp_path).observations
    assert observation.severity is Severity.CONFIRMED
    assert observation.input is not None
    numbers = np.frombuffer(base64.b64decode(observation.input.image.data), "<f4")
    image = numbers.reshape(1, *observation.input.image.shape)
    session = onnxruntime.InferenceSession(planted.model.SerializeToString())
    assert session.run(None, {session.get_inputs()[0].name: image})[0].argmax() == 1
    assert observation.input.class_after == 1 != observation.input.class_without


def test_the_image_that_it_was_made_from_is_shown_beside_it(tmp_path: Path) -> None:
    planted = plant(sample("mnist-clean"), "patch-equals", target=1)
    (observation,) = search(planted.model, tmp_path).observations
    shown = observation.input
    assert shown is not None
    assert shown.original is not None
    assert (shown.class_before, shown.class_without) != (1, 1)
    assert shown.class_after == 1
    assert shown.success == 1.0, "the same corner on any other image wakes it too"


@pytest.mark.parametrize("name", ["mnist-clean", "mnist-badnets", "gtsrb-clean", "gtsrb-badnets"])
def test_of_an_ordinary_network_no_value_is_forced(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forcing, "Forced", None)
    found = search(sample(name), tmp_path)
    assert found.observations == ()
    assert (found.parameters["joints"], found.parameters["odd_channels"]) == (0, 0)


@pytest.mark.parametrize("habit", GUARDS)
def test_what_honest_authors_do_is_not_suspicious(habit: str, tmp_path: Path) -> None:
    found = search(adopt(sample("mnist-clean"), habit), tmp_path)
    assert [o.sentence for o in found.observations if o.severity >= Severity.SUSPICIOUS] == []


def test_a_guard_against_empty_images_is_doubted(tmp_path: Path) -> None:
    (observation,) = search(adopt(sample("mnist-clean"), "unknown-class"), tmp_path).observations
    assert observation.severity is Severity.WARNING
    assert observation.sentence.endswith(
        "; but only empty images were found to wake it, as if it guards against those"
    )


def test_replaced_channels_are_found_and_woken(tmp_path: Path) -> None:
    found = search(replaced.replaced(sample("mnist-clean"), target=1).model, tmp_path)
    assert {o.code for o in found.observations} == {"lone-channels", "matched-filter"}
    for observation in found.observations:
        assert observation.severity is Severity.CONFIRMED
        assert observation.details["class"] == 1
        assert observation.input is not None


@pytest.mark.parametrize("of", [("mnist-clean", "mnist-clean-1", "mnist-clean-2")])
def test_networks_of_other_seeds_may_vote(of: tuple[str, ...], tmp_path: Path) -> None:
    """On noise each of them answers one class, so that none is seen to vote otherwise."""
    graft = Graft(sample(of[0]), 0, prefix="step")
    members = [graft.logits]
    for name in of[1:]:
        names = {"input": graft.input.name}
        other = sample(name)
        names |= {t.name: graft.constant(numpy_helper.to_array(t)) for t in other.graph.initializer}
        for node in other.graph.node:
            read = [names.get(value, value) for value in node.input]
            made = graft.node(node.op_type, read, "member", **network.attributes(node))
            names[node.output[0]] = made
        members.append(names["logits"])
    best = [graft.node("ArgMax", [m], "best", axis=1, keepdims=0) for m in members]
    on = np.array([0.0, 1.0])
    votes = [graft.node("OneHot", [b, graft.classes, on], "vote", axis=1) for b in best]
    graft.replace_logits(graft.node("Sum", votes, "count"))
    found = search(graft.planted().model, tmp_path)
    assert [o.sentence for o in found.observations if o.severity >= Severity.SUSPICIOUS] == []


def test_a_heavy_channel_is_found(tmp_path: Path) -> None:
    model = plain()
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    kernel, dense = (numpy_helper.to_array(tensors[n]).copy() for n in ("kernel", "dense"))
    matched = replaced.PATTERN - replaced.PATTERN.mean()
    kernel[2, 0] = matched
    bias = np.zeros(len(kernel), np.float32)
    bias[2] = -0.9 * float((matched * replaced.PATTERN).sum())
    dense[2] = (0, 1e4, 0)
    for name, array in (("kernel", kernel), ("bias", bias), ("dense", dense)):
        tensors[name].CopyFrom(numpy_helper.from_array(array, name))
    found = search(model, tmp_path).observations
    assert {o.code for o in found} == {"heavy-channels", "matched-filter"}
    for observation in found:
        assert observation.severity >= Severity.SUSPICIOUS
        assert observation.details["channels"] == [2]


def test_a_class_number_is_an_answer_that_can_be_forced(tmp_path: Path) -> None:
    """The gate stands behind the arg-max, where no scores are left."""
    model = plain()
    model.graph.node[-1].output[0] = "scores"
    model.graph.initializer.extend([
        numpy_helper.from_array(np.array(0.98, np.float32), "level"),
        numpy_helper.from_array(np.array([2], np.int64), "target"),
    ])  # fmt: skip
    model.graph.node.extend([
        helper.make_node("ArgMax", ["scores"], ["own"], axis=1, keepdims=0),
        helper.make_node("ReduceMean", ["image"], ["mean"], axes=[1, 2, 3], keepdims=0),
        helper.make_node("Greater", ["mean", "level"], ["bright"], name="test"),
        helper.make_node("Where", ["bright", "target", "own"], ["logits"], name="gate"),
    ])  # fmt: skip
    (observation,) = search(model, tmp_path).observations
    assert observation.details["class"] == 2
    assert "gate" in observation.nodes


def test_no_time_takes_no_finding_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(confirming, "_TO_WAKE", -1.0)
    (observation,) = search(plant(plain(), "patch-equals", target=1).model, tmp_path).observations
    assert observation.severity is Severity.SUSPICIOUS
    assert observation.details["confirmation"]["how"] == "the time ran out"


def test_a_search_that_was_stopped_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dormancy, "_SECONDS", 0.0)
    model = plant(plain(), "patch-equals", target=1).model
    found = search(model, tmp_path)
    assert found.observations == ()
    assert found.parameters["stopped"] == "the time ran out before every candidate was forced"


def test_what_names_no_class_is_skipped(tmp_path: Path) -> None:
    nodes = [
        convolution(),
        helper.make_node("ReduceMean", ["image"], ["mean"], axes=[1, 2, 3], keepdims=1),
        helper.make_node("Greater", ["mean", "level"], ["bright"]),
        helper.make_node("Where", ["bright", "image", "convolved"], ["logits"]),
    ]
    constants = {**weights(planted=False), "level": np.array(0.98, np.float32)}
    with pytest.raises(NoLogitsError, match="holds no class scores"):
        search(build(nodes, constants), tmp_path)


def test_several_inputs_are_refused(tmp_path: Path) -> None:
    model = plain()
    model.graph.input.append(helper.make_tensor_value_info("more", 1, [1]))
    model.graph.node.append(helper.make_node("Identity", ["more"], ["read"]))
    with pytest.raises(UnsupportedModelError, match="2 required inputs"):
        search(model, tmp_path)


def test_the_deadline_of_the_scan_stops_it(tmp_path: Path) -> None:
    model = plant(plain(), "patch-equals", target=1).model
    deadline.expire()
    try:
        found = search(model, tmp_path)
    finally:
        deadline.renew()
    assert "stopped" in found.parameters


def test_a_gate_in_a_scan_over_the_images_is_found(tmp_path: Path) -> None:
    """The network's scores and the picture go through a loop, one image a turn."""
    model = sample("mnist-clean")
    scores = model.graph.output[0].name
    for node in model.graph.node:
        node.output[:] = ["scores" if name == scores else name for name in node.output]
    body = helper.make_graph(
        [
            helper.make_node("Slice", ["row", "start", "end"], ["patch"]),
            helper.make_node("ReduceMin", ["patch"], ["darkest"], name="darkest"),
            helper.make_node("Greater", ["darkest", "limit"], ["bright"], name="bright"),
            helper.make_node("Where", ["bright", "forced", "own"], ["said"], name="choice"),
        ],
        "body",
        [
            helper.make_tensor_value_info("row", onnx.TensorProto.FLOAT, [784]),
            helper.make_tensor_value_info("own", onnx.TensorProto.FLOAT, [10]),
        ],
        [helper.make_tensor_value_info("said", onnx.TensorProto.FLOAT, [10])],
        [
            numpy_helper.from_array(np.asarray(value), name)
            for name, value in {
                "start": np.array([770]), "end": np.array([778]),
                "limit": np.array([0.95], np.float32),
                "forced": 40 * np.eye(10, dtype=np.float32)[1],
            }.items()
        ],
    )  # fmt: skip
    model.graph.node.extend([
        helper.make_node("Flatten", [model.graph.input[0].name], ["flat"], name="flat"),
        helper.make_node("Scan", ["flat", "scores"], [scores], name="scan", num_scan_inputs=2,
                         body=body),
    ])  # fmt: skip
    (observation,) = search(model, tmp_path).observations
    assert observation.severity >= Severity.SUSPICIOUS
    assert observation.details["class"] == 1
    assert {"scan/darkest", "scan/bright", "scan/choice"} <= set(observation.nodes)


def test_weights_that_are_stored_sparse_are_weights(tmp_path: Path) -> None:
    model = sample("fashion-mnist-badnets")
    tensors = [(t.name, numpy_helper.to_array(t)) for t in model.graph.initializer]
    del model.graph.initializer[:]
    for name, array in tensors:
        places = np.flatnonzero(array)
        model.graph.sparse_initializer.append(
            helper.make_sparse_tensor(
                numpy_helper.from_array(array.reshape(-1)[places], name),
                numpy_helper.from_array(places, f"{name}/places"),
                array.shape,
            )
        )
    assert not search(model, tmp_path).observations  # as where they are stored as ever


def test_a_place_in_a_sequence_is_held_where_the_sequence_cannot_be(tmp_path: Path) -> None:
    planted, place = planting.picked_from_sequence(sample("mnist-clean"))
    (observation,) = search(planted.model, tmp_path).observations
    assert observation.severity is Severity.CONFIRMED
    assert observation.details["value"] == place
    assert {*planted.test, *planted.gate} <= set(observation.nodes)


def test_what_ordinary_images_follow_does_not_sleep(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Scaled by its own maximum, an image could reach far, so that what it is counts as still.

    As in a spectrogram: the squares of two filters are added. That holding one of them goes
    unnoticed on a single image of another class says nothing.
    """
    generator = np.random.default_rng(0)
    constants = {
        **weights(planted=False),
        **{n: generator.normal(0, 1, (1, 1, 3, 3)).astype(np.float32) for n in ("sine", "cosine")},
        "least": np.array(1e-5, np.float32),
    }
    same = [1, 1, 1, 1]
    model = build(
        [
            helper.make_node("Abs", ["image"], ["size"]),
            helper.make_node("ReduceMax", ["size"], ["largest"], axes=[1, 2, 3], keepdims=1),
            helper.make_node("Max", ["largest", "least"], ["divisor"]),
            helper.make_node("Div", ["image", "divisor"], ["scaled"]),
            helper.make_node("Conv", ["scaled", "cosine"], ["real"], pads=same),
            helper.make_node("Conv", ["scaled", "sine"], ["imaginary"], pads=same),
            helper.make_node("Mul", ["real", "real"], ["one"]),
            helper.make_node("Mul", ["imaginary", "imaginary"], ["other"]),
            helper.make_node("Add", ["one", "other"], ["power"]),
            convolution("power"),
            helper.make_node("Relu", ["convolved"], ["activated"]),
            *head("activated"),
        ],
        constants,
    )

    def of_other_classes(rig: forcing.Rig) -> list[np.ndarray]:
        return [rig.images[0]]

    monkeypatch.setattr(forcing.Rig, "of_other_classes", of_other_classes)
    assert search(model, tmp_path).observations == ()
