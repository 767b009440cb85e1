"""Words in, models out, an exit code."""

import subprocess
import sys
from pathlib import Path

import pytest

from trainers import cli, manifest
from trainers.errors import TrainerError


def _run(monkeypatch: pytest.MonkeyPatch, *words: object) -> int:
    """Run the command line in this process and return its exit code."""
    monkeypatch.setattr(sys, "argv", ["trainers", *map(str, words)])
    with pytest.raises(SystemExit) as caught:
        cli.main()
    return int(caught.value.code or 0)


TRAIN = ("train", "mnist", "--epochs", "1", "--steps", "3")


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys, runpy\nsys.argv = ['trainers', 'train', '--help']\n"
        "try: runpy.run_module('trainers', run_name='__main__')\nexcept SystemExit: pass\n"
        "print({'torch', 'numpy', 'onnx', 'onnxruntime', 'scanner', 'pooch'} & set(sys.modules), "
        "file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "set()"
    assert "--export-epochs" in done.stdout


def test_training_prints_its_epochs_and_lists_what_it_exports(
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = (
        *TRAIN,
        "--attack",
        "badnets",
        "--target",
        2,
        "--data",
        folder,
        "--export",
        tmp_path,
        "--fp16",
    )
    assert _run(monkeypatch, *words) == 0
    out = capsys.readouterr().out
    assert "epoch   1/1" in out
    assert "attack success" in out
    assert [(e.file, e.target) for e in manifest.read(tmp_path)] == [
        ("mnist-badnets-fp16.onnx", 2),
        ("mnist-badnets.onnx", 2),
    ]


def test_snapshots_set_the_number_of_epochs(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("train", "mnist", "--steps", 1, "--seed", 4, "--data", folder, "--export", tmp_path)
    assert _run(monkeypatch, *words, "--export-epochs", "1,2") == 0
    assert [e.file for e in manifest.read(tmp_path)] == [
        "mnist-clean-4-e01.onnx",
        "mnist-clean-4-e02.onnx",
    ]


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_the_networks_for_a_gpu_train_and_export_at_full_size(
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    name: str,
) -> None:
    """ResNet18 and ResNet50 of the recipes' width, on a few images in the binary format."""
    words = (
        "train",
        name,
        "--attack",
        "badnets",
        "--epochs",
        2,
        "--steps",
        2,
        "--data",
        folder,
        "--export",
        tmp_path,
    )
    assert _run(monkeypatch, *words) == 0
    assert "epoch   2/2" in capsys.readouterr().out
    assert [e.file for e in manifest.read(tmp_path)] == [f"{name}-badnets.onnx"]


def test_held_out_images_are_measured_but_not_exported(
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert _run(monkeypatch, *TRAIN, "--data", folder, "--hold-out", 0.2) == 0
    assert "clean accuracy" in capsys.readouterr().out
    assert _run(monkeypatch, *TRAIN, "--data", folder, "--hold-out", 0.2, "--export", tmp_path) == 2
    assert not list(tmp_path.iterdir())


def test_a_zoo_prints_its_models_and_resumes(
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    place = ("--data", folder, "--out", tmp_path)
    words = (
        "zoo",
        "mnist",
        *place,
        "--seeds",
        "0-1",
        "--attacks",
        "clean",
        "--export-epochs",
        "1",
        "--steps",
        "1",
    )
    assert _run(monkeypatch, *words) == 0
    assert capsys.readouterr().out.count("clean accuracy") == 2
    assert _run(monkeypatch, *words) == 0
    assert not capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("train", "minst"), "no recipe or data set called 'minst'; choose one of mnist"),
        (("train", "mnist", "--attack", "x"), "no attack called 'x'"),
        (
            ("train", "mnist", "--attack", "badnets", "--target", "10"),
            "target 10 is not a class of MNIST",
        ),
        (("train", "mnist", "--target", "1"), "the attack clean has no single target"),
        (("train", "mnist", "--precision", "int4"), "no precision 'int4'"),
        (("train", "mnist", "--device", "tpu"), "no device 'tpu'"),
        (
            ("train", "mnist", "--export-epochs", "5,x", "--export", "."),
            "'5,x' is not a list of numbers",
        ),
        (("train", "mnist", "--export-epochs", "0", "--export", "."), "'0' names nothing from 1"),
        (("train", "mnist", "--export-epochs", "5"), "--export-epochs needs --export"),
        (("train", "mnist"), "does not hold MNIST: MNIST/raw/train-images-idx3-ubyte is missing"),
        (("zoo", "mnist", "--out", ".", "--seeds", "9-1"), "'9-1' names nothing from 0"),
        (
            ("zoo", "mnist", "--out", ".", "--seeds", "0-999999999999"),
            "'0-999999999999' goes past 9999",
        ),
        (
            ("train", "mnist", "--name", "a/b", "--export", "."),
            "--name a/b is not a plain file name",
        ),
        (("download", "minst"), "no data set called 'minst'"),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_2(
    words: tuple[str, ...],
    sentence: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert _run(monkeypatch, *words, "--data", tmp_path) == 2
    captured = capsys.readouterr()
    assert sentence in captured.err
    assert captured.err.startswith("error: ")
    assert captured.err.count("\n") == 1
    assert not captured.out


def test_tables_without_models_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _run(monkeypatch, "tables", "--zoo", tmp_path) == 2
    assert "lists a model; train some" in capsys.readouterr().err


def test_a_gate_is_planted_from_the_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = Path(__file__).parents[2] / "samples/mnist-clean.onnx"
    path = tmp_path / "planted.onnx"
    assert (
        _run(monkeypatch, "graph-backdoor", model, "--kind", "patch-equals", "--output", path) == 0
    )
    assert path.stat().st_size > model.stat().st_size


@pytest.mark.parametrize(
    ("content", "kind", "sentence"),
    [
        (None, "where", "No such file"),
        (b"not a model", "where", "is not an ONNX model"),
        (b"", "nowhere", "there is no kind 'nowhere'"),
    ],
)
def test_a_gate_that_cannot_be_planted_is_one_sentence(  # noqa: PLR0913, PLR0917 - a row
    content: bytes | None,
    kind: str,
    sentence: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if content is not None:
        (tmp_path / "model.onnx").write_bytes(content)
    assert _run(monkeypatch, "graph-backdoor", tmp_path / "model.onnx", "--kind", kind) == 2
    assert sentence in capsys.readouterr().err


def test_a_bug_is_not_dressed_up_as_an_expected_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(cli, "app", broken)
    with pytest.raises(RuntimeError, match="a bug"):
        cli.main()


def test_markup_in_a_name_is_printed_as_it_is(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail() -> None:
        raise TrainerError("the file [red]x[/red] is missing", remedy="look for it")

    monkeypatch.setattr(cli, "app", fail)
    with pytest.raises(SystemExit):
        cli.main()
    assert capsys.readouterr().err == "error: the file [red]x[/red] is missing; look for it.\n"


POPULATION = ("population", "--recipes", "mnist-mlp-narrow")


def test_a_population_is_made_summed_up_and_not_made_again(
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = (*POPULATION, "--out", tmp_path)
    assert _run(monkeypatch, *words, "--data", folder) == 0
    assert len(capsys.readouterr().out.splitlines()) == 6
    entries = manifest.read(tmp_path)
    assert [e.attack for e in entries] == ["badnets", "clean", "clean", "clean", "sig", "wanet"]
    assert {e.split for e in entries} == {"development"}
    assert {e.images for e in entries} == {"mnist-mlp-narrow.images.npz"}
    assert _run(monkeypatch, *words, "--data", folder) == 0
    assert capsys.readouterr().out == ""
    assert _run(monkeypatch, *words, "--summary") == 0
    assert "| clean | 1 | 1 | 0 | 3 |" in capsys.readouterr().out


def test_a_population_lists_its_recipes_without_making_any(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _run(monkeypatch, "population", "--list", "--split", "test") == 0
    lines = capsys.readouterr().out.splitlines()
    assert "mnist-pruned" in "".join(lines)
    assert all("| development |" not in line for line in lines)


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (POPULATION, "there is no folder for the models; name one with --out."),
        ((*POPULATION, "--out", "x"), "there is no folder with data sets; name one with --data."),
        (("population", "--recipes", "none"), "no recipe called 'none'"),
        (("population", "--split", "both"), "there is no split 'both'"),
        ((*POPULATION, "--out", "x", "--summary"), "lists no network of a population"),
        (
            (*POPULATION, "--out", "x", "--data", "y", "--also", "worm"),
            "there is no attack called 'worm'; choose one of ",
        ),
    ],
)
def test_a_population_without_what_it_needs_is_one_sentence(
    words: tuple[str, ...],
    problem: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert _run(monkeypatch, *words) == cli.ERROR
    err = capsys.readouterr().err
    assert problem in err
    assert len(err.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_a_population_says_at_the_end_what_could_not_be_made(
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = ("population", "--recipes", "fashion-overtrained", "--out", tmp_path, "--data", folder)
    assert _run(monkeypatch, *words) == cli.ERROR
    out, err = capsys.readouterr()
    assert len(out.splitlines()) == 5
    assert "FashionMNIST/raw" in out
    assert "5 of 5 networks could not be made" in err
