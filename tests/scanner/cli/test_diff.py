"""`scan diff`: what it prints, and an exit code for each answer."""

import json
from collections.abc import Callable
from pathlib import Path

import models
import planting
import pytest
from command import scan


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("diff")
    edited = planting.weights_of(planting.deep())
    edited["b3"][2] += 1e-6
    for name, model in {
        "clean": models.plain(seed=1),
        "retrained": models.plain(seed=2),
        "gated": planting.gated(),
        "deep": planting.deep(),
        "edited": planting.with_weights(planting.deep(), **edited),
    }.items():
        models.save(model, path / f"{name}.onnx")
    return path


@pytest.mark.parametrize(
    ("suspect", "reference", "code", "words"),
    [
        ("retrained", "clean", 0, "note: The graph is that of the reference"),
        ("gated", "clean", 1, "suspicious: The suspect alone has"),
        ("edited", "deep", 1, "warning: Some channels were changed"),
        ("deep", "clean", 3, "note: The graph cannot be compared"),
    ],
)
def test_each_answer_has_a_code(
    folder: Path, suspect: str, reference: str, code: int, words: str
) -> None:
    run = scan("diff", folder / f"{suspect}.onnx", folder / f"{reference}.onnx")
    assert run.returncode == code, run.stderr
    assert words in " ".join(run.stdout.split())


def test_what_is_printed(
    folder: Path, golden: Callable[[str, str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    golden("diff.txt", scan("diff", "gated.onnx", "clean.onnx", COLUMNS="120").stdout)


def test_json_holds_all_of_it(folder: Path) -> None:
    run = scan("diff", folder / "gated.onnx", folder / "clean.onnx", "--format", "json")
    data = json.loads(run.stdout)
    assert run.returncode == 1
    assert set(planting.PLANTED) <= {change["node"] for change in data["differences"]["changes"]}
    assert data["observations"][0]["code"] == "nodes-without-counterpart"


def test_a_missing_file_is_an_error(folder: Path) -> None:
    run = scan("diff", folder / "none.onnx", folder / "clean.onnx")
    assert run.returncode == 2
    assert "there is no file" in run.stderr
