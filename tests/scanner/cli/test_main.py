"""The command as a whole: help, version, and words that are no command."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from command import said, scan

from scanner.cli import options


@pytest.mark.parametrize("flag", ["--help", "-h"])
@pytest.mark.parametrize("width", [80, 120])
def test_help_shows_panels_commands_examples_and_exit_codes(flag: str, width: int) -> None:
    text = scan(flag, COLUMNS=str(width)).stdout
    assert max(map(len, text.splitlines())) <= width
    for words in (
        *options.PANELS,
        "scan model.onnx --reference clean.onnx",
        "--input-range",
        "scan calibrate",
        "scan doctor",
        "3  inconclusive",
        "70  an internal error",
    ):
        assert words in text
    assert "…" not in text


@pytest.mark.parametrize(
    "command",
    ["calibrate", "report", "compare", "diff", "check", "layers", "detectors", "config", "doctor"],
)
def test_every_command_has_help(command: str) -> None:
    run = scan(command, "-h")
    assert run.returncode == 0
    assert f"{command} [OPTIONS]" in run.stdout
    assert "--no-color" in run.stdout


def test_no_words_are_help() -> None:
    assert scan().stdout == scan("--help").stdout


def test_version() -> None:
    assert scan("--version").stdout.startswith("overactivation ")


@pytest.mark.parametrize(
    ("word", "meant"),
    [
        ("layer", "layers"),
        ("detector", "detectors"),
        ("calibrat", "calibrate"),
        ("Doctor", "doctor"),
    ],
)
def test_a_misspelt_command_scans_nothing(word: str, meant: str, folder: Path) -> None:
    run = scan(word, folder / "clean.onnx", "-d", "integrity")
    assert run.returncode == 2
    assert run.stdout == ""
    assert said(run) == (
        f"error: there is no file or command '{word}'; did you mean 'scan {meant}'?"
    )


def test_a_file_called_almost_as_a_command_is_a_file(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "layer").write_bytes((folder / "clean.onnx").read_bytes())
    monkeypatch.chdir(tmp_path)
    run = scan("layer", "-d", "integrity", PYTHONPATH=str(Path(__file__).parents[3]))
    assert run.returncode == 3, run.stderr


@pytest.mark.parametrize(
    ("words", "completed"),
    [
        ("m.onnx -d over", ["overactivation"]),
        ("m.onnx --format js", ["json", "jsonl"]),
        ("m.onnx --fail-on conf", ["confirmed"]),
        ("lay", ["layers"]),
        ("calibrate -d hea", ["head"]),
    ],
)
def test_the_shell_completes(words: str, completed: list[str]) -> None:
    typed = f"scan {words}"
    shell = {"COMP_WORDS": typed, "COMP_CWORD": str(typed.count(" "))}
    code = "import sys; sys.argv = ['scan']; from scanner.__main__ import main; main()"
    run = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env={**os.environ, **shell, "_SCAN_COMPLETE": "complete_bash"},
    )
    assert (run.returncode, run.stderr) == (0, "")
    assert run.stdout.split() == completed
