"""Images of half the side: what is found on them is a trigger of whole images."""

import base64
import dataclasses
from pathlib import Path

import models
import numpy as np
import onnx
import onnxruntime as ort
import pytest
import triggered
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from onnx import helper

from scanner.detectors.neural_cleanse import NeuralCleanse
from scanner.errors import UnsupportedModelError, WorkerTimeoutError
from scanner.graph.gradient.backward import Objective
from scanner.instruments import half_side
from scanner.instruments.detector import Subject
from scanner.instruments.differentiable import Differentiable, Floats, differentiable
from scanner.instruments.half_side import HalfSide
from scanner.instruments.pace import Pace
from scanner.instruments.stages import Demand, on_half_sides, outlined
from scanner.instruments.trigger import stamp
from scanner.judging import courses, verdict
from scanner.limits import MIB, Limits
from scanner.measuring import Shares, measure
from scanner.results import Array, Measurement, Stages
from scanner.sandbox import deadline
from scanner.settings import Effort

CLASSES, CHANNELS, SIDE = 20, 3, 32
EFFORT = Effort(images=32, steps=100, restarts=1, seconds=60)


def network(
    *, pools: bool = True, side: int = SIDE, last: bool = False, seed: int = 0
) -> onnx.ModelProto:
    """Return a small convolutional network that pools over all places, or sees each apart."""
    rng = np.random.default_rng(seed)
    features = 8 if pools else 8 * side * side
    constants = {
        "kernel": rng.normal(0, 0.5, (8, CHANNELS, 3, 3)).astype(np.float32),
        "dense": rng.normal(0, 1 if pools else 0.02, (features, CLASSES)).astype(np.float32),
    }
    node = helper.make_node
    nodes = [
        *([node("Transpose", ["image"], ["first"], perm=[0, 3, 1, 2])] if last else []),
        node("Conv", ["first" if last else "image", "kernel"], ["map"], pads=[1, 1, 1, 1]),
        node("Relu", ["map"], ["active"]),
        *([node("GlobalAveragePool", ["active"], ["pooled"])] if pools else []),
        node("Flatten", ["pooled" if pools else "active"], ["flat"]),
        node("MatMul", ["flat", "dense"], ["logits"]),
    ]
    shape = (side, side, CHANNELS) if last else (CHANNELS, side, side)
    return models.build(nodes, constants, input_shape=("N", *shape))


def subject(model: onnx.ModelProto, folder: Path) -> Subject:
    folder.mkdir(exist_ok=True)
    return triggered.subject(model, folder)


def halved(one: Subject) -> HalfSide | None:
    return half_side.of(one, differentiable(one, Objective.CROSS_ENTROPY))


SMALL = HalfSide(whole=None, half=None, sides=(1, 2))  # type: ignore[arg-type] # not asked
PIXELS = arrays.arrays(np.float32, (2, 3, 4, 6), elements=st.floats(0, 1, width=32))


@given(PIXELS)
def test_a_pixel_of_a_small_image_is_the_mean_of_four(images: Floats) -> None:
    found = SMALL.reduced(images)
    assert found.shape == (2, 3, 2, 3)
    four = images[:, :, 2:4, 4:6].mean(axis=(2, 3))
    np.testing.assert_allclose(found[:, :, 1, 2], four, rtol=1e-5, atol=1e-6)


@given(PIXELS)
def test_what_is_enlarged_and_reduced_is_what_it_was(images: Floats) -> None:
    mask, pattern = SMALL.enlarged((images[0, :1], images[0]))
    assert mask.sum() == pytest.approx(images[0, :1].sum() * SMALL.area, rel=1e-4)
    np.testing.assert_allclose(SMALL.reduced(pattern[None])[0], images[0], rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("last", [False, True])
def test_the_small_network_is_the_file_on_small_images(last: bool, tmp_path: Path) -> None:
    model = network(last=last)
    found = halved(subject(model, tmp_path))
    assert found is not None
    rows = np.random.default_rng(1).random((4, *found.whole.shape), dtype=np.float32)
    small = found.reduced(rows)
    assert small.shape[1:] == found.half.shape
    for dimension in model.graph.input[0].type.tensor_type.shape.dim[1:]:
        dimension.dim_value //= 2 if dimension.dim_value == SIDE else 1
    session = ort.InferenceSession(model.SerializeToString())
    (expected,) = session.run(None, {"image": small})
    logits, losses, gradient = found.half.evaluate(small, 3)
    np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-5)
    # The gradient is that of the small image's loss.
    step = np.zeros_like(small)
    step[:, 1, 5, 1] = 1e-2
    further = found.half.evaluate(small + step, 3)[1] - found.half.evaluate(small - step, 3)[1]
    np.testing.assert_allclose(gradient[:, 1, 5, 1], further / 2e-2, rtol=0.05, atol=1e-4)
    assert losses.shape == (4,)


