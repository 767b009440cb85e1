"""A unit whose best input decides the answer is told from units that were trained."""

import base64
import dataclasses
import time
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import replaced
from models import save
from onnx import helper, numpy_helper

from scanner.errors import WorkerTimeoutError
from scanner.graph.core import flatten
from scanner.graph.dormancy.side_paths import Paths
from scanner.instruments import dormancy, forcing, matched_filters, probes
from scanner.instruments.detector import Subject
from scanner.instruments.matched_filters import Filter
from scanner.modelfile.model import open_model
from scanner.results import Observation, Severity
from scanner.settings import Device, Settings

SAMPLES = Path(__file__).parents[3] / "samples"
Array = np.ndarray


def rigged(
    model: onnx.ModelProto, folder: Path, span: tuple[float, float] | None = None
) -> tuple[forcing.Rig, Paths]:
    opened = open_model(save(model, folder / "model.onnx"))
    subject = Subject(model=opened, settings=Settings(device=Device.CPU, input_range=span))
    flat = opened.complete(flatten.flatten(opened.proto))
    answer = dormancy.answer_of(flat, None)
    shape = probes.image_shape(opened, subject.settings)
    return forcing.Rig(subject, flat, shape, answer), Paths(flat, answer)


def found_in(model: onnx.ModelProto, folder: Path) -> list[Observation]:
    return list(matched_filters.observe(*rigged(model, folder)))


def chain(kernel: Array, bias: Array, head: Array, *, batch: int | str = "n") -> onnx.ModelProto:
    """A convolution of 3 x 3 on grey images of 16 x 16, its largest answers, and a last layer."""
    nodes = [
        helper.make_node("Conv", ["x", "kernel", "bias"], ["maps"], name="first", pads=[1] * 4),
        helper.make_node("Relu", ["maps"], ["shown"], name="relu"),
        helper.make_node("GlobalMaxPool", ["shown"], ["most"], name="most"),
        helper.make_node("Flatten", ["most"], ["flat"], name="flat"),
        helper.make_node("MatMul", ["flat", "head"], ["logits"], name="last"),
    ]
    tensors = {"kernel": kernel, "bias": bias, "head": head}
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [batch, 1, 16, 16])],
        [helper.make_tensor_value_info("logits", onnx.TensorProto.FLOAT, [batch, 4])],
        [numpy_helper.from_array(a.astype(np.float32), name) for name, a in tensors.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])


def trained_looking(seed: int = 0) -> tuple[Array, Array, Array]:
    generator = np.random.default_rng(seed)
    kernel = generator.normal(0, 0.3, (8, 1, 3, 3))
    return kernel, generator.normal(0, 0.1, 8), generator.normal(0, 1, (8, 4))


def planted(unit: int = 5, target: int = 2, *, units: int = 1) -> tuple[Array, Array, Array]:
    """A checkered corner's filter, that answers to nothing else and decides."""
    kernel, bias, head = trained_looking()
    checker = np.indices((3, 3)).sum(axis=0) % 2 * 2 - 1
    for each in range(unit, unit + units):
        kernel[each] = checker
        bias[each] = -3.0
        head[each] = 0
        head[each, target] = 60
    return kernel, bias, head


@pytest.mark.parametrize("batch", ["n", 1, 5])
def test_a_planted_filter_is_found_whatever_the_batch(batch: int | str, tmp_path: Path) -> None:
    (observation,) = found_in(chain(*planted(), batch=batch), tmp_path)
    assert (observation.code, observation.severity) == ("matched-filter", Severity.CONFIRMED)
    assert observation.nodes == ("first",)
    assert observation.details["channels"] == [5]
    assert observation.details["class"] == 2
    assert observation.details["gain"] > 8
    assert observation.details["changed"] <= 9 / 256
    assert "Channel 5 of 8 of 'first' is a matched filter" in observation.sentence


def test_what_is_shown_is_answered_so(tmp_path: Path) -> None:
    model = chain(*planted())
    (observation,) = found_in(model, tmp_path)
    shown = observation.input
    assert shown is not None
    assert shown.original is not None
    session = onnxruntime.InferenceSession(model.SerializeToString())
    for packed, told in ((shown.image, shown.class_after), (shown.original, shown.class_before)):
        numbers = np.frombuffer(base64.b64decode(packed.data), "<f4").reshape(1, *packed.shape)
        assert session.run(None, {"x": numbers})[0].argmax() == told
    assert (shown.class_after, shown.success) == (2, 1.0)
    assert shown.class_without != 2


@pytest.mark.parametrize("seed", range(6))
def test_filters_that_were_not_planted_are_not(seed: int, tmp_path: Path) -> None:
    assert found_in(chain(*trained_looking(seed)), tmp_path) == []


@pytest.mark.parametrize("name", ["mnist-clean", "fashion-mnist-clean", "gtsrb-clean"])
def test_clean_samples_have_none(name: str, tmp_path: Path) -> None:
    assert found_in(onnx.load(SAMPLES / f"{name}.onnx"), tmp_path) == []


