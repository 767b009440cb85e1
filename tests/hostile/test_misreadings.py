"""Files that run a backdoored network and read as a clean one: none is called clean."""

import dataclasses
from pathlib import Path

import numpy as np
import onnx
import pytest
from hostile import misread_numbers, misread_structure, misreadings
from onnx import numpy_helper

from scanner import Verdict, scan
from scanner.detectors.translation import Translation
from scanner.errors import ModelError, UnsafeModelError, UnsupportedModelError
from scanner.graph.gradient.backward import Objective
from scanner.instruments.detector import Subject
from scanner.instruments.differentiable import differentiable
from scanner.limits import Limits
from scanner.modelfile.model import open_model
from scanner.results import Severity
from scanner.settings import Device, Settings

SETTINGS = Settings(device=Device.CPU)
IMAGES = np.random.default_rng(1).random((16, 1, 28, 28), dtype=np.float32)
BACKDOORED = misreadings.runs(misreadings.BACKDOORED.read_bytes(), IMAGES)
ALL = {**misreadings.FILES, **misread_structure.FILES, **misread_numbers.FILES}
REFUSED = {
    "constant_of_two_attributes",
    "condition_of_two_attributes",
    "dense_and_sparse",
    "opset_twice",
    "opset_by_two_names",
}
DOUBTED = {"two_outputs"}
COMPANY = {"batch_size", "batch_position"}
SEEN = COMPANY | {
    "function_named_like_a_kernel",
    "function_named_like_an_operator",
    "largest_beside_nan",
    "quantised_bias",
    "rounding_made_large",
}
"""What no local mend can read right: only the comparison with the file shows it."""
UNSEARCHED = {
    "from_a_sequence",
    "from_an_optional",
    "function_of_another_opset",
    "nested_branches",
}
"""What searches cannot follow, and say so."""
FILES = [name for name in ALL if name != "attribute_twice"]


def subject(name: str, folder: Path, *, lenient: bool = False) -> Subject:
    path = folder / f"{name}.onnx"
    path.write_bytes(ALL[name]())
    model = open_model(path, limits=Limits(lenient=lenient))
    opened = Subject(model=model, settings=SETTINGS)
    differentiable(opened, Objective.CROSS_ENTROPY)
    return opened


@pytest.mark.parametrize("name", FILES)
def test_the_runtime_runs_the_backdoored_network(name: str) -> None:
    answers = misreadings.runs(ALL[name](), IMAGES)
    assert np.allclose(answers, BACKDOORED, atol=1e-3)


@pytest.mark.parametrize(
    "name", sorted(set(FILES) - REFUSED - DOUBTED - SEEN - UNSEARCHED - {"flat_buffer"})
)
def test_it_is_measured_as_it_runs(name: str, tmp_path: Path) -> None:
    opened = subject(name, tmp_path)
    (scores,) = opened.witnesses[0].answer(IMAGES).values()
    assert np.allclose(scores, BACKDOORED, atol=1e-3)
    assert Translation().measure(opened).observations == ()


@pytest.mark.parametrize("name", sorted(SEEN))
def test_what_was_measured_is_not_the_file(name: str, tmp_path: Path) -> None:
    found = Translation().measure(subject(name, tmp_path)).observations
    code = "batch-dependent" if name in COMPANY else "not-the-file"
    assert [(o.code, o.severity) for o in found] == [(code, Severity.SUSPICIOUS)]
    assert found[0].input is not None
    assert found[0].input.image.shape == (1, 28, 28)


@pytest.mark.parametrize("name", [*sorted(REFUSED), "attribute_twice"])
def test_it_is_refused_as_ambiguous(name: str, tmp_path: Path) -> None:
    with pytest.raises(UnsafeModelError, match="can be read in several ways"):
        subject(name, tmp_path)


def test_what_leniency_lets_in_is_compared_all_the_same(tmp_path: Path) -> None:
    found = Translation().measure(subject("dense_and_sparse", tmp_path, lenient=True))
    assert [o.code for o in found.observations] == ["not-the-file"]


