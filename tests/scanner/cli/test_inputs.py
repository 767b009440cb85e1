"""`scan inputs`: exit codes, what is printed, files that are written, and bad input."""

import dataclasses
import json
from pathlib import Path

import models
import numpy as np
import pytest
import scenes
from command import said, scan
from examples import result
from PIL import Image

from scanner.report.json import write_results


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("inputs")
    models.save(scenes.model(), path / "model.onnx")
    models.save(models.two_inputs(default=False), path / "two.onnx")
    mixed = np.concatenate([scenes.clean(30, seed=3), scenes.stamped(10)])
    for name, images in {
        "clean": scenes.clean(150),
        "few": scenes.clean(50),
        "mixed": mixed,
        "good": scenes.clean(40, seed=3),
        "wrong": np.zeros((150, 1, 9, 9), np.float32),
    }.items():
        np.savez(path / f"{name}.npz", images=images)
    (path / "pictures").mkdir()
    for number, image in enumerate(mixed):
        pixels = np.rint(255 * image[0]).astype(np.uint8)
        Image.fromarray(pixels).save(path / "pictures" / f"{number:02d}.png")
    return path


def test_inputs_with_a_trigger(folder: Path, tmp_path: Path) -> None:
    run = scan(
        *("inputs", folder / "model.onnx", folder / "mixed.npz", "--clean", folder / "clean.npz"),
        *("--evidence", tmp_path / "evidence", "--format", f"json={tmp_path / 'found.json'}"),
        *("--fdr", 0.1),
    )
    assert run.returncode == 1, run.stderr
    assert run.stdout.startswith("suspicious: ")
    assert "set apart by" in run.stdout
    assert "false discoveries" in run.stdout
    data = json.loads((tmp_path / "found.json").read_text())
    assert data["standing_out"] == len(data["found"]) >= 10
    assert len(list((tmp_path / "evidence").iterdir())) == data["standing_out"]


def test_clean_inputs(folder: Path) -> None:
    run = scan(
        *("inputs", folder / "model.onnx", folder / "good.npz", "--clean", folder / "clean.npz")
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout.startswith("clean: ")


def test_a_folder_and_one_picture(folder: Path) -> None:
    clean = ("--clean", folder / "clean.npz", "--format", "jsonl")
    run = scan("inputs", folder / "model.onnx", folder / "pictures", *clean)
    lines = [json.loads(line) for line in run.stdout.splitlines()]
    assert run.returncode == 1, run.stderr
    assert [line["name"] for line in lines[:-1]] == [f"{n:02d}.png" for n in range(40)]
    for name, code in (("00.png", 0), ("39.png", 1)):
        one = scan("inputs", folder / "model.onnx", folder / "pictures" / name, *clean)
        assert one.returncode == code, one.stderr


@pytest.mark.parametrize(
    ("words", "code", "sentence"),
    [
        (("model.onnx", "mixed.npz", "few.npz"), 3, "at least 109 clean images"),
        (("model.onnx", "mixed.npz", "few.npz", "--alpha", "0.03"), 1, "suspicious"),
        (("two.onnx", "mixed.npz", "clean.npz"), 3, "inconclusive"),
        (("model.onnx", "wrong.npz", "clean.npz"), 2, "the model takes images of (1, 8, 8)"),
        (("model.onnx", "mixed.npz", "wrong.npz"), 2, "the model takes images of (1, 8, 8)"),
        (("model.onnx", "mixed.npz", "nothing.npz"), 2, "name the clean images"),
        (("model.onnx", "nothing", "clean.npz"), 2, "name the inputs"),
        (("nothing.onnx", "mixed.npz", "clean.npz"), 2, "nothing.onnx"),
        (
            ("model.onnx", "mixed.npz", "clean.npz", "--format", "junit"),
            2,
            "choose one of table, json, jsonl, sarif, markdown, html",
        ),
        (
            ("model.onnx", "mixed.npz", "clean.npz", "--format", "html=pages/"),
            2,
            "pages/inputs.html",
        ),
        (
            ("model.onnx", "mixed.npz", "clean.npz", "--triggers", "clean.npz"),
            2,
            "name a file that the format 'json' or 'jsonl' wrote",
        ),
    ],
)
def test_each_end_has_its_code_and_a_sentence(
    folder: Path, words: tuple[str, ...], code: int, sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    model, given, clean, *rest = words
    run = scan("inputs", model, given, "--clean", clean, *rest)
    assert run.returncode == code, run.stdout + run.stderr
    assert sentence in said(run)
    assert "Traceback" not in run.stderr


def test_clean_images_are_asked_for(folder: Path) -> None:
    run = scan("inputs", folder / "model.onnx", folder / "mixed.npz")
    assert run.returncode == 2
    assert "--clean" in run.stderr


def test_a_result_without_triggers(folder: Path, tmp_path: Path) -> None:
    bare = dataclasses.replace(result(), findings=())
    write_results([bare], tmp_path / "result.json")
    run = scan(
        *("inputs", folder / "model.onnx", folder / "mixed.npz", "--clean", folder / "clean.npz"),
        *("--triggers", tmp_path / "result.json"),
    )
    assert run.returncode == 2
    assert "leave --triggers out" in said(run)


def test_help_lists_it() -> None:
    assert "scan inputs" in scan("--help").stdout