@pytest.mark.parametrize(
    "made", [network(pools=False), network(side=31), network(side=16), triggered.classifier()]
)
def test_other_networks_take_none(made: onnx.ModelProto, tmp_path: Path) -> None:
    assert halved(subject(made, tmp_path)) is None


def test_a_map_that_would_have_no_pixels_kills_no_process(tmp_path: Path) -> None:
    """ONNX Runtime divides by the number of a map's pixels, and there would be none."""
    model = network()
    (pool,) = [n for n in model.graph.node if n.op_type == "GlobalAveragePool"]
    pool.input[0] = "seen"
    window = helper.make_node("AveragePool", ["active"], ["seen"], kernel_shape=[SIDE - 6] * 2)
    model.graph.node.insert(2, window)
    assert halved(subject(model, tmp_path)) is None


def test_a_network_that_sees_nothing_of_a_small_image_takes_none(tmp_path: Path) -> None:
    model = network()
    kernel = next(t for t in model.graph.initializer if t.name == "kernel")
    blind = np.zeros((8, CHANNELS, 3, 3), np.float32)
    kernel.CopyFrom(onnx.numpy_helper.from_array(blind, "kernel"))
    assert halved(subject(model, tmp_path)) is None


def test_a_network_that_makes_one_image_of_four_takes_none(tmp_path: Path) -> None:
    """A Reshape to rows of a fixed length gives a smaller batch, not an error."""
    model = network()
    (pool,) = [n for n in model.graph.node if n.op_type == "GlobalAveragePool"]
    pool.CopyFrom(helper.make_node("Identity", ["active"], ["pooled"]))
    (flatten,) = [n for n in model.graph.node if n.op_type == "Flatten"]
    flatten.CopyFrom(helper.make_node("Reshape", ["pooled", "rows"], ["flat"]))
    features = 8 * SIDE * SIDE
    weights = np.random.default_rng(0).normal(0, 0.02, (features, CLASSES)).astype(np.float32)
    dense = onnx.numpy_helper.from_array(weights, "dense")
    rows = onnx.numpy_helper.from_array(np.array([-1, features]), "rows")
    kept = [t for t in model.graph.initializer if t.name != "dense"]
    graph = onnx.GraphProto(initializer=[*kept, dense, rows])
    del model.graph.initializer[:]
    model.graph.initializer.extend(graph.initializer)
    assert halved(subject(model, tmp_path)) is None


def test_no_memory_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = subject(network(), tmp_path)
    monkeypatch.setattr("scanner.instruments.room.held", lambda: 100 * MIB)
    tight = dataclasses.replace(whole.settings, limits=Limits(memory=100 * MIB))
    assert halved(whole) is not None
    assert halved(dataclasses.replace(whole, settings=tight)) is None


DEMANDS = st.builds(
    lambda classes, images, seconds: Demand(
        classes=classes,
        images=images,
        least=8,
        effort=dataclasses.replace(EFFORT, seconds=seconds),
    ),
    st.integers(2, 2000),
    st.integers(1, 64),
    st.floats(1, 1000),
)


@given(DEMANDS, st.floats(1e-7, 10), st.floats(0.1, 2))
def test_they_are_chosen_only_where_they_leave_more_of_the_search(
    wanted: Demand, each: float, times: float
) -> None:
    whole = outlined(wanted, each)
    found = on_half_sides(wanted, whole, each * times)
    if found.half_side:
        assert found.staged
        assert found.images >= whole.images
        assert found.classes >= whole.classes
        assert (found.images, found.classes) != (whole.images, whole.classes)
    else:
        assert found == whole


def paced(monkeypatch: pytest.MonkeyPatch, whole: float, half: float) -> None:
    def measured(model: Differentiable, *_: object, **__: object) -> Pace:
        return Pace(seconds=whole if SIDE in model.shape else half)

    monkeypatch.setattr("scanner.instruments.pace.measured", measured)


def unpacked(array: Array) -> Floats:
    return np.frombuffer(base64.b64decode(array.data), "<f4").reshape(array.shape)


def stages_of(measurement: Measurement) -> Stages:
    assert measurement.by_class is not None
    assert measurement.by_class.stages is not None
    return measurement.by_class.stages


