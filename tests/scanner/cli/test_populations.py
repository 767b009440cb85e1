"""`scan calibrate`, and a scan with the baseline that it makes."""

from pathlib import Path

import models
from command import scan


def test_calibrate_then_scan_with_the_baseline(folder: Path, tmp_path: Path) -> None:
    for seed in range(1, 5):
        models.save(models.plain(seed=seed), tmp_path / f"clean-{seed}.onnx")
    made = scan(
        "calibrate", tmp_path, "-d", "overactivation", "--images", "20", "-o", tmp_path / "b.json"
    )
    assert made.returncode == 0, made.stderr
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
