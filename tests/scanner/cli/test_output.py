"""Files appear whole and as UTF-8; streams without Unicode get ASCII; quiet is quiet."""

import dataclasses
import errno
import io
import itertools
import os
from pathlib import Path
from typing import Any

import models
import numpy as np
import pytest
from command import scan

from scanner.cli import output
from scanner.cli.output import Output
from scanner.errors import UsageError
from scanner.sandbox.endpoint import Step


def test_a_file_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    with Output(tmp_path / "empty"):
        pass
    assert list(tmp_path.iterdir()) == []
    with Output(tmp_path / "full") as out:
        out.write("█ text\n")
        assert not (tmp_path / "full").exists()
    assert (tmp_path / "full").read_text(encoding="utf-8") == "█ text\n"
    assert [path.name for path in tmp_path.iterdir()] == ["full"]


class Full:
    """A file on a disk that takes one text and no other."""

    def __init__(self, file: Any) -> None:
        self._file, self.name, self._texts = file, file.name, 0

    def write(self, text: str) -> None:
        """Add the first text only."""
        self._texts += 1
        if self._texts > 1:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self._file.write(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


@pytest.mark.parametrize("drawn", [False, True])
def test_what_a_full_disk_cuts_off_replaces_no_report(*, drawn: bool, tmp_path: Path) -> None:
    place = tmp_path / "report"
    place.write_text("the last one")

    def write() -> None:
        with Output(place) as out:
            out._file = Full(out._file)
            tell = out.console.print if drawn else out.write
            tell("one")
            tell("two")

    with pytest.raises(OSError, match="No space left"):
        write()
    assert place.read_text() == "the last one"
    assert (tmp_path / "report.part").read_text().strip() == "one"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["report", "report.part"]


def test_what_is_lost_only_as_the_file_is_closed_is_told(tmp_path: Path) -> None:
    class Late(Full):
        def close(self) -> None:
            """Fail as a file does whose last bytes are still to be written."""
            self._file.close()
            raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))

    def write() -> None:
        with Output(tmp_path / "report") as out:
            out.write("one")
            out._file = Late(out._file)

    with pytest.raises(OSError, match="quota"):
        write()
    assert [path.name for path in tmp_path.iterdir()] == ["report.part"]


def test_a_report_replaces_reports_and_nothing_else(tmp_path: Path) -> None:
    model, images = models.save(models.plain(), tmp_path / "m.onnx"), tmp_path / "images.npz"
    np.savez(images, images=np.zeros((2, 1, 8, 8), np.float32))
    for kept in (model, images):
        before = kept.read_bytes()
        with pytest.raises(UsageError, match="would be overwritten"), Output(kept) as out:
            out.write("text")
        assert kept.read_bytes() == before
    for text in ("first \x1b[1mbold\x1b[0m █\n", "second"):
        with Output(tmp_path / "report") as out:
            out.write(text)
        assert (tmp_path / "report").read_text(encoding="utf-8") == text


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is a folder, not a file"), Output(tmp_path):
        pass


def test_a_place_that_cannot_be_reached_is_told_first(tmp_path: Path) -> None:
    for place in (tmp_path / ("a" * 300), Path(__file__, "report")):
        with pytest.raises(UsageError, match="cannot be written"), Output(place):
            pytest.fail("what was written would be lost")


def test_neither_a_link_nor_a_pipe_is_written_to_or_replaced(tmp_path: Path) -> None:
    kept, link, pipe = (tmp_path / name for name in ("kept", "link", "pipe"))
    kept.write_text("mine")
    link.symlink_to(kept)
    os.mkfifo(pipe)
    for place, what in ((link, "a link"), (pipe, "a device or a pipe")):
        with pytest.raises(UsageError, match=f"is {what}, not a file"), Output(place):
            pass
    assert kept.read_text() == "mine"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["kept", "link", "pipe"]