def test_what_is_found_is_a_trigger_of_whole_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paced(monkeypatch, 0.03, 0.0075)
    one = subject(network(), tmp_path)
    measured = NeuralCleanse().measure(one)
    found = stages_of(measured)
    assert (found.half_side, found.images, len(found.classes)) == (True, 16, 6)
    assert measured.parameters["half_side"] is True
    assert "on images of half the side" in verdict.in_stages(measured)
    profile = measured.by_class
    assert profile is not None
    assert profile.triggers
    session = ort.InferenceSession(one.model.data)
    images = one.seen[0]
    assert images.shape[1:] == (CHANNELS, SIDE, SIDE)
    for trigger in profile.triggers:
        mask, pattern = (unpacked(part) for part in (trigger.mask, trigger.pattern))
        assert pattern.shape == (CHANNELS, SIDE, SIDE)
        row = profile.row(trigger.class_id)
        assert row is not None
        assert row.figure == pytest.approx(float(mask.sum()), rel=0.02)
        shown = unpacked(trigger.original)
        (logits,) = session.run(None, {"image": stamp(shown[None], mask, pattern)})
        assert int(logits.argmax()) == trigger.class_after
        assert row.figures["success"] == trigger.success


def test_by_the_way_of_a_device_it_is_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paced(monkeypatch, 0.03, 0.0075)
    host = NeuralCleanse().measure(subject(network(), tmp_path))
    monkeypatch.setattr(Differentiable, "on_device", True)
    ours = NeuralCleanse().measure(subject(network(), tmp_path))
    assert ours.parameters == {**host.parameters, "loop": "device"}
    assert stages_of(ours) == stages_of(host)
    assert ours.by_class is not None
    assert host.by_class is not None
    for one, other in zip(ours.by_class.rows, host.by_class.rows, strict=True):
        assert (one.figure is None) == (other.figure is None)
        assert other.figure is None or one.figure == pytest.approx(other.figure, rel=0.05, abs=0.01)
    assert any(row.figure for row in host.by_class.rows)


def test_a_deadline_is_no_size_that_it_does_not_take(tmp_path: Path) -> None:
    one = subject(network(), tmp_path)
    whole = differentiable(one, Objective.CROSS_ENTROPY)
    deadline.expire()
    try:
        with pytest.raises(WorkerTimeoutError):
            half_side.of(one, whole)
    finally:
        deadline.renew()


def test_no_model_is_clean_by_a_search_on_small_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A network may sleep until it is shown an image of its own size."""
    paced(monkeypatch, 0.0023, 0.0005)
    one = subject(network(), tmp_path)
    share = Shares(lambda _: None, 1)
    record = measure(one.model, one.settings, [NeuralCleanse()], share)
    (measured,) = record.measurements
    assert measured.by_class is not None
    assert len(measured.by_class.rows) == CLASSES
    (skip,) = record.skips
    assert skip.forbids_clean
    assert "it was made on images of half the side" in skip.reason


def test_a_reference_is_searched_on_images_of_the_same_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paced(monkeypatch, 0.03, 0.0075)
    suspect = NeuralCleanse().measure(subject(network(), tmp_path / "suspect"))
    paced(monkeypatch, 0.0, 0.0)
    clean = subject(network(seed=1), tmp_path / "clean")
    beside = dataclasses.replace(clean, suspect=suspect, follows=True)
    measured = NeuralCleanse().measure(beside)
    assert stages_of(measured) == stages_of(suspect)
    assert measured.parameters["stages"] == suspect.parameters["stages"]
    whole = NeuralCleanse().measure(clean)
    assert courses.shape(whole) != courses.shape(suspect)
    other = subject(network(pools=False), tmp_path / "other")
    with pytest.raises(UnsupportedModelError, match="cannot be searched on images of half"):
        NeuralCleanse().measure(dataclasses.replace(other, suspect=suspect, follows=True))


@pytest.mark.parametrize(
    ("whole", "half", "expected"),
    [
        (1e-4, 1e-5, "search all classes"),
        (0.0023, 0.0005, "search all classes, on images of half the side"),
        (0.0125, 0.003, "search all classes, on fewer images than usual, of half the side"),
        (0.03, 0.0075, "search the 3 that stand out, and 3 drawn at random, on images of half"),
    ],
)
def test_the_plan_says_so(
    whole: float, half: float, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paced(monkeypatch, whole, half)
    *_, search = NeuralCleanse().plan(subject(network(), tmp_path))
    assert search.does.startswith(expected)
    assert ("half the side" in search.does) == (whole > 1e-3)