def test_a_file_that_the_runtime_does_not_load_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedModelError, match="refuses the model"):
        Translation().measure(subject("attribute_twice", tmp_path, lenient=True))


def test_the_user_is_asked_which_of_two_outputs_decides(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedModelError, match="the setting `logits`"):
        Translation().measure(subject("two_outputs", tmp_path))


@pytest.mark.parametrize("name", sorted(UNSEARCHED))
def test_what_cannot_be_searched_is_not_clean(name: str, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(ALL[name]())
    chosen = Settings(device=Device.CPU, detectors=("integrity", "graph_logic", "mm_bd"))
    result = scan(path, [misreadings.REFERENCE], chosen)
    gated = name == "nested_branches"
    assert result.verdict is (Verdict.SUSPICIOUS if gated else Verdict.INCONCLUSIVE)
    assert [f.rule for f in result.failures] == ["mm_bd"]


def test_a_file_that_is_two_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "flat.onnx"
    path.write_bytes(misread_structure.flat_buffer())
    assert onnx.load(path).graph == onnx.load(misreadings.CLEAN).graph
    with pytest.raises(UnsafeModelError, match="ONNX Runtime's own format"):
        open_model(path, limits=Limits(lenient=True))


@pytest.mark.slow
@pytest.mark.parametrize("name", list(ALL))
def test_the_default_scan_does_not_call_it_clean(name: str, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(ALL[name]())
    assert scan(path, [misreadings.REFERENCE], SETTINGS).verdict is not Verdict.CLEAN


@pytest.mark.parametrize("name", sorted(SEEN))
def test_a_scan_by_one_detector_is_checked_too(name: str, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(ALL[name]())
    result = scan(path, settings=Settings(device=Device.CPU, detectors=("mm_bd",)))
    assert result.verdict is Verdict.SUSPICIOUS
    assert [f.rule.id for f in result.findings] == ["mm_bd", "not-the-file"]


def test_no_model_is_clean_beside_its_own_twin(tmp_path: Path) -> None:
    twin = onnx.load(misreadings.BACKDOORED)
    bias = next(t for t in twin.graph.initializer if t.name == "7.bias")
    moved = numpy_helper.to_array(bias).copy()
    moved[0] += 1e-6
    bias.CopyFrom(numpy_helper.from_array(moved, bias.name))
    onnx.save(twin, tmp_path / "twin.onnx")
    by_comparison = dataclasses.replace(
        SETTINGS, detectors=("graph_logic", "neural_cleanse", "mm_bd", "head")
    )
    result = scan(misreadings.BACKDOORED, [tmp_path / "twin.onnx"], by_comparison)
    assert result.verdict is Verdict.INCONCLUSIVE
    assert "is a copy of the suspect" in result.reason
    # What is seen needs no comparison; the class is the patch's, though the twin has it too.
    by_patch = dataclasses.replace(SETTINGS, detectors=("graph_logic", "patch_sweep"))
    seen = scan(misreadings.BACKDOORED, [tmp_path / "twin.onnx"], by_patch)
    assert (seen.verdict, seen.target_class) == (Verdict.SUSPICIOUS, 0)


def test_a_node_of_an_unknown_domain_that_nothing_reads_is_never_clean(tmp_path: Path) -> None:
    made = onnx.load(misreadings.CLEAN)
    made.graph.node.append(onnx.helper.make_node("Secret", ["logits"], ["x"], domain="acme"))
    made.opset_import.append(onnx.helper.make_opsetid("acme", 1))
    onnx.save(made, tmp_path / "model.onnx")
    opened = Subject(model=open_model(tmp_path / "model.onnx"), settings=SETTINGS)
    differentiable(opened, Objective.CROSS_ENTROPY)
    with pytest.raises(ModelError, match="refuses the model"):
        Translation().measure(opened)
