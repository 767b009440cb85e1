"""Files, folders, patterns and lists, and what is left of them."""

import io
import os
from pathlib import Path
from typing import Any

import pytest

from scanner.cli.models import models
from scanner.errors import UsageError


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("b.onnx", "a.onnx", "old/c.onnx", "old/deep/d.onnx", "old/notes.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("named", "meant"),
    [
        (["b.onnx", "a.onnx"], ["b.onnx", "a.onnx"]),
        (["."], ["a.onnx", "b.onnx", "old/c.onnx", "old/deep/d.onnx"]),
        (["old"], ["old/c.onnx", "old/deep/d.onnx"]),
        (["*.onnx"], ["a.onnx", "b.onnx"]),
        (["old/**/*.onnx"], ["old/c.onnx", "old/deep/d.onnx"]),
        (["a.onnx", "a.onnx", "."], ["a.onnx", "b.onnx", "old/c.onnx", "old/deep/d.onnx"]),
        (["missing.onnx"], ["missing.onnx"]),
        (["old/notes.txt"], ["old/notes.txt"]),
    ],
)
@pytest.mark.usefixtures("registry")
def test_what_words_mean(named: list[str], meant: list[str]) -> None:
    assert [Path(file).as_posix() for file in models(named)] == meant


def test_what_a_folder_holds_beside_files_is_said(
    registry: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (registry / "dangling.onnx").symlink_to("nowhere")
    (registry / "elsewhere").symlink_to(registry / "old")
    (registry / "endless.onnx").symlink_to("endless.onnx")
    (registry / "linked.onnx").symlink_to("a.onnx")
    (registry / "long.onnx").symlink_to("a" * 300)
    os.mkfifo(registry / "pipe.onnx")
    os.mkfifo(registry / "pipe.txt")
    assert models(["."]) == ["a.onnx", "b.onnx", "linked.onnx", "old/c.onnx", "old/deep/d.onnx"]
    assert sorted(capsys.readouterr().err.splitlines()) == [
        "left out: dangling.onnx is a link to nothing",
        "left out: elsewhere is a link to a folder; name it to scan what is in it",
        "left out: endless.onnx cannot be read (Too many levels of symbolic links)",
        "left out: long.onnx cannot be read (File name too long)",
        "left out: pipe.onnx is a pipe or a device",
    ]


def test_what_a_pattern_matches_beside_files_is_said(
    registry: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (registry / "long.onnx").symlink_to("a" * 300)
    assert models(["*"]) == ["a.onnx", "b.onnx"]
    told = "left out: long.onnx cannot be read (File name too long)\n"
    assert capsys.readouterr().err == told


def test_a_name_that_is_too_long_is_taken_so_that_it_is_noticed() -> None:
    assert models(["a" * 300]) == ["a" * 300]
    with pytest.raises(UsageError, match="no file matches"):
        models(["a" * 300 + "*"])


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is closed to root")
def test_what_lies_in_a_closed_folder_is_said(
    registry: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (registry / "closed.onnx").symlink_to("old/c.onnx")
    (registry / "old").chmod(0)
    try:
        assert models(["."]) == ["a.onnx", "b.onnx"]
        assert models(["old/c.onnx"]) == ["old/c.onnx"]
    finally:
        (registry / "old").chmod(0o700)
    assert sorted(capsys.readouterr().err.splitlines()) == [
        "left out: ./old cannot be read (Permission denied)",
        "left out: closed.onnx cannot be read (Permission denied)",
    ]


def test_a_folder_that_cannot_be_read_is_said(
    registry: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refusing(path: str) -> Any:
        if str(path).endswith("old"):
            raise PermissionError(13, "Permission denied", str(path))
        return listed(path)

    listed = os.scandir
    monkeypatch.setattr(os, "scandir", refusing)
    assert models([str(registry)]) == [str(registry / name) for name in ("a.onnx", "b.onnx")]
    told = f"left out: {registry / 'old'} cannot be read (Permission denied)"
    assert capsys.readouterr().err.splitlines() == [told]


@pytest.mark.usefixtures("registry")
def test_a_list_on_stdin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("b.onnx\n\n  old\nmissing.onnx\n"))
    found = [Path(file).as_posix() for file in models(["-"])]
    assert found == ["b.onnx", "old/c.onnx", "old/deep/d.onnx", "missing.onnx"]


@pytest.mark.usefixtures("registry")
def test_a_file_that_stdin_names_is_taken_whatever_it_is_called(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("old/notes.txt\nold\n"))
    found = [Path(file).as_posix() for file in models(["-"], include=["c*"])]
    assert found == ["old/notes.txt", "old/c.onnx"]


def test_names_on_stdin_are_any_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    listed = io.TextIOWrapper(io.BytesIO(b"caf\xe9.onnx\n"), encoding="utf-8")
    monkeypatch.setattr("sys.stdin", listed)
    assert models(["-"]) == ["caf\udce9.onnx"]


def test_a_closed_stdin_names_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", None)
    with pytest.raises(UsageError, match="name a model on each line"):
        models(["-"])


def test_names_between_nuls_are_no_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("a.onnx\0b.onnx\0"))
    with pytest.raises(UsageError, match="holds a NUL; write each on a line of its own"):
        models(["-"])


@pytest.mark.usefixtures("registry")
def test_an_empty_name_is_not_the_working_folder() -> None:
    with pytest.raises(UsageError, match="the name of a model is empty"):
        models(["a.onnx", ""])


@pytest.mark.usefixtures("registry")
def test_patterns_choose_and_leave_out() -> None:
    def left(include: list[str], exclude: list[str]) -> list[str]:
        return [Path(f).as_posix() for f in models([".", "missing.onnx"], include, exclude)]

    assert left(["[ac].onnx"], []) == ["a.onnx", "old/c.onnx", "missing.onnx"]
    assert left([], ["old/*"]) == ["a.onnx", "b.onnx", "missing.onnx"]
    assert left(["old/*"], ["*/deep/*"]) == ["old/c.onnx", "missing.onnx"]


@pytest.mark.parametrize(
    ("named", "exclude", "words"),
    [
        (["empty"], [], "holds no .onnx file"),
        (["x*.onnx"], [], "no file matches 'x\\*.onnx'"),
        (["a.onnx"], ["*"], "no model is left"),
    ],
)
@pytest.mark.usefixtures("registry")
def test_nothing_to_scan(named: list[str], exclude: list[str], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        models(named, [], exclude)
