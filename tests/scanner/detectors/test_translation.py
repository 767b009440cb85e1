"""Honest files are what was measured; a reading that is another network is not."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import exporter_idioms
import listening
import models
import numpy as np
import numpy.typing as npt
import onnx
import pytest
import triggered
from onnx import TensorProto, helper, numpy_helper

from scanner.detectors import load
from scanner.detectors.translation import Translation
from scanner.errors import GraphError, ModelError, UnsupportedModelError, UsageError
from scanner.instruments.detector import Subject
from scanner.instruments.witness import Witness
from scanner.judging.comparison import compare
from scanner.modelfile.model import open_model
from scanner.results import Measurement, Severity
from scanner.settings import Device, Settings

Array = npt.NDArray[Any]
SETTINGS = Settings(images=4, device=Device.CPU)
LIGHT = ("integrity", "overactivation", "layerwise", "head")
HONEST: dict[str, Callable[[], onnx.ModelProto]] = {
    **{name: lambda build=build: build(False) for name, build in models.MEASURABLE.items()},  # type: ignore[misc]
    **{f"idiom: {name}": build for name, build in exporter_idioms.HONEST.items()},
    "a branch that the image decides": lambda: models.branch_relu(constant=False),
    "QDQ with its ReLU fused": lambda: models.quantised(fused=True),
    "FusedConv": models.fused_convolution,
    "probabilities": lambda: triggered.classifier(softmax=True),
    "float64": lambda: triggered.classifier(kind=TensorProto.DOUBLE),
    "uint8": lambda: triggered.classifier(kind=TensorProto.UINT8),
    "batches of four": lambda: triggered.classifier(batch=4),
}


def opened(model: onnx.ModelProto, folder: Path, **save: bool) -> Subject:
    path = models.save(model, folder / "model.onnx", **save)
    return Subject(model=open_model(path), settings=SETTINGS)


def measured(subject: Subject, names: tuple[str, ...] = LIGHT) -> Subject:
    """Let detectors leave their witnesses; one that cannot measure the model leaves none."""
    for detector in load(names):
        try:
            detector.measure(subject)
        except (ModelError, GraphError, UsageError):
            continue
    return subject


@pytest.mark.parametrize("name", list(HONEST))
def test_no_honest_file_is_accused(name: str, tmp_path: Path) -> None:
    subject = measured(opened(HONEST[name](), tmp_path))
    if not subject.witnesses:
        pytest.skip("no detector measures it")
    assert Translation().measure(subject).observations == ()


def test_weights_in_a_second_file_are_put_inside(tmp_path: Path) -> None:
    subject = measured(opened(models.plain(), tmp_path, external=True))
    found = Translation().measure(subject)
    assert found.observations == ()
    assert found.parameters["rewritten"]


def lying(
    subject: Subject, value: str, answer: float, *, peaks: bool = False, scores: bool = False
) -> Measurement:
    """Check a witness that claims to compute a value and answers something else."""

    def wrong(images: Array) -> dict[str, Array]:
        shape = (len(images),) if peaks else (len(images), models.CLASSES)
        return {value: np.full(shape, answer, np.float32) + np.arange(shape[-1], dtype=np.float32)}

    subject.witnesses.append(
        Witness(name="a liar", values=(value,), answer=wrong, peaks=peaks, scores=scores)
    )
    return Translation().measure(subject)


def test_a_witness_that_answers_otherwise_is_named(tmp_path: Path) -> None:
    found = lying(opened(models.plain(), tmp_path), "logits", 3.0, scores=True)
    (observation,) = found.observations
    assert observation.severity is Severity.SUSPICIOUS
    assert observation.details["witness"] == "a liar"
    assert len(observation.details["file"]) == len(observation.details["measured"]) == 3
    assert observation.input is not None
    assert observation.input.image.shape == (1, models.SIDE, models.SIDE)
    comparison = compare(Translation(), found, [])
    assert comparison.statistic == Severity.SUSPICIOUS


@pytest.mark.parametrize(("factor", "codes"), [(1.0, []), (-1.0, ["not-the-file"])])
def test_of_a_single_score_it_is_seen_where_the_graph_cuts_it(
    factor: float, codes: list[str], tmp_path: Path
) -> None:
    """A single score leads no other; that it is near the cut shows where it is moved a little."""
    model = triggered.classifier(classes=1)
    product, bias = (numpy_helper.to_array(t) for t in model.graph.initializer[:2])
    model.graph.initializer.append(numpy_helper.from_array(np.array(0.2, np.float32), "cut"))
    model.graph.node.append(helper.make_node("Greater", ["logits", "cut"], ["passed"]))
    model.graph.node.append(
        helper.make_node("Cast", ["passed"], ["decision"], to=TensorProto.INT64)
    )
    model.graph.output[0].name = "decision"

    def answer(images: Array) -> dict[str, Array]:
        return {"logits": factor * (images.reshape(len(images), -1) @ product + bias)}

    subject = opened(model, tmp_path)
    subject.witnesses.append(
        Witness(name="the search", values=("logits",), answer=answer, scores=True)
    )
    gaps = Translation().measure(subject).observations
    assert [o.code for o in gaps] == codes
    assert all(o.details["value"] in {"decision", "logits"} for o in gaps)


@pytest.mark.parametrize("build", [models.plain, models.function_relu, models.branch_relu])
def test_a_layer_alone_is_compared(build: Callable[[], onnx.ModelProto], tmp_path: Path) -> None:
    honest = measured(opened(build(), tmp_path), ("overactivation",))
    assert Translation().measure(honest).observations == ()
    found = lying(opened(build(), tmp_path), "activated", 9.0, peaks=True)
    assert [o.code for o in found.observations] == ["not-the-file"]


def test_answers_that_differ_each_time_are_never_passed(tmp_path: Path) -> None:
    model = models.plain()
    model.graph.node.append(helper.make_node("RandomNormalLike", ["logits"], ["noise"]))
    model.graph.node.append(helper.make_node("Add", ["logits", "noise"], ["noisy"]))
    model.graph.output[0].name = "noisy"
    with pytest.raises(UnsupportedModelError, match="differently each time"):
        Translation().measure(opened(model, tmp_path))


def test_codes_that_end_for_most_images_are_a_doubt_and_no_accusation(tmp_path: Path) -> None:
    """What MM-BD measures has no such ends, and then answers otherwise by design."""
    subject = opened(models.MEASURABLE["QDQ int8"](True), tmp_path)

    def without_ends(images: Array) -> dict[str, Array]:
        return {"logits": np.tile(np.arange(50.0, 50 + models.CLASSES), (len(images), 1))}

    subject.witnesses.append(
        Witness(
            name="the margin", values=("logits",), answer=without_ends, scores=True, relaxed=True
        )
    )
    with pytest.raises(UnsupportedModelError, match="the end of their codes on most images"):
        Translation().measure(subject)


@pytest.mark.parametrize("build", [models.plain, models.scaled_by_the_batch])
def test_a_gate_on_the_company_is_found(
    build: Callable[[], onnx.ModelProto], tmp_path: Path
) -> None:
    # It shows only where the network would not have said the target anyway.
    for target in (1, 2):
        subject = opened(listening.gated(listening.company, target, build), tmp_path)
        (observation,) = Translation().measure(subject).observations
        assert (observation.code, observation.severity) == ("batch-dependent", Severity.SUSPICIOUS)
        assert np.argmax(observation.details["alone"]) != target
        assert np.argmax(observation.details["together"]) == target


def test_a_scale_of_the_whole_batch_is_no_gate(tmp_path: Path) -> None:
    found = Translation().measure(opened(models.scaled_by_the_batch(), tmp_path))
    assert found.observations == ()
    assert found.figures["in company: logits"]


def test_one_output_made_of_the_other_is_no_doubt(tmp_path: Path) -> None:
    model = triggered.classifier(softmax=True)
    model.graph.output.append(helper.make_empty_tensor_value_info("logits"))
    subject = measured(opened(model, tmp_path))
    assert Translation().measure(subject).observations == ()


def test_a_large_file_is_not_run_whole_for_one_layer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("scanner.detectors.translation._MOST_BYTES", 10)
    subject = measured(opened(models.plain(), tmp_path), ("overactivation",))
    assert [o.code for o in Translation().measure(subject).observations] == ["layer-not-compared"]


def test_an_average_over_the_batch_is_a_warning(tmp_path: Path) -> None:
    """Each image is answered less what the others of its batch have in common with it."""
    model = models.plain()
    model.graph.node[-1].output[0] = "own"
    model.graph.node.extend([
        helper.make_node("ReduceMean", ["own"], ["common"], axes=[0]),
        helper.make_node("Sub", ["common", "own"], ["apart"]),
        helper.make_node("Sub", ["own", "apart"], ["logits"]),
    ])  # fmt: skip
    (observation,) = Translation().measure(opened(model, tmp_path)).observations
    assert (observation.code, observation.severity) == ("batch-dependent", Severity.WARNING)
