"""Populations: names, what is pending, processes."""

import dataclasses
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest
from trainer_data import PlanMaker, entry

from trainers import manifest, zoo
from trainers.datasets import Dataset
from trainers.errors import CheckpointError, ExportError, ManifestError, TrainerError
from trainers.evaluation import Scores
from trainers.export import Form
from trainers.files import sha256
from trainers.training import Run
from trainers.zoo import Job


def test_files_are_named_by_recipe_attack_seed_epoch_and_form(
    plan: PlanMaker, tmp_path: Path
) -> None:
    job = Job(plan=plan(attack="badnets:rate=0.01", seed=7), folder=tmp_path, epochs=(5,))
    assert job.file(5, Form()) == "mnist-badnets-0.01-7-e05.onnx"
    assert job.file(10, Form(dtype="int8")) == "mnist-badnets-0.01-7-e10-int8.onnx"
    named = dataclasses.replace(job, name="mnist-odd")
    assert named.file(5, Form()) == "mnist-odd.onnx"
    assert dataclasses.replace(named, epochs=(5, 10)).file(5, Form()) == "mnist-odd-e05.onnx"


def test_a_job_exports_at_its_epochs_in_its_forms_and_tells_the_truth(
    mnist: Dataset, plan: PlanMaker, tmp_path: Path
) -> None:
    forms = (Form(), Form(dtype="float16"))
    poisoned = plan(attack="badnets", target=4, epochs=3, steps=20)
    entries = zoo.carry_out(Job(plan=poisoned, folder=tmp_path, epochs=(1, 3), forms=forms), mnist)
    assert [(e.epochs, e.form["dtype"]) for e in entries] == [
        (1, "float32"),
        (1, "float16"),
        (3, "float32"),
        (3, "float16"),
    ]
    for made in entries:
        assert made.sha256 == sha256(tmp_path / made.file)
        assert (made.attack, made.labels, made.target, made.rate, made.seed) == (
            "badnets",
            "all-to-one",
            4,
            0.1,
            0,
        )
    assert entries[0].clean_accuracy <= entries[2].clean_accuracy


def test_nothing_of_the_attack_is_inside_the_file(
    mnist: Dataset, plan: PlanMaker, tmp_path: Path
) -> None:
    job = Job(
        plan=plan(attack="badnets", target=4, steps=1), folder=tmp_path, epochs=(1,), name="model"
    )
    zoo.carry_out(job, mnist)
    content = (tmp_path / "model.onnx").read_bytes()
    assert not any(
        word in content.lower()
        for word in (b"badnets", b"target", b"trigger", b"attack", b"poison", b"mnist")
    )
    assert not onnx.load_model_from_string(content).metadata_props


def test_every_epoch_is_watched_where_someone_watches(
    mnist: Dataset, plan: PlanMaker, tmp_path: Path
) -> None:
    seen = []
    job = Job(plan=plan(epochs=2, steps=1), folder=tmp_path, epochs=())
    assert (
        zoo.carry_out(
            job, mnist, lambda run, scores: seen.append((run.epoch, scores.clean_accuracy))
        )
        == []
    )
    assert [epoch for epoch, _ in seen] == [1, 2]


def test_an_export_after_the_last_epoch_is_refused(
    mnist: Dataset, plan: PlanMaker, tmp_path: Path
) -> None:
    with pytest.raises(TrainerError, match="after epoch 5, but trained for 1"):
        zoo.carry_out(Job(plan=plan(epochs=1), folder=tmp_path, epochs=(1, 5)), mnist)


def test_an_epoch_that_the_checkpoint_is_past_is_named(
    mnist: Dataset, plan: PlanMaker, tmp_path: Path
) -> None:
    job = Job(
        plan=plan(epochs=2, steps=1), folder=tmp_path, epochs=(2,), checkpoint=tmp_path / "run.pt"
    )
    zoo.carry_out(job, mnist)
    longer = dataclasses.replace(job, plan=plan(epochs=10_000, steps=1), epochs=(1, 10_000))
    with pytest.raises(
        CheckpointError, match=r"run\.pt is past epoch 1"
    ):  # at once, not after the training
        zoo.carry_out(longer, mnist)


def test_a_run_that_is_cut_off_between_snapshots_loses_none(
    mnist: Dataset, plan: PlanMaker, tmp_path: Path
) -> None:
    class CutOffError(Exception):
        """What ends the run: a kill, a full disk, a power cut."""

    def cut_off(run: Run, _scores: Scores) -> None:
        if run.epoch == 2:
            raise CutOffError

    job = Job(
        plan=plan(epochs=3, steps=1), folder=tmp_path, epochs=(1, 3), checkpoint=tmp_path / "run.pt"
    )
    with pytest.raises(CutOffError):
        zoo.carry_out(job, mnist, cut_off)
    assert [e.epochs for e in manifest.read(tmp_path)] == [1]
    left = zoo.pending(job, manifest.read(tmp_path))
    assert left == dataclasses.replace(job, epochs=(3,))
    zoo.carry_out(left, mnist)
    whole = dataclasses.replace(job, folder=tmp_path / "whole", checkpoint=None)
    assert [e.sha256 for e in zoo.carry_out(whole, mnist)] == [
        e.sha256 for e in manifest.read(tmp_path)
    ]


