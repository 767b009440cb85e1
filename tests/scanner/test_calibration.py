"""A population of clean models: none twice, none far from the others unless it is confirmed."""

import dataclasses
from pathlib import Path
from typing import Any

import models
import onnx
import pytest

from scanner import BaselineError, Cache, Device, Settings, UsageError, pipeline
from scanner.calibration import Member, calibrate, members
from scanner.judging.population import SHIPPED, Baseline, read_baseline
from scanner.results import ModelRecord
from trainers.graph_backdoor import plant

SETTINGS = Settings(images=10, device=Device.CPU, detectors=("overactivation",))


def saved(folder: Path, count: int, *, planted: bool = False) -> list[Path]:
    clean = [models.save(models.plain(seed=n), folder / f"{n}.onnx") for n in range(count)]
    if planted:
        clean.append(models.save(models.plain(planted=True), folder / "planted.onnx"))
    return clean


def made(files: list[Path], **more: Any) -> Baseline:
    return calibrate(files, SETTINGS, name="n", provenance="p", **more)


def test_a_member_far_from_the_others_must_be_confirmed(tmp_path: Path) -> None:
    files, told = saved(tmp_path, 4, planted=True), list[Member]()
    settings, cache = dataclasses.replace(SETTINGS, alpha=0.2), Cache(tmp_path / "cache")

    def made_at_a_fifth(**more: Any) -> Baseline:
        return calibrate(files, settings, name="n", provenance="p", cache=cache, **more)

    with pytest.raises(BaselineError, match=r"planted\.onnx' may not be clean: it stands far"):
        made_at_a_fifth(ranked=told.extend)
    assert [m.path for m in told] == list(map(str, files))
    assert [m.path for m in told if m.suspicion] == [str(files[-1])]
    assert told[-1].p == pytest.approx(0.2)
    assert len(made_at_a_fifth(keep=["planted.onnx"]).records) == 5
    assert len(made_at_a_fifth(keep=[str(files[-1])]).records) == 5


def test_among_few_a_rank_accuses_nobody(tmp_path: Path) -> None:
    told = list[Member]()
    made(saved(tmp_path, 3, planted=True), ranked=told.extend)
    assert [m.suspicion for m in told] == [None] * 4
    assert told[-1].p == pytest.approx(0.25)
    assert [m.far for m in told] == [False, False, False, True]


def test_a_member_with_a_backdoor_in_its_graph_must_be_confirmed_among_however_few(
    tmp_path: Path,
) -> None:
    planted = plant(models.plain(), "patch-equals", target=2)
    gated = models.save(planted.model, tmp_path / "gated.onnx")
    settings = dataclasses.replace(SETTINGS, detectors=("graph_logic",))
    with pytest.raises(BaselineError, match=r"gated\.onnx' may not be clean: it is itself susp"):
        calibrate([gated], settings, name="n", provenance="p")


def test_one_file_under_two_names_is_refused_with_both(tmp_path: Path) -> None:
    files = saved(tmp_path, 2)
    copy = tmp_path / "copy.onnx"
    copy.write_bytes(files[0].read_bytes())
    with pytest.raises(UsageError, match=r"0\.onnx' and .*copy\.onnx' are the same file"):
        made([*files, copy])


def test_a_network_that_was_saved_anew_counts_once(tmp_path: Path) -> None:
    files = saved(tmp_path, 2)
    again = onnx.load(files[0])
    again.producer_version = "2"
    files.append(models.save(again, tmp_path / "again.onnx"))
    with pytest.raises(BaselineError, match=r"again\.onnx' measured within 1% of .*0\.onnx'"):
        made(files)


def test_a_name_to_keep_must_be_that_of_a_model(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"the setting `keep` names 'other\.onnx'"):
        made(saved(tmp_path, 2), keep=["other.onnx"])


def test_a_calibration_resumes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files, counted = saved(tmp_path, 4), list[str]()
    measure = pipeline.measure

    def counting(model: Path, settings: Settings) -> ModelRecord:
        counted.append(model.name)
        return measure(model, settings)

    monkeypatch.setattr(pipeline, "measure", counting)
    cache = Cache(tmp_path / "cache")
    made(files[:3], cache=cache)
    resumed = made(files, cache=cache)
    assert counted == ["0.onnx", "1.onnx", "2.onnx", "3.onnx"]
    assert resumed.records == made(files, cache=cache).records


def test_another_architecture_is_refused(tmp_path: Path) -> None:
    other = models.save(models.plain(input_shape=("N", 1, 9, 9)), tmp_path / "other.onnx")
    with pytest.raises(BaselineError, match="has another architecture"):
        made([*saved(tmp_path, 1), other])


@pytest.mark.parametrize("file", sorted(SHIPPED.glob("*.json")), ids=lambda file: file.stem)
def test_no_member_of_a_shipped_baseline_is_refused(file: Path) -> None:
    """But one, which was trained like the others, and which `keep` would have to name."""
    found = members(read_baseline(file), Settings())
    assert len(found) >= 20
    apart = {"cifar10-small-clean-1-e18.onnx"} if file.stem.startswith("cifar10-small") else set()
    assert {m.path for m in found if m.suspicion} == apart


def test_a_population_of_none_has_no_members() -> None:
    assert members(Baseline(name="n", provenance="p", records=()), SETTINGS) == []
