"""The files that a person looks at hold what was found, under names that are safe."""

import base64
import dataclasses
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest
from examples import neural_cleanse, result
from PIL import Image

from scanner.errors import UsageError
from scanner.report.evidence import left_over, make_folder, write_evidence
from scanner.report.pictures import floats
from scanner.results import Array, Evidence, Finding, Input, Observation, ScanResult, Severity

ARRAYS = ("mask", "pattern", "original", "stamped")


def named(path: str) -> ScanResult:
    """A result for a model of this name, with a trigger."""
    whole = result()
    return dataclasses.replace(
        whole,
        model=dataclasses.replace(whole.model, path=path),
        findings=(neural_cleanse(),),
    )


def bare(whole: ScanResult) -> Finding:
    """A finding that there is nothing to draw of."""
    return dataclasses.replace(whole.findings[1], evidence=Evidence(), clean=())


def test_a_trigger_is_written_to_look_at_and_to_feed(tmp_path: Path) -> None:
    scanned = named("models/a.onnx")
    written = write_evidence([scanned], tmp_path)
    folder = tmp_path / "00-a" / "neural_cleanse"
    arrays = {folder / f"{name}.{kind}" for name in ARRAYS for kind in ("png", "npy")}
    assert set(written) == {*arrays, folder / "classes.svg", folder / "place.svg"}
    trigger = scanned.findings[0].evidence.trigger
    assert trigger is not None
    for name in ARRAYS:
        array = np.load(folder / f"{name}.npy")
        shape, values = floats(getattr(trigger, name))
        assert (array.dtype, array.shape) == (np.float32, shape)
        np.testing.assert_array_equal(array.ravel(), values)
        with Image.open(folder / f"{name}.png") as image:
            assert image.size == (280, 280)
    ET.parse(folder / "classes.svg")  # noqa: S314 - we have just written it


def test_what_an_earlier_scan_wrote_of_the_same_model_is_told_apart(tmp_path: Path) -> None:
    before, other = write_evidence([named("a.onnx"), named("b.onnx")], tmp_path), named("c.onnx")
    again = dataclasses.replace(named("a.onnx"), findings=(bare(result()),))
    written = write_evidence([again, other], tmp_path)
    of_a = [path for path in before if path.is_relative_to(tmp_path / "00-a")]
    assert left_over([again, other], tmp_path, written) == sorted(of_a)
    assert all(path.exists() for path in before)
    assert left_over([named("a.onnx")], tmp_path, of_a) == []


def test_a_folder_that_cannot_be_made_is_told_before(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="name another folder as the setting `evidence`"):
        make_folder(tmp_path / "file")
    make_folder(tmp_path / "new" / "evidence")
    assert [*(tmp_path / "new" / "evidence").iterdir()] == []


def test_a_part_of_the_graph_is_written_as_a_model(tmp_path: Path) -> None:
    seen = Observation(
        code="two-value-fields", severity=Severity.SUSPICIOUS, sentence="seen",
        nodes=("../gate/1",), excerpt=base64.b64encode(b"a model").decode(),
    )  # fmt: skip
    silent = Observation(code="other", severity=Severity.NOTE, sentence="seen")
    whole = result()
    finding = dataclasses.replace(bare(whole), observations=(seen, silent))
    (written,) = write_evidence([dataclasses.replace(whole, findings=(finding,))], tmp_path)
    assert written == tmp_path / "00-model" / "overactivation" / "00-two-value-fields.onnx"
    assert written.read_bytes() == b"a model"


def test_an_input_that_shows_an_observation_is_written(tmp_path: Path) -> None:
    values = np.linspace(0, 1, 64, dtype=np.float32).reshape(1, 8, 8)
    shown = Input(image=Array.packed(values.tobytes(), values.shape), low=0.0, high=1.0)
    seen = Observation(code="other", severity=Severity.SUSPICIOUS, sentence="seen", input=shown)
    whole = result()
    finding = dataclasses.replace(bare(whole), observations=(seen,))
    picture, numbers = write_evidence([dataclasses.replace(whole, findings=(finding,))], tmp_path)
    assert (picture.name, numbers.name) == ("00-other-input.png", "00-other-input.npy")
    np.testing.assert_array_equal(np.load(numbers), values)