@pytest.mark.parametrize("encoding", ["cp1252", "ascii", "latin-1"])
def test_a_stream_without_blocks_gets_ascii(encoding: str, folder: Path) -> None:
    run = scan(
        folder / "planted.onnx", "-r", folder / "clean.onnx", "-d", "overactivation",
        "-d", "neural_cleanse", "-v", PYTHONIOENCODING=encoding,
    )  # fmt: skip
    assert run.returncode == 3, run.stderr
    assert run.stdout.isascii()
    assert "#### " in run.stdout
    assert "|mask of class" in run.stdout
    assert scan("--help", PYTHONIOENCODING=encoding).stdout.isascii()


def test_a_file_is_utf_8_in_every_locale(folder: Path, tmp_path: Path) -> None:
    locale = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    run = scan(
        folder / "planted.onnx", "-r", folder / "clean.onnx", "-d", "overactivation",
        "-v", "-o", tmp_path / "r.txt", **locale,
    )  # fmt: skip
    assert run.returncode == 3, run.stderr
    assert "████" in (tmp_path / "r.txt").read_text(encoding="utf-8")


def test_what_cannot_be_encoded_becomes_ascii() -> None:
    written = io.BytesIO()
    output.draw_in_ascii_where_needed()
    stream = io.TextIOWrapper(written, encoding="ascii", errors="scan-drawings")
    stream.write("█▒…Ω")
    stream.flush()
    assert written.getvalue() == b"#:...\\u03a9"


def test_every_replacement_is_ascii() -> None:
    assert [c for c, ascii_one in output._ASCII.items() if not ascii_one.isascii()] == []


def test_quiet_leaves_out_notes_but_no_errors(folder: Path, tmp_path: Path) -> None:
    options = ("-r", folder / "clean.onnx", "-d", "neural_cleanse", "--evidence", tmp_path)
    assert "wrote" in scan(folder / "planted.onnx", *options).stderr
    assert scan(folder / "planted.onnx", *options, "--quiet").stderr == ""
    assert "is empty" in scan(folder / "empty.onnx", "-q").stderr


def test_colour_can_be_switched_off(folder: Path) -> None:
    forced = {"FORCE_COLOR": "1", "TERM": "xterm-256color", "NO_COLOR": ""}
    colour = "\x1b[31m"  # red; bold and dim are no colour
    command = (folder / "planted.onnx", "-r", folder / "clean.onnx", "-d", "overactivation", "-v")
    assert colour in scan(*command, **forced).stdout
    assert colour not in scan(*command, "--no-color", **forced).stdout
    assert os.environ.get("NO_COLOR") is None


def _shown(monkeypatch: pytest.MonkeyPatch) -> tuple[output.Bar, list[str]]:
    """Return a bar, and what it shows."""
    texts: list[str] = []
    monkeypatch.setattr(output.Bar, "_show", lambda *given: texts.append(given[-1]))
    return output.Bar(), texts


def test_progress_names_model_detector_and_class(monkeypatch: pytest.MonkeyPatch) -> None:
    bar, texts = _shown(monkeypatch)
    step = Step(done=1, total=2, rule="neural_cleanse", class_id=7, model="a.onnx")
    bar.measuring(step)
    bar.measuring(dataclasses.replace(step, class_id=None))
    bar.measuring(dataclasses.replace(step, rule=None, model="\x1b[2Jx.onnx"))
    assert texts[:2] == ["a.onnx: neural_cleanse, class 7", "a.onnx: neural_cleanse"]
    assert "\x1b" not in texts[2]


def test_of_many_models_the_time_left_follows_the_last_ones(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Twenty from a cache take no time, and say nothing about those that are measured."""
    now = itertools.chain([0.0] * 21, itertools.count(10.0, 10.0))
    monkeypatch.setattr("time.monotonic", lambda: next(now))
    bar, texts = _shown(monkeypatch)
    for done in range(1, 60):
        bar.counting(done, 100)
    assert texts[2] == "3 of 100 models, about 0 s left"
    assert texts[-1] == "59 of 100 models, about 7 min left"
    bar.among(Step(done=1, total=2, rule="head", model="a.onnx"))
    assert texts[-1] == "59 of 100 models, about 7 min left; a.onnx: head"
    bar.counting(100, 100, "z.onnx")
    assert texts[-1] == "100 of 100 models; z.onnx"
