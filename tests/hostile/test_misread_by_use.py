"""What a file answers by use and not by the image: none is called clean."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as rt
import pytest
from hostile import misread_by_use, misreadings

from scanner import Verdict, scan
from scanner.detectors.translation import Translation
from scanner.errors import NoLogitsError, UnsafeModelError, UnsupportedModelError
from scanner.graph.gradient.backward import Objective
from scanner.instruments.detector import Subject
from scanner.instruments.differentiable import differentiable
from scanner.modelfile.model import open_model
from scanner.results import Severity
from scanner.settings import Device, Settings

SETTINGS = Settings(device=Device.CPU)
IMAGES = np.random.default_rng(1).random((16, 1, 28, 28), dtype=np.float32)
BACKDOORED = misreadings.runs(misreadings.BACKDOORED.read_bytes(), IMAGES)
CLEAN = misreadings.runs(misreadings.CLEAN.read_bytes(), IMAGES)
READ_AS_IT_RUNS = {
    "a_name_that_ends_early", "cast_beyond_the_range", "first_of_two_largest",
    "name_of_an_inlined_value", "number_in_another_spelling", "scores_of_a_decoy",
    "shift_of_all_bits", "text_as_number", "updates_of_one_place",
}  # fmt: skip


def subject(data: bytes, folder: Path) -> Subject:
    path = folder / "model.onnx"
    path.write_bytes(data)
    opened = Subject(model=open_model(path), settings=SETTINGS)
    differentiable(opened, Objective.CROSS_ENTROPY)
    return opened


@pytest.mark.parametrize("name", sorted(READ_AS_IT_RUNS))
def test_it_is_measured_as_it_runs_or_not_the_file(name: str, tmp_path: Path) -> None:
    data = misread_by_use.FILES[name]()
    np.testing.assert_allclose(misreadings.runs(data, IMAGES), BACKDOORED, atol=1e-3)
    opened = subject(data, tmp_path)
    (scores,) = opened.witnesses[0].answer(IMAGES).values()
    found = Translation().measure(opened).observations
    assert np.allclose(scores, BACKDOORED, atol=1e-3) != bool(found)
    assert all(seen.severity is Severity.SUSPICIOUS for seen in found)


@pytest.mark.parametrize("size", [8, 64])
def test_batches_of_the_sizes_that_users_choose_are_compared(size: int, tmp_path: Path) -> None:
    data = misread_by_use.batch_of(size)
    crowd = np.concatenate([IMAGES] * 4)[:size]
    session = rt.InferenceSession(data, providers=["CPUExecutionProvider"])
    (answers,) = session.run(None, {"input": crowd})
    np.testing.assert_allclose(answers[:8], BACKDOORED[:8], atol=1e-3)
    found = Translation().measure(subject(data, tmp_path)).observations
    assert [(o.code, o.severity) for o in found] == [("batch-dependent", Severity.SUSPICIOUS)]


def test_a_batch_of_another_size_is_a_doubt(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedModelError, match="computes with the size of the batch"):
        Translation().measure(subject(misread_by_use.batch_of(7), tmp_path))


def test_a_later_run_may_answer_otherwise(tmp_path: Path) -> None:
    data = misread_by_use.after_many_runs()
    session = rt.InferenceSession(data, providers=["CPUExecutionProvider"])
    runs = [session.run(None, {"input": IMAGES[:1]})[0] for _ in range(misread_by_use.RUNS + 1)]
    np.testing.assert_allclose(np.concatenate(runs[:-1]), np.repeat(CLEAN[:1], 1310, 0), atol=1e-3)
    np.testing.assert_allclose(runs[-1], BACKDOORED[:1], atol=1e-3)
    with pytest.raises(UnsupportedModelError, match="draws random numbers"):
        Translation().measure(subject(data, tmp_path))


def test_a_label_of_another_network_is_a_doubt(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedModelError, match="several outputs may be the class scores"):
        Translation().measure(subject(misread_by_use.label_behind_softmax(), tmp_path))


@pytest.mark.parametrize("text", [False, True])
def test_the_user_is_asked_whose_label_counts(text: bool, tmp_path: Path) -> None:
    with pytest.raises(NoLogitsError, match="several values may be the logits"):
        subject(misread_by_use.label_of_another_network(text=text), tmp_path)
    named = Subject(
        model=open_model(tmp_path / "model.onnx"),
        settings=Settings(device=Device.CPU, logits="logits"),
    )
    differentiable(named, Objective.CROSS_ENTROPY)
    assert Translation().measure(named).observations == (), "texts are no reason to fail"


def test_weights_in_another_form_are_refused_as_ambiguous(tmp_path: Path) -> None:
    """Where ONNX Runtime does not compare them, it runs these in place of the tensor's own."""
    path = tmp_path / "model.onnx"
    onnx.save(
        onnx.load(misreadings.CLEAN), path, save_as_external_data=True, location="data",
        size_threshold=0,
    )  # fmt: skip
    assert open_model(path).identity.inputs
    made = onnx.load(path, load_external_data=False)
    made.graph.initializer[0].external_data.add(key="prepacked_0", value="Gemm+1|81920;100352;0")
    onnx.save(made, path)
    with pytest.raises(UnsafeModelError, match=r"several ways: .* under the key 'prepacked_0'"):
        _ = open_model(path).proto


@pytest.mark.slow
@pytest.mark.parametrize("name", list(misread_by_use.FILES))
def test_the_default_scan_does_not_call_it_clean(name: str, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(misread_by_use.FILES[name]())
    assert scan(path, [misreadings.REFERENCE], SETTINGS).verdict is not Verdict.CLEAN
