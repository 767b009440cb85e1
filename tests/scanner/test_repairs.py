"""A repair from outside: what may be written where, which answers are believed, how it ends."""

import dataclasses
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import mended
import models
import numpy as np
import onnx
import pytest
import triggered
from onnx import numpy_helper

from scanner import repairs
from scanner.errors import (
    ScannerError,
    UnsafeModelError,
    UsageError,
    WorkerCrashedError,
)
from scanner.limits import GIB, Limits
from scanner.protocol import PieceBytes, RepairOrder, Source
from scanner.results import (
    Ending,
    KnownTrigger,
    Outcome,
    Repaired,
    RepairedFile,
    RepairResult,
    RepairStep,
    TriggerProof,
    Verdict,
    Way,
)
from scanner.settings import Settings

ORDER = RepairOrder(model=Source(name="m", path="m"), settings=Settings(), targets=(3,))
STEP = RepairStep(way=Way.UNLEARN, outcome=Outcome.KEPT, sentence="")
PROOF = TriggerProof(class_id=3, before=0.9, after=0.0, size_before=4.0, size_after=50.0)
PART = RepairedFile(suffix="", size=3, sha256=hashlib.sha256(b"abc").hexdigest())
REPAIRED = Repaired(
    steps=(STEP,),
    proofs=(PROOF,),
    agreement=1.0,
    images=60,
    held_back=40,
    source="",
    structural_before=0,
    structural_after=0,
    parts=(PART,),
)


@pytest.fixture(scope="module")
def gated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("repairs") / "gated.onnx"
    path.write_bytes(mended.gated().SerializeToString())
    return path


@pytest.mark.parametrize("data", [None, b"no model"])
def test_a_file_that_is_no_model_is_an_error(tmp_path: Path, data: bytes | None) -> None:
    path = tmp_path / "m.onnx"
    if data is not None:
        path.write_bytes(data)
    with pytest.raises(ScannerError, match=r"m\.onnx"):
        repairs.repair(path, tmp_path / "fixed.onnx", settings=Settings(detectors=("integrity",)))
    assert not (tmp_path / "fixed.onnx").exists()


def test_a_gate_is_cut_from_a_file(gated: Path) -> None:
    output = gated.with_name("fixed.onnx")
    settings = Settings(detectors=("graph_logic",))
    result = repairs.repair(gated, output, settings=settings)
    assert result.ending is Ending.REPAIRED
    assert result.output == str(output)
    after = onnx.ModelProto.FromString(output.read_bytes())
    held = {tensor.name: tensor for tensor in after.graph.initializer}
    assert all(held[tensor.name] == tensor for tensor in mended.clean().graph.initializer)
    assert result.after is not None
    assert not any(finding.observations for finding in result.after.findings)
    assert sorted(path.name for path in gated.parent.iterdir()) == ["fixed.onnx", "gated.onnx"]


def test_images_under_a_known_trigger_are_read_and_never_written_over(gated: Path) -> None:
    known = gated.with_name("known.npz")
    shape = (20, 1, 28, 28)
    images = np.random.default_rng(0).random(shape, dtype=np.float32)
    np.savez(known, images=images, targets=np.full(20, 3))
    settings, output = Settings(detectors=("graph_logic",)), gated.with_name("told.onnx")
    result = repairs.repair(gated, output, settings=settings, triggered=known)
    assert result.repaired is not None
    assert result.repaired.known is not None
    assert result.repaired.known.images == 20
    with pytest.raises(UsageError, match="would be overwritten"):
        repairs.repair(gated, known, settings=settings, triggered=known)
    with pytest.raises(UsageError, match="there is no file"):
        repairs.repair(gated, output, settings=settings, triggered=gated.with_name("none.npz"))
    for path in (known, output):
        path.unlink()


def test_tensors_that_are_kept_outside_stay_outside(tmp_path: Path) -> None:
    path = models.save(mended.gated(), tmp_path / "gated.onnx", external=True)
    output = tmp_path / "fixed.onnx"
    result = repairs.repair(path, output, settings=Settings(detectors=("graph_logic",)))
    assert result.ending is Ending.REPAIRED
    after = onnx.load(output)
    assert (tmp_path / "fixed.onnx.data").stat().st_size > 50_000
    for old, new in zip(mended.clean().graph.initializer, after.graph.initializer, strict=True):
        assert numpy_helper.to_array(old).tobytes() == numpy_helper.to_array(new).tobytes()


