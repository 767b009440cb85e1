"""One scan through the real child."""

import contextlib
import dataclasses
import os
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import models
import numpy as np
import onnx
import pytest
import triggered
from hypothesis import given
from hypothesis import strategies as st
from onnx import helper, numpy_helper

import scanner
from scanner import Device, Settings, UsageError, Verdict, scan
from scanner.batch import scan_many
from scanner.cli.exits import exit_code
from scanner.judging.population import Baseline
from scanner.limits import Confinement
from scanner.pipeline import _part, judge, measure, scan_each
from scanner.protocol import MODEL_RULE, Preparation, Source
from scanner.results import ModelRecord, Rule
from scanner.sandbox import worker
from scanner.sandbox.endpoint import Step
from scanner.sandbox.worker import Worker
from trainers.graph_backdoor import plant

SETTINGS = Settings(images=10, device=Device.CPU, detectors=("overactivation",))


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    clean = models.save(models.plain(), tmp_path / "clean.onnx")
    return models.save(models.plain(planted=True), tmp_path / "planted.onnx"), clean


def test_one_reference_is_not_enough_for_a_verdict(pair: tuple[Path, Path]) -> None:
    result = scan(pair[0], [pair[1]], SETTINGS)
    assert result.verdict is Verdict.INCONCLUSIVE
    assert "uncalibrated: one clean model shows a difference" in result.reason
    assert result.score is None
    finding = result.findings[0]
    assert finding.evidence.images is not None
    assert finding.evidence.images.wins == 10
    assert finding.p_value is None
    assert result.references[0].path == str(pair[1])
    assert result.runtime is not None
    assert result.runtime.versions["onnxruntime"]


def test_without_a_reference_the_suspect_is_still_measured(pair: tuple[Path, Path]) -> None:
    result = scan(pair[0], settings=SETTINGS)
    assert result.findings[0].evidence.standing
    assert "the setting `references`" in result.reason


def test_a_reference_that_cannot_be_opened_is_an_error(
    pair: tuple[Path, Path], tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match="there is no file"):
        scan(pair[0], [tmp_path / "none.onnx"], SETTINGS)


def test_a_reference_of_another_input_is_a_failure(pair: tuple[Path, Path], tmp_path: Path) -> None:
    other = models.save(models.plain(input_shape=("N", 1, 9, 9)), tmp_path / "other.onnx")
    result = scan(pair[0], [other], SETTINGS)
    assert "compare with a clean model of the same input" in result.failures[0].sentence


def test_the_model_itself_is_no_reference(pair: tuple[Path, Path]) -> None:
    assert "same SHA-256" in scan(pair[1], [pair[1]], SETTINGS).failures[0].sentence


def test_one_reference_under_two_names_is_refused_with_both(
    pair: tuple[Path, Path], tmp_path: Path
) -> None:
    copy = tmp_path / "copy.onnx"
    copy.write_bytes(pair[1].read_bytes())
    with pytest.raises(UsageError, match=r"clean\.onnx' and .*copy\.onnx' are the same file"):
        scan(pair[0], [pair[1], copy], SETTINGS)


def test_an_unknown_detector_is_refused_with_the_nearest(pair: tuple[Path, Path]) -> None:
    with pytest.raises(UsageError, match="did you mean 'overactivation'"):
        scan(pair[0], settings=Settings(detectors=("overactivations",)))


def test_the_public_face_is_what_it_says() -> None:
    assert all(getattr(scanner, name) is not None for name in scanner.__all__)
    assert set(scanner.__all__) <= set(dir(scanner))
    with pytest.raises(AttributeError):
        _ = scanner.nothing  # type: ignore[attr-defined]


def _moved(record: ModelRecord, number: int) -> ModelRecord:
    """Return a record under another hash, its figures a few per cent up or down."""
    (own,) = record.measurements
    assert own.by_class is not None
    rows = tuple(
        dataclasses.replace(row, figure=figure, course=(figure,))
        for row in own.by_class.rows
        if (figure := (row.figure or 0.0) * (1 + (number - 9) / 100 + 0.02 * (row.class_id == 0)))
    )
    moved = dataclasses.replace(own, by_class=dataclasses.replace(own.by_class, rows=rows))
    model = dataclasses.replace(record.model, sha256=f"{number:064x}")
    return dataclasses.replace(record, model=model, measurements=(moved,))