def test_units_that_were_planted_together_are_no_rivals(tmp_path: Path) -> None:
    (observation,) = found_in(chain(*planted(units=2)), tmp_path)
    assert observation.details["channels"] == [5, 6]


def test_a_network_that_follows_every_unit_has_no_planted_one(tmp_path: Path) -> None:
    """Each of these filters decides, so that none is an exception."""
    kernel, bias, _ = trained_looking()
    assert found_in(chain(kernel, bias, 60 * np.eye(8, 4)), tmp_path) == []


def test_a_patch_that_decides_by_other_units_is_no_filters(tmp_path: Path) -> None:
    rig, paths = rigged(chain(*planted()), tmp_path)
    found = max(matched_filters.measure(rig, paths), key=lambda each: each.gain)
    assert matched_filters.undone(rig, found).share == 1
    assert matched_filters.undone(rig, found).shown is not None
    other = matched_filters.undone(rig, dataclasses.replace(found, units=(0,)))
    assert (other.share, other.shown) == (0, None)


def test_a_dense_unit_that_reads_a_few_pixels_is_found(tmp_path: Path) -> None:
    generator = np.random.default_rng(2)
    first, head = generator.normal(0, 0.1, (40, 256)), generator.normal(0, 0.5, (4, 40))
    bias = np.zeros(40)
    first[7], bias[7] = 0, -5
    first[7, [0, 1, 17, 18, 33, 34]] = 1
    head[:, 7], head[3, 7] = 0, 100
    nodes = [
        helper.make_node("Flatten", ["x"], ["flat"], name="flat"),
        helper.make_node("Gemm", ["flat", "first", "bias"], ["hidden"], name="dense", transB=1),
        helper.make_node("Relu", ["hidden"], ["shown"], name="relu"),
        helper.make_node("Gemm", ["shown", "head"], ["logits"], name="last", transB=1),
    ]
    tensors = {"first": first, "bias": bias, "head": head}
    model = chain(*trained_looking())
    del model.graph.node[:], model.graph.initializer[:]
    model.graph.node.extend(nodes)
    model.graph.initializer.extend(
        numpy_helper.from_array(a.astype(np.float32), name) for name, a in tensors.items()
    )
    (observation,) = found_in(model, tmp_path)
    assert observation.nodes == ("dense",)
    assert observation.details["channels"] == [7]
    assert observation.details["class"] == 3


def test_a_strided_layer_meets_the_pattern_on_its_grid(tmp_path: Path) -> None:
    model = chain(*planted())
    model.graph.node[0].attribute.append(helper.make_attribute("strides", [2, 2]))
    (observation,) = found_in(model, tmp_path)
    assert observation.details["channels"] == [5]


def test_every_place_of_a_stride_of_four_is_tried_and_every_corner() -> None:
    for side in (16, 28, 32, 64, 224):
        for extent in (3, 5, 7):
            starts, last = matched_filters.spread(side, extent, 1, 0)
            assert starts == sorted(set(starts))
            assert starts[0] == 0
            assert last[-1] + extent == side
            if side >= 4 * 7:
                assert {start % 4 for start in starts} == {0, 1, 2, 3}
    assert matched_filters.spread(8, 8, 1, 0) == ([0], [0])


def test_a_filter_that_decides_in_one_corner_is_found(tmp_path: Path) -> None:
    kernel, bias, _ = planted()
    head = np.random.default_rng(1).normal(0, 0.1, (8 * 16, 4))
    head[5 * 16 : 6 * 16] = 0
    head[6 * 16 - 1, 2] = 60  # the lower right corner of the planted channel's map
    model = chain(kernel, bias, head)
    model.graph.node[2].CopyFrom(
        helper.make_node(
            "MaxPool", ["shown"], ["most"], kernel_shape=[4, 4], strides=[4, 4], name="most"
        )
    )
    (observation,) = found_in(model, tmp_path)
    assert observation.details["channels"] == [5]


def test_the_samples_replaced_channel_is_seen_by_its_filter(tmp_path: Path) -> None:
    model = replaced.replaced(onnx.load(SAMPLES / "mnist-clean.onnx"), target=1).model
    (observation,) = found_in(model, tmp_path)
    assert observation.details["channels"] == [0]


def test_the_time_is_kept(tmp_path: Path) -> None:
    rig, paths = rigged(chain(*planted()), tmp_path)
    rig.until = time.monotonic() - 1
    with pytest.raises(WorkerTimeoutError):
        list(matched_filters.observe(rig, paths))


def test_a_filter_is_what_the_docs_say(tmp_path: Path) -> None:
    found = list(matched_filters.measure(*rigged(chain(*trained_looking()), tmp_path)))
    assert all(isinstance(each, Filter) for each in found)
    assert [each.gain for each in found] == sorted((each.gain for each in found), reverse=True)