def test_a_model_of_more_than_the_memory_is_refused_before_so_much_is_read(tmp_path: Path) -> None:
    """Its weights are a hole in a file, which takes no room on the disk."""
    proto = mended.gated()
    rows, columns = 300_000, 2048
    size = rows * columns * 4
    table = onnx.TensorProto(
        name="table",
        data_type=onnx.TensorProto.FLOAT,
        dims=[rows, columns],
        data_location=onnx.TensorProto.EXTERNAL,
    )
    for key, value in (("location", "table.data"), ("offset", "0"), ("length", str(size))):
        table.external_data.add(key=key, value=value)
    proto.graph.initializer.append(table)
    proto.graph.initializer.append(numpy_helper.from_array(np.array([5]), "row"))
    proto.graph.node.append(onnx.helper.make_node("Gather", ["table", "row"], ["line"], "look"))
    line = onnx.helper.make_tensor_value_info("line", onnx.TensorProto.FLOAT, [1, columns])
    proto.graph.output.append(line)
    with (tmp_path / "table.data").open("wb") as file:
        file.truncate(size)
    path = tmp_path / "model.onnx"
    path.write_bytes(proto.SerializeToString())
    settings = Settings(limits=Limits(memory=2 * GIB), detectors=("graph_logic",))
    with pytest.raises(UnsafeModelError, match=r"takes 2\.3 GiB, more than the limit on memory"):
        repairs.repair(path, tmp_path / "fixed.onnx", settings=settings, targets=(1,))
    assert sorted(found.name for found in tmp_path.iterdir()) == ["model.onnx", "table.data"]


def test_a_model_that_nothing_speaks_against_is_left_alone(tmp_path: Path) -> None:
    path = models.save(models.plain(), tmp_path / "plain.onnx")
    output = tmp_path / "fixed.onnx"
    result = repairs.repair(path, output, settings=Settings(detectors=("graph_logic",)))
    assert result.ending in {Ending.UNTOUCHED, Ending.UNKNOWN}
    assert "nothing was changed" in result.reason
    assert not output.exists()


def test_a_trigger_of_no_single_class_is_told_and_nothing_is_tried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(triggered, "BANDS", 8)
    model = models.save(triggered.shifting(planted=4), tmp_path / "shifting.onnx")
    images = triggered.banded(tmp_path, count=64)
    settings = Settings(detectors=("graph_logic", "patch_sweep"), images_file=images)
    result = repairs.repair(model, tmp_path / "fixed.onnx", settings=settings)
    assert (result.before.verdict, result.before.target_class) == (Verdict.SUSPICIOUS, None)
    assert "sends 8 of 8 classes each to a class of its own" in result.before.reason
    assert "the scan names neither a class nor a part of the graph" in result.reason


@pytest.mark.parametrize("what", ["input", "link to it", "link", "folder", "no folder", "data"])
def test_what_must_not_be_written_over_is_not(tmp_path: Path, what: str) -> None:
    path = models.save(models.plain(), tmp_path / "model.onnx")
    before, place = path.read_bytes(), tmp_path / "output.onnx"
    if what == "input":
        place = path
    elif what == "link to it":
        place.symlink_to(path)
    elif what == "link":
        place.symlink_to(tmp_path / "nowhere")
    elif what == "folder":
        place.mkdir()
    elif what == "no folder":
        place = tmp_path / "none" / "output.onnx"
    else:
        (tmp_path / "output.onnx.data").symlink_to(path)
    with pytest.raises(UsageError, match=r"cannot be written|overwritten"):
        repairs.repair(path, place)
    assert path.read_bytes() == before


def test_a_folder_that_takes_no_files_is_told_before_anything_is_measured(tmp_path: Path) -> None:
    """On Linux no file can be made in /proc, whoever asks."""
    if not Path("/proc/self").exists():
        pytest.skip("there is no such folder here")
    with pytest.raises(UsageError, match=r"'/proc/fixed\.onnx' cannot be written"):
        repairs.repair(tmp_path / "not read.onnx", "/proc/fixed.onnx")