def test_a_baseline_that_changes_the_verdict_of_a_shipped_one_is_named() -> None:
    """A poisoned population: the suspect itself, nineteen times over, each moved a little."""
    suspect = Path(__file__).parents[2] / "samples" / "mnist-badnets.onnx"
    settings = Settings(device=Device.CPU, detectors=("head",))
    known = measure(suspect, settings)
    records = tuple(_moved(known, n) for n in range(19))
    poisoned = Baseline(name="poisoned", provenance="an attacker", records=records)
    by_itself = scan(suspect, settings=settings)
    result = scan(suspect, settings=settings, baseline=poisoned)
    assert by_itself.verdict is Verdict.SUSPICIOUS
    assert result.verdict is not Verdict.SUSPICIOUS
    (warning,) = result.warnings
    assert (
        "the baseline 'poisoned' and the shipped baseline 'mnist' both fit and disagree" in warning
    )
    assert warning.endswith("by the second suspicious; find out where the first comes from")


def test_beside_its_own_copy_no_model_is_clean(tmp_path: Path) -> None:
    suspect = models.plain(planted=True)
    near = models.plain(planted=True)
    bias = next(t for t in near.graph.initializer if t.name == "bias")
    bias.CopyFrom(numpy_helper.from_array(np.full(4, 1e-6, np.float32), "bias"))
    files = [models.save(m, tmp_path / f"{n}.onnx") for n, m in enumerate((suspect, near))]
    result = scan(files[0], [files[1]], SETTINGS)
    assert result.verdict is not Verdict.CLEAN
    assert (
        "is a copy of the suspect, or nearly so, which makes it no evidence" in result.warnings[0]
    )


SEARCHING = Settings(device=Device.CPU, detectors=("neural_cleanse", "mm_bd", "head", "classifier"))
CHEAP = Settings(device=Device.CPU, detectors=("head", "classifier"))


def changed(model: onnx.ModelProto, path: Path, *, by: float, seed: int = 0) -> Path:
    """Save a copy of a model whose weights were moved a little, as further training does."""
    generator = np.random.default_rng(seed)
    for tensor in model.graph.initializer:
        old = numpy_helper.to_array(tensor)
        if old.ndim > 1:
            new = old + by * old.std() * generator.standard_normal(old.shape)
            tensor.CopyFrom(numpy_helper.from_array(new.astype(old.dtype), tensor.name))
    return models.save(model, path)


def test_a_copy_as_a_reference_is_said_loudly(tmp_path: Path) -> None:
    suspect = models.save(triggered.classifier(planted=True), tmp_path / "suspect.onnx")
    copy = changed(triggered.classifier(planted=True), tmp_path / "copy.onnx", by=0.1)
    result = scan(suspect, [copy], SEARCHING)
    assert any("is a copy of the suspect that was trained on" in w for w in result.warnings)
    assert result.verdict is Verdict.INCONCLUSIVE


def test_one_network_in_many_files_accuses_nobody(tmp_path: Path) -> None:
    """Beside twenty copies all that was trained apart would lie far beyond every clean model."""
    suspect, references = models.save(models.plain(seed=0), tmp_path / "suspect.onnx"), []
    for number in range(20):
        copy = models.plain(seed=1)
        copy.producer_version = str(number)
        references.append(models.save(copy, tmp_path / f"{number}.onnx"))
    result = scan(suspect, references, Settings(detectors=("overactivation",)))
    assert any("and count once" in warning for warning in result.warnings)
    assert result.verdict is Verdict.INCONCLUSIVE
    assert result.findings[0].p_value is None


def test_a_reference_of_other_classes_agrees_on_nothing(tmp_path: Path) -> None:
    model = triggered.classifier(classes=8)
    suspect = models.save(model, tmp_path / "suspect.onnx")
    other = models.save(triggered.classifier(classes=8, seed=12), tmp_path / "other.onnx")
    result = scan(suspect, [other], CHEAP)
    assert any("and the suspect agree on nothing" in w for w in result.warnings)


