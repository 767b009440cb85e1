"""`scan MODEL...`: output, and one sentence for every bad input."""

import json
from pathlib import Path

import models
import pytest
from command import said, scan


def test_table(folder: Path) -> None:
    command = (folder / "planted.onnx", "-r", folder / "clean.onnx", "-d", "overactivation")
    run = scan(*command, "--verbose")
    assert run.returncode == 3, run.stderr
    for words in (
        "layer activated (Relu)",
        "200 uniform noise images in [0.0, 1.0], seed 0",
        "200:0",
        "inconclusive",
    ):
        assert words in run.stdout
    assert run.stderr == ""


def test_the_answer_stands_first_and_is_short(folder: Path) -> None:
    run = scan(folder / "planted.onnx", "-r", folder / "clean.onnx", COLUMNS="80")
    lines = run.stdout.splitlines()
    assert lines[0].split()[1:] == [str(folder / "planted.onnx")]
    assert lines[1].startswith("because")
    assert len(lines) <= 15


def test_json(folder: Path) -> None:
    run = scan(
        folder / "planted.onnx",
        "--reference",
        folder / "clean.onnx",
        "--format",
        "json",
        "--images",
        20,
    )
    data = json.loads(run.stdout)
    finding = next(f for f in data["findings"] if f["rule"]["id"] == "overactivation")
    assert data["schema"] == 2
    assert finding["parameters"]["images"] == 20
    images = finding["evidence"]["images"]
    assert images["wins"] + images["losses"] + images["ties"] == 20


def test_json_lines_and_a_failure_between(folder: Path) -> None:
    names = [folder / f"{name}.onnx" for name in ("planted", "empty", "clean")]
    run = scan(*names, "-d", "overactivation", "--format", "json")
    lines = [json.loads(line) for line in run.stdout.splitlines()]
    assert [bool(line["failures"]) for line in lines] == [False, True, False]
    assert run.returncode == 2


def test_output_file_appears_whole(folder: Path, tmp_path: Path) -> None:
    run = scan(
        folder / "clean.onnx",
        "-d",
        "overactivation",
        "--format",
        "json",
        "--output",
        tmp_path / "r.json",
    )
    assert run.stdout == ""
    assert json.loads((tmp_path / "r.json").read_text())["schema"] == 2
    assert [p.name for p in tmp_path.iterdir()] == ["r.json"]


def test_several_models_are_a_table(folder: Path) -> None:
    run = scan(folder / "planted.onnx", folder / "clean.onnx", "-d", "overactivation")
    assert len([line for line in run.stdout.splitlines() if "  inconclusive  " in line]) == 2
    assert "2 models: 2 inconclusive." in run.stdout


def test_verbose_shows_every_detector_and_every_model(folder: Path) -> None:
    names = (folder / "planted.onnx", folder / "clean.onnx")
    chosen = ("-d", "overactivation", "-d", "integrity")
    brief, full = scan(*names, *chosen), scan(*names, *chosen, "-v")
    assert "Integrity" not in brief.stdout
    assert full.stdout.count("\nOveractivation: ") == 2
    assert full.stdout.endswith(brief.stdout)


def test_negative_ranges_and_shapes_are_read(folder: Path) -> None:
    options = (
        "--input-range",
        "-1",
        "1",
        "--input-shape",
        "1,8,8",
        "--noise",
        "gaussian",
        "--seed",
        "7",
        "--threads",
        "2",
    )
    run = scan(folder / "clean.onnx", *options, "-d", "overactivation", "--format", "json")
    parameters = json.loads(run.stdout)["findings"][0]["parameters"]
    assert parameters["input_range"] == [-1, 1]
    assert (parameters["noise"], parameters["seed"], parameters["threads"]) == ("gaussian", 7, 2)


def test_references_may_be_a_folder(folder: Path, tmp_path: Path) -> None:
    for seed in (1, 2, 3):
        models.save(models.plain(seed=seed), tmp_path / f"clean-{seed}.onnx")
    dangling = tmp_path / "dangling.onnx"
    dangling.symlink_to("nowhere")
    (tmp_path / "old.onnx").mkdir()
    run = scan(folder / "planted.onnx", "-r", tmp_path, "-d", "overactivation", "--format", "json")
    assert f"left out: {dangling} is a link to nothing" in run.stderr
    data = json.loads(run.stdout)
    assert len(data["references"]) == 3
    assert data["findings"][0]["p_value"] == 0.25
    assert data["score"] == 0.75


def test_a_trigger_is_found_drawn_and_written(folder: Path, tmp_path: Path) -> None:
    run = scan(
        folder / "planted.onnx",
        "-r",
        folder / "clean.onnx",
        "-d",
        "neural_cleanse",
        "--evidence",
        tmp_path,
        "-v",
    )
    assert run.returncode == 3, run.stderr
    assert "mask of class" in run.stdout
    written = {path.name for path in tmp_path.rglob("*.*") if path.is_file()}
    assert {"mask.png", "pattern.png", "original.npy", "stamped.npy"} <= written


def test_a_registry_is_scanned_side_by_side_and_remembered(folder: Path, tmp_path: Path) -> None:
    registry = tmp_path / "registry"
    (registry / "deep").mkdir(parents=True)
    for name in ("planted.onnx", "deep/clean.onnx", "deep/empty.onnx"):
        (registry / name).write_bytes((folder / Path(name).name).read_bytes())
    command = (registry, "-d", "overactivation", "--jobs", 2, "--cache", tmp_path / "cache")
    first, again = scan(*command), scan(*command, "--fail-on", "suspicious")
    assert first.returncode == again.returncode == 2
    assert first.stdout == again.stdout
    assert "3 models: 2 inconclusive, 1 failed." in first.stdout
    assert first.stderr.splitlines() == [
        f"[1/3] {registry}/deep/clean.onnx: inconclusive",
        f"[2/3] {registry}/deep/empty.onnx: failed",
        f"[3/3] {registry}/planted.onnx: inconclusive",
    ]