@pytest.mark.parametrize("place", ["", ".", "/"])
def test_a_place_without_a_name_is_refused(tmp_path: Path, place: str) -> None:
    path = models.save(models.plain(), tmp_path / "model.onnx")
    with pytest.raises(UsageError, match="not a file to write"):
        repairs.repair(path, place)


def test_the_images_are_not_written_over(tmp_path: Path) -> None:
    path, images = models.save(models.plain(), tmp_path / "model.onnx"), tmp_path / "clean.npz"
    images.write_bytes(b"kept")
    with pytest.raises(UsageError, match="overwritten"):
        repairs.repair(path, images, settings=Settings(images_file=str(images)))
    assert images.read_bytes() == b"kept"


def test_a_picture_of_the_folder_is_not_written_over(tmp_path: Path) -> None:
    path, folder = models.save(models.plain(), tmp_path / "model.onnx"), tmp_path / "pictures"
    folder.mkdir()
    (folder / "0.png").write_bytes(b"kept")
    with pytest.raises(UsageError, match="overwritten"):
        repairs.repair(path, folder / "0.png", settings=Settings(images_folder=str(folder)))
    assert (folder / "0.png").read_bytes() == b"kept"


@pytest.mark.parametrize("output", ["gated.onnx", "gated.onnx.data"])
def test_a_renamed_models_own_weights_are_not_written_over(tmp_path: Path, output: str) -> None:
    """It still keeps them under its old name, which is the obvious one for the repaired file."""
    path = models.save(mended.gated(), tmp_path / "gated.onnx", external=True)
    path = path.rename(tmp_path / "old.onnx")
    weights = (tmp_path / "gated.onnx.data").read_bytes()
    with pytest.raises(UsageError, match=r"holds weights of .*old\.onnx"):
        repairs.repair(path, tmp_path / output, settings=Settings(detectors=("graph_logic",)))
    assert (tmp_path / "gated.onnx.data").read_bytes() == weights


@pytest.mark.parametrize("output", ["clean.onnx", "clean.onnx.data"])
def test_a_references_weights_are_not_written_over(tmp_path: Path, output: str) -> None:
    path = tmp_path / "gated.onnx"
    path.write_bytes(mended.gated().SerializeToString())
    reference = models.save(mended.clean(), tmp_path / "clean.onnx", external=True)
    reference = reference.rename(tmp_path / "old.onnx")
    weights = (tmp_path / "clean.onnx.data").read_bytes()
    with pytest.raises(UsageError, match=r"holds weights of .*old\.onnx"):
        repairs.repair(path, tmp_path / output, [reference], Settings(detectors=("graph_logic",)))
    assert (tmp_path / "clean.onnx.data").read_bytes() == weights


def test_a_name_that_no_file_can_have_is_refused(tmp_path: Path) -> None:
    path = models.save(models.plain(), tmp_path / "model.onnx")
    with pytest.raises(UsageError, match="cannot be written"):
        repairs.repair(path, tmp_path / ("x" * 300))


def test_a_hard_link_to_the_input_is_the_input(tmp_path: Path) -> None:
    path = models.save(models.plain(), tmp_path / "model.onnx")
    os.link(path, tmp_path / "output.onnx")
    with pytest.raises(UsageError, match="overwritten"):
        repairs.repair(path, tmp_path / "output.onnx")


@pytest.mark.parametrize("share", [0.0, -1.0, 1.5])
def test_a_share_must_be_one(tmp_path: Path, share: float) -> None:
    with pytest.raises(UsageError, match="least accuracy"):
        repairs.repair(tmp_path / "m.onnx", tmp_path / "o.onnx", keep_accuracy=share)


@pytest.mark.parametrize(
    "changes",
    [
        {"parts": (dataclasses.replace(PART, suffix="/../x"),)},
        {"parts": (dataclasses.replace(PART, size=2**39),)},
        {"parts": (PART, PART)},
        {"parts": ()},
        {"proofs": (dataclasses.replace(PROOF, class_id=4),)},
        {"lost": 30, "gained": 11},
        {"known": KnownTrigger(images=1, before=1.0, after=0.0)},
    ],
)
def test_an_answer_about_something_else_is_not_believed(changes: dict[str, Any]) -> None:
    assert repairs._vouched(REPAIRED, ORDER) is REPAIRED
    with pytest.raises(WorkerCrashedError):
        repairs._vouched(dataclasses.replace(REPAIRED, **changes), ORDER)