def test_a_reference_that_answers_one_class_is_of_no_use(tmp_path: Path) -> None:
    suspect = models.save(triggered.classifier(), tmp_path / "suspect.onnx")
    model = triggered.classifier(seed=1)
    index = [tensor.name for tensor in model.graph.initializer].index("weights")
    nothing = np.zeros((64, 4), np.float32)
    model.graph.initializer[index].CopyFrom(numpy_helper.from_array(nothing, "weights"))
    result = scan(suspect, [models.save(model, tmp_path / "constant.onnx")], CHEAP)
    (sentence,) = [w for w in result.warnings if "is of no use" in w]
    assert "answers class 0 with the same logits to all" in sentence


def test_a_reference_of_no_use_hides_nothing(tmp_path: Path) -> None:
    """Beside it a suspect is judged as by itself, but for what is in its graph."""
    suspect = models.save(triggered.classifier(planted=True), tmp_path / "suspect.onnx")
    other = models.save(triggered.classifier(seed=12), tmp_path / "other.onnx")
    alone, beside = scan(suspect, settings=SEARCHING), scan(suspect, [other], SEARCHING)
    assert any("agree on nothing" in warning for warning in beside.warnings)
    assert alone.index is not None
    assert beside.index == alone.index


def test_a_network_that_answers_one_class_has_no_index(tmp_path: Path) -> None:
    model = triggered.classifier()
    index = [tensor.name for tensor in model.graph.initializer].index("bias")
    bias = np.array([0, 0, 1e4, 0], np.float32)
    model.graph.initializer[index].CopyFrom(numpy_helper.from_array(bias, "bias"))
    result = scan(models.save(model, tmp_path / "model.onnx"), settings=SEARCHING)
    assert (result.verdict, result.index, result.score) == (Verdict.INCONCLUSIVE, None, None)
    assert result.reason.startswith("the model answers class 2 to all")


def test_one_class_is_inconclusive(tmp_path: Path) -> None:
    path = models.save(triggered.classifier(classes=1), tmp_path / "model.onnx")
    result = scan(path, settings=Settings(device=Device.CPU))
    assert (result.verdict, result.index) == (Verdict.INCONCLUSIVE, None)
    assert {"head", "classifier"} <= {skip.rule for skip in result.skips}
    assert any("two" in skip.reason for skip in result.skips)


def test_one_score_before_a_sigmoid_decides_between_two_classes(tmp_path: Path) -> None:
    proto = triggered.classifier(classes=1)
    (output,) = proto.graph.output
    proto.graph.node.append(helper.make_node("Sigmoid", [output.name], ["probability"]))
    output.name = "probability"
    suspect = models.save(proto, tmp_path / "suspect.onnx")
    result = scan(suspect, [changed(proto, tmp_path / "clean.onnx", by=0.5)], SEARCHING)
    assert (result.skips, result.failures) == ((), ())
    measured = {finding.rule.id for finding in result.findings}
    assert measured == {"neural_cleanse", "mm_bd", "head", "classifier"}, "nothing is not the file"
    assert result.index is not None


def test_of_two_classes_each_is_set_beside_the_other(tmp_path: Path) -> None:
    model = triggered.classifier(classes=2)
    suspect = models.save(model, tmp_path / "suspect.onnx")
    alone = scan(suspect, settings=SEARCHING)
    assert alone.verdict is Verdict.INCONCLUSIVE
    assert "of two classes one always leads" in alone.reason
    beside = scan(suspect, [changed(model, tmp_path / "clean.onnx", by=0.5)], SEARCHING)
    assert beside.index is not None
    assert beside.verdict is Verdict.INCONCLUSIVE