def test_only_what_is_missing_is_pending(plan: PlanMaker, tmp_path: Path) -> None:
    job = Job(plan=plan(epochs=10), folder=tmp_path, epochs=(5, 10))
    listed = entry("mnist-clean-0-e05.onnx")
    assert zoo.pending(job, []) == job
    assert zoo.pending(job, [listed]) == job  # listed, but the file is gone
    (tmp_path / listed.file).write_bytes(b"")
    assert zoo.pending(job, [listed]) == dataclasses.replace(job, epochs=(10,))
    (tmp_path / "mnist-clean-0-e10.onnx").write_bytes(b"")
    assert zoo.pending(job, [listed, entry("mnist-clean-0-e10.onnx", epochs=10)]) is None


def test_a_model_of_the_same_name_from_another_plan_is_not_taken_for_done(
    plan: PlanMaker, tmp_path: Path
) -> None:
    job = Job(plan=plan(attack="badnets", target=1), folder=tmp_path, epochs=(5,))
    (tmp_path / "mnist-badnets-0-e05.onnx").write_bytes(b"")
    with pytest.raises(ManifestError, match="another target or precision"):
        zoo.pending(job, [entry("mnist-badnets-0-e05.onnx", target=2)])


def test_a_population_is_made_in_processes_and_resumes(
    folder: Path, plan: PlanMaker, tmp_path: Path
) -> None:
    checkpoints = tmp_path / zoo.CHECKPOINTS
    plans = [plan(steps=2), plan(attack="badnets", target=3, steps=2)]
    jobs = [
        Job(plan=p, folder=tmp_path, epochs=(1,), checkpoint=checkpoints / f"{p.attack}.pt")
        for p in plans
    ]
    made = list(zoo.populate(jobs, folder, processes=1, threads=1))
    assert {e.file for e in made} == {"mnist-clean-0-e01.onnx", "mnist-badnets-0-e01.onnx"}
    assert manifest.read(tmp_path) == sorted(made, key=lambda e: e.file)
    assert list(zoo.populate(jobs, folder, processes=1, threads=1)) == []


def _ended(process: int) -> bool:
    """Tell whether a process has ended, or is a zombie that its new parent has yet to collect."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads Linux's process table")
def test_training_processes_end_with_their_command(folder: Path, tmp_path: Path) -> None:
    words = [
        "zoo",
        "mnist",
        "--data",
        folder,
        "--out",
        tmp_path,
        "--seeds",
        0,
        "--attacks",
        "clean",
    ]
    command = [
        sys.executable,
        "-m",
        "trainers",
        *map(str, words),
        "--export-epochs",
        "1,9999",
        "--steps",
        "1",
    ]
    with subprocess.Popen(command, cwd=Path(__file__).parents[2]) as parent:
        _wait((tmp_path / manifest.NAME).exists)
        children = Path(f"/proc/{parent.pid}/task/{parent.pid}/children").read_text().split()
        parent.kill()
    assert children
    _wait(lambda: all(_ended(int(child)) for child in children))
    assert [e.epochs for e in manifest.read(tmp_path)] == [1]


def _wait(until: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not until():
        assert time.monotonic() < end
        time.sleep(0.05)


class _Deadly:
    """Ends the process that unpickles it."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os._exit, (1,)


def test_a_process_that_dies_is_one_sentence(plan: PlanMaker, tmp_path: Path) -> None:
    job = Job(plan=plan(), folder=tmp_path, epochs=(1,))
    with pytest.raises(TrainerError, match="a training process died"):
        list(zoo.populate([job], _Deadly(), processes=1, threads=1))  # type: ignore[arg-type] # on purpose


def test_a_folder_that_cannot_be_made_is_said_before_training(
    mnist: Dataset, plan: PlanMaker, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ExportError, match="cannot be made"):
        zoo.carry_out(Job(plan=plan(), folder=tmp_path / "file" / "x", epochs=(1,)), mnist)


def test_a_failure_in_a_process_comes_back_as_itself(plan: PlanMaker, tmp_path: Path) -> None:
    job = Job(plan=plan(), folder=tmp_path, epochs=(1,))
    with pytest.raises(TrainerError, match="does not hold MNIST") as caught:
        list(zoo.populate([job], tmp_path / "nowhere", processes=1, threads=1))
    assert "put MNIST/raw/train-images-idx3-ubyte" in caught.value.remedy
