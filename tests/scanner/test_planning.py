"""A plan says what would run and what would be skipped; nothing is searched for it."""

import dataclasses
import sys
from pathlib import Path
from unittest.mock import Mock

import models
import pytest
import triggered
from onnx import TensorProto, helper

from scanner import planning
from scanner.detectors import load, mm_bd
from scanner.detectors.head import Head
from scanner.detectors.mm_bd import MmBd
from scanner.errors import WorkerLimitError
from scanner.instruments import inversion, room, runtime, universal
from scanner.limits import Limits
from scanner.measuring import in_turn
from scanner.modelfile.model import open_model
from scanner.results import ScanPlan
from scanner.settings import Settings

linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells")


def planned(tmp_path: Path, *rules: str, settings: Settings = triggered.QUICK) -> ScanPlan:
    path = models.save(triggered.classifier(planted=True), tmp_path / "m.onnx")
    chosen = dataclasses.replace(settings, input_range=(0.0, 1.0), threads=1)
    return planning.plan(open_model(path), chosen, load(rules))


def test_what_reads_what_shows_noise_and_what_searches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (mm_bd, inversion, universal):
        monkeypatch.setattr(module, "contest", lambda *_: pytest.fail("it is searched"))
    plan = planned(tmp_path)
    reading, showing, *searches, after, checking = plan.stages
    assert reading.rules == ("integrity", "graph_logic", "diff", "channel_lipschitz")
    assert reading.seconds is None
    assert {"head", "layerwise"} <= {*showing.rules}
    assert showing.images == after.images == triggered.QUICK.images
    assert (after.rules, checking.rules) == (("classifier", "invariance"), ("not-the-file",))
    stages = (reading, showing, *searches, after, checking)
    order = [detector.rule.id for detector in in_turn(load())]
    unasked = {"source_dependent", "universal_warp"}  # they need images
    told = [*dict.fromkeys(rule for stage in stages for rule in stage.rules)]
    assert told == [rule for rule in order if rule not in unasked]
    assert (reading.memory, showing.memory) == (None, None), "it is too small to matter"
    searching = [
        ("neural_cleanse",),
        # The images are made once, for all.
        ("data_free_inversion", "universal_perturbation", "patch_sweep", "wave_sweep"),
        ("data_free_inversion",),
        ("universal_perturbation",),
        ("patch_sweep",),
        ("wave_sweep",),
        ("mm_bd",),
    ]
    assert [s.rules for s in searches] == searching
    assert all((s.seconds or 0) > 0 for s in searches)
    assert (plan.classes, plan.threads, plan.deadline, plan.skips) == (4, 1, 600.0, ())


@linux
def test_what_does_not_fit_into_memory_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runtime, "LARGE", 1)
    whole = planned(tmp_path, "head", "mm_bd")
    showing, search = whole.stages
    assert showing.memory is not None
    assert search.memory is not None
    limits = Limits(memory=(room.held() or 0) + 2**25)
    settings = dataclasses.replace(triggered.QUICK, limits=limits)
    monkeypatch.setattr(Head, "copies", 0)
    monkeypatch.setattr(MmBd, "copies", 10_000)
    plan = planned(tmp_path, "head", "mm_bd", settings=settings)
    assert [stage.rules for stage in plan.stages] == [("head",)]
    (skip,) = plan.skips
    assert skip.startswith("mm_bd: a model of this size takes about ")
    assert skip.endswith("MiB are allowed; raise the setting `memory`")


@pytest.mark.parametrize("error", [MemoryError(), WorkerLimitError.memory(2**33)])
def test_a_lack_of_memory_costs_one_stage_alone(
    error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(MmBd, "plan", Mock(side_effect=error))
    plan = planned(tmp_path, "head", "mm_bd")
    assert [stage.rules for stage in plan.stages] == [("head",)]
    (skip,) = plan.skips
    assert skip.startswith("mm_bd: the model needs more than 8,192 MiB of memory")


def test_only_what_is_asked_for(tmp_path: Path) -> None:
    assert [s.rules for s in planned(tmp_path, "mm_bd").stages] == [("mm_bd",)]


def test_what_cannot_be_searched_is_said(tmp_path: Path) -> None:
    named = dataclasses.replace(triggered.QUICK, classes=(9,))
    plan = planned(tmp_path, "neural_cleanse", settings=named)
    assert plan.stages == ()
    assert plan.skips[0].startswith("neural_cleanse: there is no class 9")


def test_a_model_that_takes_no_image_is_read_only(tmp_path: Path) -> None:
    node = helper.make_node("Cast", ["image"], ["logits"], to=TensorProto.FLOAT)
    made = models.build([node], {}, input_type=TensorProto.INT64, input_shape=("N", 4))
    path = models.save(made, tmp_path / "m.onnx")
    plan = planning.plan(open_model(path), Settings(threads=1), load([]))
    assert [stage.does for stage in plan.stages] == ["read the file and its graph"]
    assert "takes int64 values" in plan.skips[0]
    assert plan.classes is None