def test_a_way_through_the_graph_and_the_image_before_are_written(tmp_path: Path) -> None:
    values = np.linspace(0, 1, 64, dtype=np.float32).reshape(1, 8, 8)
    images = [Array.packed(part.tobytes(), part.shape) for part in (values, 1 - values)]
    seen = Observation(
        code="input-gate", severity=Severity.CONFIRMED, sentence="seen", nodes=("test", "gate"),
        details={"gates": [{"node": "gate", "operator": "Where"}], "gated": "logits"},
        input=Input(image=images[0], original=images[1], low=0.0, high=1.0),
    )  # fmt: skip
    whole = result()
    finding = dataclasses.replace(bare(whole), observations=(seen,))
    written = write_evidence([dataclasses.replace(whole, findings=(finding,))], tmp_path)
    kinds = ("path.svg", "input.png", "input.npy", "original.png", "original.npy")
    assert [path.name for path in written] == [f"00-input-gate-{kind}" for kind in kinds]
    assert b"logits" in written[0].read_bytes()
    ET.parse(written[0])  # noqa: S314 - we have just written it
    np.testing.assert_array_equal(np.load(written[-1]), 1 - values)
    with Image.open(written[1]) as image:
        assert min(image.size) >= 256


def test_models_of_one_name_are_kept_apart(tmp_path: Path) -> None:
    written = write_evidence([named("x/m.onnx"), named("y/m.onnx")], tmp_path)
    assert {path.relative_to(tmp_path).parts[0] for path in written} == {"00-m", "01-m"}


def test_without_evidence_no_folder_is_made(tmp_path: Path) -> None:
    nothing = dataclasses.replace(result(), findings=(bare(result()),))
    assert write_evidence([nothing], tmp_path / "evidence") == []
    assert not (tmp_path / "evidence").exists()


def test_a_folder_that_cannot_be_written_is_wrong_usage(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UsageError, match="another folder as the setting `evidence`"):
        write_evidence([named("m.onnx")], tmp_path / "file")


@pytest.mark.parametrize("step", ["", "neural_cleanse"], ids=["model", "rule"])
def test_a_link_in_place_of_a_folder_is_not_followed(tmp_path: Path, step: str) -> None:
    elsewhere, inside = tmp_path / "elsewhere", tmp_path / "evidence" / "00-m"
    elsewhere.mkdir()
    link = inside / step if step else inside
    link.parent.mkdir(parents=True)
    link.symlink_to(elsewhere)
    with pytest.raises(UsageError, match="a link lies in the way"):
        write_evidence([named("m.onnx")], tmp_path / "evidence")
    assert not [*elsewhere.iterdir()]


@pytest.mark.parametrize("kind", ["symbolic", "hard"])
def test_a_link_in_place_of_a_file_is_replaced(tmp_path: Path, kind: str) -> None:
    kept, folder = tmp_path / "kept", tmp_path / "evidence" / "00-m" / "neural_cleanse"
    kept.write_text("mine")
    folder.mkdir(parents=True)
    if kind == "hard":
        (folder / "mask.png").hardlink_to(kept)
    else:
        (folder / "mask.png").symlink_to(kept)
    write_evidence([named("m.onnx")], tmp_path / "evidence")
    assert kept.read_text() == "mine"
    assert (folder / "mask.png").read_bytes().startswith(b"\x89PNG")
    assert not (folder / "mask.png").is_symlink()


def test_a_rule_that_is_a_path_stays_inside(tmp_path: Path) -> None:
    """Such an id is refused where an answer is read; this is the second wall."""
    whole = named("m.onnx")
    rule = dataclasses.replace(whole.findings[0].rule, id="../../../out")
    finding = dataclasses.replace(whole.findings[0], rule=rule)
    written = write_evidence([dataclasses.replace(whole, findings=(finding,))], tmp_path / "e")
    assert {path.parent for path in written} == {tmp_path / "e" / "00-m" / "out"}
