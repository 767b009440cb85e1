"""`scan diff`: what it prints, and an exit code for each answer."""

import json
from collections.abc import Callable
from pathlib import Path

import models
import onnx
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


def test_a_clean_diff_says_what_it_does_not_see(folder: Path) -> None:
    """A trained backdoor is no difference of graphs, and its diff exits with 0."""
    run = scan("diff", folder / "retrained.onnx", folder / "clean.onnx")
    said = " ".join(run.stdout.split())
    assert "nothing of what a whole network was trained to do" in said
    assert f"scan {folder / 'retrained.onnx'} --reference {folder / 'clean.onnx'}" in said
    twin = folder / "twin.onnx"
    twin.write_bytes((folder / "clean.onnx").read_bytes())
    same = scan("diff", twin, folder / "clean.onnx").stdout
    assert "trained to do" not in same, "its weights are those of the reference"


def test_two_files_in_the_wrong_order_are_told_so(folder: Path) -> None:
    run = scan("diff", folder / "clean.onnx", folder / "gated.onnx")
    assert run.returncode in {1, 3}
    said = " ".join(run.stdout.split())
    assert "swapped?" in said or f"scan diff {folder / 'gated.onnx'}" in said


def test_a_reference_with_a_few_nodes_more_is_to_be_named_first(folder: Path) -> None:
    model = models.plain(seed=1)
    cut = onnx.ModelProto.FromString(model.SerializeToString())
    node = cut.graph.node.add(op_type="Abs", name="spare", input=["logits"], output=["more"])
    cut.graph.output[0].name = node.output[0]
    models.save(cut, folder / "longer.onnx")
    run = scan("diff", folder / "clean.onnx", folder / "longer.onnx")
    assert run.returncode == 1
    said = " ".join(run.stdout.split())
    assert f"scan diff {folder / 'longer.onnx'} {folder / 'clean.onnx'}" in said


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
