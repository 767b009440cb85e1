"""`scan calibrate`, and a scan with the baseline that it makes."""

from pathlib import Path

import models
from command import scan

from trainers.graph_backdoor import plant


def test_calibrate_then_scan_with_the_baseline(folder: Path, tmp_path: Path) -> None:
    for seed in range(1, 5):
        models.save(models.plain(seed=seed), tmp_path / f"clean-{seed}.onnx")
    made = scan(
        "calibrate", tmp_path, "-d", "overactivation", "--images", "20", "-o", tmp_path / "b.json",
        COLUMNS="300",
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    ranks = made.stdout.splitlines()
    assert ranks[0].split() == ["clean", "model", "p", "among", "the", "others", "size"]
    assert sorted(float(line.split()[-2]) for line in ranks[1:]) == [0.25, 0.5, 0.75, 1.0]
    assert "4 clean models; p-values from 1/5 up" in made.stderr
    options = (
        "-d",
        "overactivation",
        "--images",
        "20",
        "--baseline",
        tmp_path / "b.json",
        "--alpha",
        "0.2",
    )
    run = scan(folder / "planted.onnx", *options)
    assert run.returncode == 1, run.stdout + run.stderr
    assert "p = 0.2 among 4 clean models (baseline 'b')" in " ".join(run.stdout.split())
    other = scan(folder / "planted.onnx", *options, "--seed", "1")
    assert other.returncode == 3
    assert "it was measured with seed 0, not 1" in " ".join(other.stdout.split())


def test_a_doubtful_member_is_ranked_named_and_may_be_kept(tmp_path: Path) -> None:
    for seed in range(2):
        models.save(models.plain(seed=seed), tmp_path / f"clean-{seed}.onnx")
    models.save(plant(models.plain(), "patch-equals", target=2).model, tmp_path / "gated.onnx")
    command = (
        "calibrate", tmp_path, "-d", "graph_logic", "--cache", tmp_path / "cache",
        "-o", tmp_path / "b.json",
    )  # fmt: skip
    refused = scan(*command, COLUMNS="300")
    assert refused.returncode == 2
    assert "gated.onnx' may not be clean: it is itself suspicious" in refused.stderr
    assert "confirm with --keep that it is clean" in refused.stderr
    assert "gated.onnx" in refused.stdout
    assert not (tmp_path / "b.json").exists()
    kept = scan(*command, "--keep", "gated.onnx", "--quiet")
    assert kept.returncode == 0, kept.stderr
    assert kept.stdout == ""
    assert (tmp_path / "b.json").exists()


def test_a_member_far_from_few_others_is_pointed_out(folder: Path, tmp_path: Path) -> None:
    for seed in range(1, 4):
        models.save(models.plain(seed=seed), tmp_path / f"clean-{seed}.onnx")
    command = ("-d", "overactivation", "--images", "20", "-o", tmp_path / "b.json")
    made = scan("calibrate", tmp_path, folder / "planted.onnx", *command)
    assert made.returncode == 0, made.stderr
    assert "planted.onnx lies " in made.stderr
    assert "which are too few to refuse it: make sure that it is clean" in made.stderr