def test_a_thousand_classes_are_compared(tmp_path: Path) -> None:
    model = triggered.classifier(classes=1000)
    suspect = models.save(model, tmp_path / "suspect.onnx")
    reference = changed(model, tmp_path / "clean.onnx", by=0.5)
    # Random weights are no trained classifier, which `classifier` would say of the reference.
    result = scan(suspect, [reference], Settings(device=Device.CPU, detectors=("head",)))
    (head,) = result.findings
    assert head.evidence.classes_compared == 1000
    assert result.verdict is Verdict.INCONCLUSIVE
    assert not result.failures
    _, classifier = scan(suspect, settings=CHEAP).findings
    assert classifier.parameters["classes"] == 1000


def test_the_input_range_that_was_found_is_the_one_that_was_measured(tmp_path: Path) -> None:
    model = triggered.classifier(kind=onnx.TensorProto.UINT8)
    result = scan(models.save(model, tmp_path / "model.onnx"), settings=CHEAP)
    assert result.input_range is not None
    assert (result.input_range.low, result.input_range.high) == (0.0, 255.0)
    assert {tuple(f.parameters["input_range"]) for f in result.findings} == {(0.0, 255.0)}


def test_a_scan_of_another_range_measures_its_references_again(tmp_path: Path) -> None:
    reference = models.save(models.plain(seed=2), tmp_path / "reference.onnx")
    suspects = [
        models.save(models.plain(), tmp_path / "unit.onnx"),
        models.save(models.of_bytes(), tmp_path / "bytes.onnx"),
    ]
    results = list(scan_each(suspects, [reference], SETTINGS))
    alone = scan(suspects[1], [reference], SETTINGS)
    assert results[1].findings[0].statistic == alone.findings[0].statistic
    assert results[1].input_range == alone.input_range


def test_measuring_and_judging_are_the_halves_of_a_scan(pair: tuple[Path, Path]) -> None:
    whole = scan(pair[0], [pair[1]], SETTINGS)
    (judged,) = judge([measure(pair[0], SETTINGS)], [measure(pair[1], SETTINGS)], SETTINGS)
    assert (judged.findings, judged.verdict, judged.warnings) == (
        whole.findings,
        whole.verdict,
        whole.warnings,
    )


def test_what_was_measured_on_other_values_is_not_compared(tmp_path: Path) -> None:
    files = [
        models.save(models.of_bytes(), tmp_path / "bytes.onnx"),
        models.save(models.plain(seed=2), tmp_path / "unit.onnx"),
    ]
    suspect, reference = (measure(file, SETTINGS) for file in files)
    (result,) = judge([suspect], [reference], SETTINGS)
    assert result.verdict is Verdict.INCONCLUSIVE
    assert "was measured on other values" in result.failures[0].sentence