def test_what_is_no_image_classifier_is_said_once_and_is_no_error(folder: Path) -> None:
    run = scan(folder / "two.onnx", "-v", COLUMNS="1000")
    assert run.returncode == 3, run.stderr
    told = (
        "skipped dormant, neural_cleanse, data_free_inversion, source_dependent, "
        "universal_perturbation, universal_warp, patch_sweep, wave_sweep, mm_bd, overactivation, "
        "layerwise, head, classifier, invariance, not-the-file: "
    )
    assert run.stdout.count("one image input is needed") == 2  # the cause, and the verdict
    assert told in run.stdout
    assert "what could be asked of it: integrity, graph_logic, channel_lipschitz" in run.stdout


BAD_INPUT = {
    "missing file": (("none.onnx",), "there is no file"),
    "folder without models": (("nothing",), "holds no .onnx file"),
    "pattern without models": (("x*.onnx",), "no file matches"),
    "empty file": (("empty.onnx",), "is empty"),
    "random bytes": (("random.onnx",), "is not an ONNX file"),
    "truncated file": (("short.onnx",), "cut short"),
    "no activation": (("linear.onnx", "-d", "overactivation"), "has no activation"),
    "reference of another shape": (("clean.onnx", "-r", "larger.onnx"), "of the same input"),
    "missing reference": (("clean.onnx", "-r", "none.onnx"), "there is no file"),
    "NaN weights": (("nan.onnx", "-d", "overactivation"), "NaN"),
    "two inputs": (("two.onnx", "-d", "overactivation"), "2 required inputs"),
    "unwritable output": (("clean.onnx", "-o", "no/such/folder/r.json"), "cannot be written"),
    "output is a folder": (("clean.onnx", "-o", "."), "name a file in it"),
    "unknown layer": (
        ("clean.onnx", "--layer", "activate", "-d", "overactivation"),
        "did you mean 'activated'",
    ),
    "unknown detector": (("clean.onnx", "-d", "overactivatoin"), "did you mean 'overactivation'"),
    "empty range": (("clean.onnx", "--input-range", "1", "0"), "give the lower value first"),
    "missing baseline": (("clean.onnx", "--baseline", "none.json"), "scan calibrate"),
    "a model as baseline": (("clean.onnx", "--baseline", "clean.onnx"), "it is not valid JSON"),
    "folder without references": (("clean.onnx", "-r", "nothing"), "holds no .onnx file"),
    "no such class": (
        ("clean.onnx", "--classes", "7", "-d", "neural_cleanse"),
        "there is no class 7",
    ),
    "classes in words": (("clean.onnx", "--classes", "cat"), "0,3,7"),
    "no logits of that name": (
        ("clean.onnx", "--logits", "logit", "-d", "neural_cleanse"),
        "did you mean 'logits'",
    ),
    "images of another size": (
        ("clean.onnx", "--images-npz", "wrong.npy", "-d", "neural_cleanse"),
        "give at least two",
    ),
    "no images for a detector that needs them": (
        ("clean.onnx", "-d", "source_dependent"),
        "give them with --images-npz or --images-dir",
    ),
    "two sources of images": (
        ("clean.onnx", "--images-npz", "a", "--images-dir", "b"),
        "exclude one another",
    ),
    "images that are not there": (
        ("clean.onnx", "--images-npz", "none.npz", "-d", "overactivation"),
        "there is no file 'none.npz'",
    ),
    "a folder of images that is not there": (
        ("clean.onnx", "--images-dir", "none", "-d", "overactivation"),
        "there is no folder 'none'",
    ),
    "shape in words": (("clean.onnx", "--input-shape", "big"), "3,224,224"),
    "shape that does not fit": (
        ("clean.onnx", "--input-shape", "3,8,8", "-d", "overactivation"),
        "does not fit",
    ),
    "no CUDA": (("clean.onnx", "--device", "cuda"), "give --device the value 'cpu'"),
    "unknown option": (("clean.onnx", "--imagse", "3"), "No such option"),
    "too few images": (("clean.onnx", "--images", "1"), "not in the range x>=2"),
}


@pytest.mark.parametrize("case", BAD_INPUT)
def test_bad_input(case: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    arguments, message = BAD_INPUT[case]
    run = scan(*arguments)
    assert run.returncode == 2, said(run)
    assert message in said(run)
    assert "internal error" not in said(run)


def test_a_scheduler_that_is_not_there_is_one_sentence(folder: Path) -> None:
    run = scan(folder / "clean.onnx", "--scheduler", "nowhere")
    assert (run.returncode, run.stdout) == (2, "")
    assert said(run).startswith("error: there is no dask scheduler at 'nowhere'; start one")
    assert "the address that it prints as --scheduler." in said(run)


def test_lanes_and_a_cluster_exclude_one_another(folder: Path) -> None:
    run = scan(folder / "clean.onnx", "--scheduler", "tcp://127.0.0.1:9", "--jobs", 2)
    assert run.returncode == 2
    assert "--jobs and --scheduler exclude one another" in said(run)


def test_a_folder_for_evidence_is_made_before_anything_is_measured(
    folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    run = scan(folder / "clean.onnx", "-d", "integrity", "--evidence", tmp_path / "file")
    assert (run.returncode, run.stdout) == (2, "")
    assert "name another folder as --evidence" in said(run)
