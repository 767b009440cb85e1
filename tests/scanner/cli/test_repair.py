"""`scan repair`: what it prints, and an exit code for each ending."""

import json
from pathlib import Path

import mended
import models
import numpy as np
import pytest
from command import scan


def test_a_gate_is_cut_and_the_code_is_zero(tmp_path: Path) -> None:
    path = tmp_path / "gated.onnx"
    path.write_bytes(mended.gated().SerializeToString())
    run = scan(
        "repair", path, "-o", tmp_path / "fixed.onnx", "-d", "graph_logic", "--format", "json"
    )
    assert run.returncode == 0, run.stderr
    told = json.loads(run.stdout)
    assert told["ending"] == "repaired"
    assert told["repaired"]["structural_before"] > 0 == told["repaired"]["structural_after"]
    assert (tmp_path / "fixed.onnx").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("-o", "model.onnx"), "would be overwritten"),
        (("-o", "none/fixed.onnx"), "there is no folder"),
        (("-o", "fixed.onnx", "--images-npz", "none.npz"), "there is no file"),
        (("-o", "fixed.onnx", "--images-npz", "wide.npz"), "the model takes images of (1, 8, 8)"),
        (("-o", "fixed.onnx", "--images-npz", "one.npz"), "give at least two images"),
        (("-o", "fixed.onnx", "--images-npz", "nan.npz"), "hold NaN or infinity"),
        (("-o", "fixed.onnx", "--images-npz", "seven.npz"), "one label for each image"),
        (("-o", "fixed.onnx", "--triggered-npz", "none.npz"), "there is no file"),
        (
            ("-o", "fixed.onnx", "--triggered-npz", "wide.npz"),
            "the model takes images of (1, 8, 8)",
        ),
        (("-o", "fixed.onnx", "--triggered-npz", "model.onnx"), "holds no arrays"),
        (("-o", "fixed.onnx", "--triggered-npz", "own.npz"), "of the class that the trigger asks"),
        (("-o", "fixed.onnx", "--target", "99"), "no class 99"),
        (("-o", "fixed.onnx", "--format", "sarif"), "is not one of"),
        (("-o", "fixed.onnx", "--baseline", "none.json"), "scan calibrate"),
        (("-o", "fixed.onnx", "--baseline-sha256", "ab" * 32), "there is no baseline"),
        ((), "--output"),
    ],
)
def test_bad_input_is_an_error_of_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], words: str
) -> None:
    models.save(models.plain(), tmp_path / "model.onnx")
    images = np.random.default_rng(0).random((40, 1, models.SIDE, models.SIDE), np.float32)
    np.savez(tmp_path / "wide.npz", images=np.zeros((40, 3, 32, 32), np.float32))
    np.savez(tmp_path / "one.npz", images=images[:1])
    np.savez(tmp_path / "nan.npz", images=images + np.nan)
    np.savez(tmp_path / "own.npz", images=images, labels=np.ones(40, np.int64))
    np.savez(tmp_path / "seven.npz", images=images, labels=np.zeros(7, np.int64))
    monkeypatch.chdir(tmp_path)
    target = () if "--target" in arguments else ("--target", "1")
    run = scan("repair", "model.onnx", "-d", "graph_logic", *target, *arguments)
    assert run.returncode == 2
    assert "Traceback" not in run.stderr
    assert words in " ".join(run.stderr.split())
    assert not (tmp_path / "fixed.onnx").exists()


def test_quantised_weights_are_refused(tmp_path: Path) -> None:
    models.save(models.quantised(), tmp_path / "model.onnx")
    run = scan(
        "repair", tmp_path / "model.onnx", "-o", tmp_path / "f.onnx", "--target", "1",
        "-d", "graph_logic",
    )  # fmt: skip
    assert run.returncode == 2
    assert "quantised" in run.stderr


def test_a_baseline_judges_before_and_after(tmp_path: Path) -> None:
    for seed in range(4):
        models.save(models.plain(seed=seed), tmp_path / f"clean-{seed}.onnx")
    models.save(models.plain(seed=9), tmp_path / "model.onnx")
    measured = ("-d", "overactivation")
    clean = [tmp_path / f"clean-{seed}.onnx" for seed in range(4)]
    made = scan("calibrate", *clean, "-o", tmp_path / "b.json", *measured)
    assert made.returncode == 0, made.stderr
    run = scan(
        "repair", tmp_path / "model.onnx", "-o", tmp_path / "fixed.onnx", *measured,
        "--baseline", tmp_path / "b.json", "--format", "json",
    )  # fmt: skip
    assert "baseline 'b'" in json.loads(run.stdout)["before"]["calibration"]