def test_progress_names_each_model_and_detector(
    pair: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("scanner.sandbox.child._PROGRESS_SECONDS", -1.0)
    steps: list[Step] = []
    names = list(map(str, pair))
    scan(names[0], [names[1]], SETTINGS, progress=steps.append)
    assert list(dict.fromkeys(step.model for step in steps)) == names
    assert {step.rule for step in steps} <= {"overactivation", None}
    assert [step.done for step in steps] == sorted(step.done for step in steps)
    assert {step.total for step in steps} == {2000}


@given(
    st.builds(
        Step,
        done=st.integers(0, 10**9),
        total=st.integers(1, 10**6),
        rule=st.sampled_from(["head", "other", None]),
        model=st.text(),
    )
)
def test_a_child_names_no_other_model_and_no_rule_that_does_not_run(step: Step) -> None:
    rule = Rule(id="head", name="H", summary="s", source="p")
    prepared = Preparation(rules=(rule,), isolation=Confinement())
    sources = [Source(name=name, path=name) for name in ("a", "b")]
    told: list[Step] = []
    part = _part(told.append, sources, 1, 3, prepared)
    assert part is not None
    part(step)
    (seen,) = told
    assert seen.model in {"a", "b"}
    assert seen.rule in {"head", None}
    assert seen.total / 3 <= seen.done <= seen.total


def test_a_model_that_no_child_survives_is_a_record_of_that(
    pair: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a child says after the first byte of a model, errors too, is about that model alone."""
    monkeypatch.setattr("scanner.protocol.EXAMINE", scanner.protocol.RULES)
    record = measure(pair[0], SETTINGS)
    assert record.model.path == str(pair[0])
    assert [failure.rule for failure in record.failures] == ["model"]


def test_a_model_alone_is_asked_by_one_detector_more(tmp_path: Path) -> None:
    """Nowhere is a clean model at hand, so that images of its own are worth a second search."""
    suspect, reference = (
        models.save(triggered.lit(planted, seed=planted), tmp_path / f"{planted}.onnx")
        for planted in (True, False)
    )
    settings = Settings(device=Device.CPU)
    found = [
        {finding.rule.id for finding in result.findings}
        for result in (
            scan(suspect, settings=settings),
            next(scan_many([suspect], [], settings)),
            scan(suspect, [reference], settings),
            next(scan_many([suspect], [reference], settings)),
        )
    ]
    assert ["data_free_inversion" in rules for rules in found] == [True, True, False, False]


THREE = dataclasses.replace(SETTINGS, detectors=("graph_logic", "overactivation", "mm_bd"))


@pytest.fixture
def dying(monkeypatch: pytest.MonkeyPatch) -> Callable[[Step], None]:
    """Return a progress that kills the suspect's child as soon as it is at MM-BD."""
    taken: list[Worker] = []

    def take(preload: Sequence[str]) -> Worker:
        child = worker_of(preload)
        taken.append(child)
        return child

    worker_of = worker.take
    monkeypatch.setattr(worker, "take", take)

    def told(step: Step) -> None:
        if step.rule == "mm_bd":
            with contextlib.suppress(ProcessLookupError):  # it is dead by now
                os.kill(taken[0].pid, signal.SIGKILL)

    return told


@pytest.mark.skipif(sys.platform == "win32", reason="it has no such signal")
def test_a_child_that_dies_leaves_what_it_had_finished(
    tmp_path: Path, dying: Callable[[Step], None]
) -> None:
    gated = plant(models.plain(), "patch-equals", target=2).model
    result = scan(models.save(gated, tmp_path / "gated.onnx"), settings=THREE, progress=dying)
    assert result.verdict is Verdict.SUSPICIOUS
    assert {"graph_logic", "overactivation"} <= {f.rule.id for f in result.findings}
    (failure,) = result.failures
    assert failure.rule == MODEL_RULE
    assert "died by signal 9" in failure.sentence
    assert exit_code([result]) == 1


@pytest.mark.skipif(sys.platform == "win32", reason="it has no such signal")
def test_what_a_child_had_finished_calls_no_model_clean(
    tmp_path: Path, dying: Callable[[Step], None]
) -> None:
    paths = [models.save(models.plain(seed=n), tmp_path / f"{n}.onnx") for n in range(2)]
    settings = dataclasses.replace(THREE, images_file=str(tmp_path / "images.npz"))
    images = np.random.default_rng(0).random((20, 1, models.SIDE, models.SIDE), dtype=np.float32)
    np.savez(tmp_path / "images.npz", images=images)
    result = scan(paths[0], paths[1:], settings, progress=dying)
    assert result.verdict is Verdict.INCONCLUSIVE
    assert "died by signal 9" in result.reason
    assert exit_code([result]) == 3
    compared = {f.rule.id: f.evidence.images for f in result.findings}
    assert compared["overactivation"] is not None, "it was set beside the reference"
    assert any("before it was known whether the images suit" in w for w in result.warnings)


@pytest.mark.skipif(sys.platform == "win32", reason="it has no such signal")
def test_so_does_one_that_measures_alone(tmp_path: Path, dying: Callable[[Step], None]) -> None:
    path = models.save(models.plain(), tmp_path / "model.onnx")
    record = measure(path, THREE, progress=dying)
    whole = measure(path, THREE)
    assert [m.rule for m in record.measurements] == ["graph_logic", "overactivation"]
    assert [m.statistic for m in record.measurements] == [
        m.statistic for m in whole.measurements if m.rule != "mm_bd"
    ]
    assert record.input_range == whole.input_range
    assert [f.rule for f in record.failures] == [MODEL_RULE]