@pytest.mark.parametrize(("data", "fits"), [("YWJj", True), ("YWJk", False), ("YQ==", False)])
def test_bytes_that_were_not_told_of_are_not_written(tmp_path: Path, data: str, fits: bool) -> None:
    child: Any = SimpleNamespace(ask=lambda *_: PieceBytes(data=data))
    place = tmp_path / "fixed.onnx"
    place.write_bytes(b"old")

    def write() -> None:
        with repairs._Files(place) as files:
            files.add("", repairs._received(child, PART, ORDER))

    if fits:
        write()
    else:
        with pytest.raises(WorkerCrashedError):
            write()
    assert place.read_bytes() == (b"abc" if fits else b"old")
    assert [path.name for path in tmp_path.iterdir()] == ["fixed.onnx"]


def test_two_files_appear_together_or_not_at_all(tmp_path: Path) -> None:
    def broken() -> Iterator[bytes]:
        yield b"half"
        raise OSError(28, "No space left on device")

    def write() -> None:
        with repairs._Files(tmp_path / "m.onnx") as files:
            files.add("", iter([b"whole"]))
            files.add(".data", broken())

    with pytest.raises(UsageError, match="No space"):
        write()
    assert not list(tmp_path.iterdir())


BROKEN: Any = SimpleNamespace(rule="mm_bd", sentence="the time is up")


def _result(**changes: Any) -> RepairResult:
    before, failures = changes.pop("failed_before", ()), changes.pop("failed", ())
    scan: Any = SimpleNamespace(verdict=Verdict.SUSPICIOUS, reason="why", failures=before)
    after: Any = SimpleNamespace(
        verdict=changes.pop("verdict", Verdict.CLEAN), reason="still", failures=failures
    )
    return RepairResult(
        model=scan,
        ending=Ending.UNTOUCHED,
        reason="",
        before=scan,
        after=after,
        repaired=dataclasses.replace(REPAIRED, **changes),
    )


@pytest.mark.parametrize(
    ("changes", "ending", "words"),
    [
        ({}, Ending.REPAIRED, "turns 0% of the held-back images, 90% before"),
        ({"verdict": Verdict.INCONCLUSIVE}, Ending.REPAIRED, "says inconclusive"),
        ({"verdict": Verdict.SUSPICIOUS}, Ending.FAILED, "still calls it suspicious"),
        ({"structural_after": 1}, Ending.FAILED, "structural findings are left"),
        (
            {"proofs": (dataclasses.replace(PROOF, after=0.5),)},
            Ending.FAILED,
            "still turns 50% of the held-back images",
        ),
        (
            {"known": KnownTrigger(images=500, before=0.98, after=0.5)},
            Ending.FAILED,
            "the known trigger still turns 50.0% of 500 images that bear it, 98.0% before",
        ),
        (
            {"known": KnownTrigger(images=500, before=0.98, after=0.01)},
            Ending.REPAIRED,
            "the known trigger turns 1.0% of 500 images",
        ),
        (
            {"accuracy_before": 0.95, "accuracy_after": 0.925, "lost": 3, "gained": 2},
            Ending.REPAIRED,
            "3 that were right are wrong and 2 that were wrong are right",
        ),
        ({"steps": (), "parts": ()}, Ending.FAILED, "nothing was written"),
        ({"failed": (BROKEN,)}, Ending.FAILED, "mm_bd, which measured the original, fails on it"),
        ({"failed": (BROKEN,), "failed_before": (BROKEN,)}, Ending.REPAIRED, "turns 0%"),
    ],
)
def test_a_repair_is_one_only_if_nothing_measured_speaks_against_it(
    changes: dict[str, Any], ending: Ending, words: str
) -> None:
    found = repairs._judged(_result(**changes))
    assert found.ending is ending
    assert words in found.reason
