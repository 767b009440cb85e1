"""Gates that listen to what no image shows are found; what honest models depend on is named."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import exporter_idioms
import models
import numpy as np
import onnx
import pytest
from models import CHANNELS, CLASSES
from onnx import TensorProto, helper, numpy_helper

from scanner.detectors import invariance
from scanner.detectors.invariance import Invariance
from scanner.errors import NoLogitsError, WorkerTimeoutError
from scanner.instruments.detector import Subject
from scanner.modelfile.model import open_model
from scanner.results import Measurement, Observation, Severity
from scanner.settings import Device, Settings
from trainers.graph_backdoor import Graft

BUMP = 1e3
FLOAT = TensorProto.FLOAT


def measure(model: onnx.ModelProto, folder: Path) -> Measurement:
    path = models.save(model, folder / "model.onnx")
    subject = Subject(model=open_model(path), settings=Settings(device=Device.CPU))
    return Invariance().measure(subject)


def _size(graft: Graft) -> str:
    size = graft.node("Shape", [graft.input.name], "size", start=0, end=1)
    return graft.node("Equal", [size, graft.constant([8], np.int64)], "test")


def _place(graft: Graft) -> str:
    size = graft.node("Shape", [graft.input.name], "size", start=0, end=1)
    start, step = graft.constant(0, np.int64), graft.constant(1, np.int64)
    places = graft.node("Range", [start, graft.node("Squeeze", [size], "count"), step], "places")
    return graft.node("Equal", [places, graft.constant(3, np.int64)], "test")


def _company(graft: Graft) -> str:
    means = graft.reduce("ReduceMean", graft.input.name, [1, 2, 3])
    brightest = graft.reduce("ReduceMax", means, [0])
    return graft.node("Greater", [brightest, graft.constant(0.95)], "test")


def _nan(graft: Graft) -> str:
    return graft.node("IsNaN", [graft.reduce("ReduceSum", graft.input.name, [0, 1, 2, 3])], "test")


def _chance(graft: Graft) -> str:
    drawn = graft.node("RandomUniform", [], "draw", shape=[1], seed=3.0)
    return graft.node("Greater", [drawn, graft.constant(0.8)], "test")


def _negative_zero(graft: Graft) -> str:
    lowest = graft.reduce(
        "ReduceMin", graft.node("Reciprocal", [graft.input.name], "inverse"), [1, 2, 3]
    )
    return graft.node("IsInf", [lowest], "test", detect_positive=0)


def _levels(graft: Graft) -> str:
    levels = graft.node("Mul", [graft.input.name, graft.constant(255.0)], "levels")
    between = graft.node("Sub", [levels, graft.node("Round", [levels], "round")], "between")
    most = graft.reduce("ReduceMax", graft.node("Abs", [between], "size"), [1, 2, 3])
    return graft.node("Greater", [most, graft.constant(0.05)], "test")


def _above(graft: Graft) -> str:
    highest = graft.reduce("ReduceMax", graft.input.name, [1, 2, 3])
    return graft.node("Greater", [highest, graft.constant(1.0)], "test")


def _optional(graft: Graft) -> str:
    graft.graph.initializer.append(numpy_helper.from_array(np.zeros(1, np.float32), "mode"))
    graft.graph.input.append(helper.make_tensor_value_info("mode", FLOAT, [1]))
    return "mode"


GATES: dict[str, Callable[[Graft], str]] = {
    "depends-on-batch-size": _size,
    "depends-on-place": _place,
    "depends-on-company": _company,
    "depends-on-values-elsewhere": _nan,
    "depends-on-chance": _chance,
    "depends-on-the-sign-of-zero": _negative_zero,
    "depends-on-levels": _levels,
    "depends-on-the-edge": _above,
    "depends-on-an-optional-input": _optional,
}


def gated(test: Callable[[Graft], str], target: int) -> onnx.ModelProto:
    """Return a network that answers the target when a test says so."""
    graft = Graft(models.plain(), target)
    bump = graft.node("Mul", [graft.column(test(graft)), graft.one_hot(BUMP)], "bump")
    graft.replace_logits(graft.node("Add", [graft.logits, bump], "gate"))
    return graft.planted().model


@pytest.mark.parametrize("code", GATES)
def test_what_no_image_shows_is_found(code: str, tmp_path: Path) -> None:
    # The gate shows only where the network would not have said the target anyway.
    found = [o for t in (1, 2) for o in measure(gated(GATES[code], t), tmp_path).observations]
    assert {o.code for o in found if o.severity is Severity.SUSPICIOUS} == {code}
    worst = next(o for o in found if o.severity is Severity.SUSPICIOUS)
    assert worst.details["flips"] > 0
    assert worst.input is not None
    assert np.argmax(worst.details["before"]) != np.argmax(worst.details["after"])


def stem(
    op: str, constants: dict[str, np.ndarray], outputs: int = 1, **attributes: Any
) -> onnx.ModelProto:
    """Return a network behind one operator that reads the image and these constants."""
    names = ["stemmed", *(f"also_{i}" for i in range(1, outputs))]
    node = helper.make_node(op, ["image", *constants], names, name="stem", **attributes)
    body = [models.convolution("stemmed"), models.relu(), *models.head("activated")]
    return models.build([node, *body], {**models.weights(planted=False), **constants})


def _random(keep: float = 0.5) -> onnx.ModelProto:
    ratio, training = np.array(1 - keep, np.float32), np.array(True)
    return stem("Dropout", {"ratio": ratio, "training": training})


def _of_the_batch() -> onnx.ModelProto:
    one, zero = np.ones(1, np.float32), np.zeros(1, np.float32)
    names = {"scale": one, "shift": zero, "mean": zero, "variance": one}
    return stem("BatchNormalization", names, outputs=3, training_mode=1)


@pytest.mark.parametrize(
    ("build", "operator"), [(_random, "Dropout"), (_of_the_batch, "BatchNormalization")]
)
def test_a_layer_left_in_training_mode_is_named_and_no_gate(
    build: Callable[[], onnx.ModelProto], operator: str, tmp_path: Path
) -> None:
    found = measure(build(), tmp_path)
    assert found.statistic == Severity.WARNING
    assert all(o.nodes == ("stem",) and operator in o.sentence for o in found.observations)


def _dynamic() -> onnx.ModelProto:
    """The last layer reads codes, whose scale is the range of the whole batch."""
    constants = models.weights(planted=False)
    dense = constants.pop("dense")
    constants |= {
        "codes": np.rint(dense / 0.01).astype(np.int8),
        "size": np.array(0.01, np.float32),
    }
    nodes = [
        models.convolution(),
        models.relu(),
        helper.make_node("GlobalAveragePool", ["activated"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
        helper.make_node("DynamicQuantizeLinear", ["flat"], ["read", "step", "zero"], name="range"),
        helper.make_node("MatMulInteger", ["read", "codes", "zero"], ["sums"]),
        helper.make_node("Cast", ["sums"], ["floats"], to=FLOAT),
        helper.make_node("Mul", ["step", "size"], ["scale"]),
        helper.make_node("Mul", ["floats", "scale"], ["logits"]),
    ]
    return models.build(nodes, constants)


def test_dynamic_quantisation_is_a_note(tmp_path: Path) -> None:
    assert numpy_helper.to_array(_dynamic().graph.initializer[2]).shape == (CHANNELS, CLASSES)
    found = measure(_dynamic(), tmp_path)
    assert found.statistic == Severity.NOTE
    assert all(o.nodes == ("range",) for o in found.observations)


def _ranged(op: str, level: float, others: Callable[[Graft], str]) -> onnx.ModelProto:
    graft = Graft(models.plain(), 1)
    extreme = "ReduceMax" if op == "Greater" else "ReduceMin"
    end = graft.reduce(extreme, graft.input.name, [1, 2, 3], keep=True)
    outside = graft.node(op, [end, graft.constant(level)], "outside")
    graft.replace_input(graft.node("Where", [outside, others(graft), graft.input.name], "ranged"))
    return graft.planted().model


def _halved(graft: Graft) -> str:
    shifted = graft.node("Add", [graft.input.name, graft.constant(1.0)], "shifted")
    return graft.node("Div", [shifted, graft.constant(2.0)], "halved")


@pytest.mark.parametrize(
    "model",
    [
        _ranged(
            "Greater", 1.0, lambda g: g.node("Div", [g.input.name, g.constant(255.0)], "fractions")
        ),
        _ranged("Less", 0.0, _halved),
    ],
    ids=["bytes", "signed"],
)
def test_an_image_of_another_range_is_brought_into_range(
    model: onnx.ModelProto, tmp_path: Path
) -> None:
    assert measure(model, tmp_path).statistic in (0, Severity.NOTE)


HONEST = {
    **{name: lambda build=build: build(False) for name, build in models.MEASURABLE.items()},  # type: ignore[misc]
    **exporter_idioms.HONEST,
}


@pytest.mark.parametrize("name", list(HONEST))
def test_no_honest_file_is_accused(name: str, tmp_path: Path) -> None:
    model = HONEST[name]()
    if len(model.graph.input) != 1 or model.graph.input[0].type.tensor_type.elem_type != FLOAT:
        pytest.skip("it takes no picture of floats")
    dims = model.graph.input[0].type.tensor_type.shape.dim[1:]
    if not all(size.dim_value for size in dims):
        pytest.skip("its input has open sizes")
    try:
        found = measure(model, tmp_path)
    except NoLogitsError:
        pytest.skip("it names no class")
    assert [o.sentence for o in found.observations if o.severity > Severity.NOTE] == []


def test_an_optional_input_that_changes_nothing_is_pointed_out(tmp_path: Path) -> None:
    model = models.plain()
    model.graph.initializer.append(numpy_helper.from_array(np.zeros(1, np.float32), "mode"))
    model.graph.input.append(helper.make_tensor_value_info("mode", FLOAT, [1]))
    model.graph.node.append(helper.make_node("Mul", ["logits", "mode"], ["unread"]))
    (observation,) = measure(model, tmp_path).observations
    assert (observation.code, observation.severity) == ("optional-input", Severity.WARNING)
    assert observation.nodes == ("mode",)


def test_where_every_weight_may_be_fed_none_is_a_switch(tmp_path: Path) -> None:
    assert measure(models.initialisers_as_inputs(), tmp_path).observations == ()


def test_what_was_asked_is_recorded(tmp_path: Path) -> None:
    found = measure(models.plain(), tmp_path)
    assert found.observations == ()
    assert found.parameters["refused"] == []
    assert set(found.parameters["tried"]) >= {"repetition", "size", "company", "levels"}
    assert all(number is not None and number < 10 for number in found.figures.values())


def test_the_time_that_runs_out_takes_no_finding(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def late(_trial: object) -> Iterator[Observation]:
        raise WorkerTimeoutError("the time ran out", remedy="give it more")

    early = invariance._RELATIONS[:2]
    monkeypatch.setattr(invariance, "_RELATIONS", (*early, late))
    found = measure(gated(_size, 2), tmp_path)
    assert [o.code for o in found.observations] == ["depends-on-batch-size"]
    assert found.parameters["tried"] == ["repetition", "size"]
    with pytest.raises(WorkerTimeoutError):
        measure(models.plain(), tmp_path)
