"""Several reports of one run: where each goes, and what an interruption leaves."""

import gc
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from command import said, scan
from examples import result

from scanner.cli.delivery import deliver, targets
from scanner.errors import UsageError
from scanner.results import ScanResult


def test_the_table_goes_to_stdout_unless_another_does() -> None:
    def shown(*formats: str, output: Path | None = None) -> list[tuple[str, Path | None]]:
        return [(t.report.name, t.path) for t in targets(formats, output)]

    assert shown() == [("table", None)]
    assert shown("json") == [("json", None)]
    assert shown("json=a.json", "sarif=b=c.sarif") == [
        ("table", None),
        ("json", Path("a.json")),
        ("sarif", Path("b=c.sarif")),
    ]
    assert shown("json=a.json", "jsonl", output=Path("b")) == [
        ("jsonl", Path("b")),
        ("json", Path("a.json")),
    ]


@pytest.mark.parametrize(
    ("formats", "output", "words"),
    [
        (("json", "sarif"), None, "--format sarif=FILE"),
        (("json=a", "sarif=./a"), None, "name a file for each"),
        (("json=a",), Path("a"), "name a file for each"),
    ],
)
def test_no_two_reports_share_a_place(
    formats: tuple[str, ...], output: Path | None, words: str
) -> None:
    with pytest.raises(UsageError, match=words):
        targets(formats, output)


def test_an_interrupted_run_leaves_what_there_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def arriving() -> Iterator[ScanResult]:
        yield result("a.onnx")
        yield result("b.onnx")
        raise KeyboardInterrupt

    chosen = targets(["jsonl", f"sarif={tmp_path / 'out.sarif'}"], None)
    with pytest.raises(KeyboardInterrupt):
        deliver(arriving(), chosen, count=3)
    assert len(capsys.readouterr().out.splitlines()) == 2
    (run,) = json.loads((tmp_path / "out.sarif").read_text(encoding="utf-8"))["runs"]
    assert [a["location"]["uri"] for a in run["artifacts"]] == ["a.onnx", "clean.onnx", "b.onnx"]


def test_an_interrupted_run_leaves_a_table_of_what_there_is(tmp_path: Path) -> None:
    def arriving() -> Iterator[ScanResult]:
        yield result("a.onnx")
        yield result("b.onnx")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        deliver(arriving(), targets([], tmp_path / "out.txt"), count=3)
    text = (tmp_path / "out.txt").read_text(encoding="utf-8")
    assert text.index("a.onnx") < text.index("b.onnx")
    assert "2 models" in text


def test_whoever_still_measures_is_stopped_by_an_interruption(tmp_path: Path) -> None:
    stopped = []

    def measuring() -> Iterator[ScanResult]:
        try:
            yield result("a.onnx")
            yield result("b.onnx")
        finally:
            stopped.append(True)

    def arriving() -> Iterator[ScanResult]:
        source = measuring()  # as the command keeps it, in a frame that an exception holds
        for each in source:
            yield each
            raise KeyboardInterrupt

    gc.disable()  # as the command ends
    try:
        deliver(arriving(), targets([], tmp_path / "out.txt"), count=2)
    except KeyboardInterrupt:
        pass
    finally:
        gc.enable()
    assert stopped


def test_a_run_that_is_over_before_the_first_result_leaves_nothing(tmp_path: Path) -> None:
    def arriving() -> Iterator[ScanResult]:
        yield from ()
        raise UsageError("no", remedy="yes")

    with pytest.raises(UsageError):
        deliver(arriving(), targets([], tmp_path / "out.txt"), count=3)
    assert list(tmp_path.iterdir()) == []


def test_one_run_writes_a_table_and_files(folder: Path, tmp_path: Path) -> None:
    names = {"json": "r.json", "sarif": "r.sarif", "junit": "r.xml", "markdown": "r.md"}
    formats = [f"--format={name}={tmp_path / file}" for name, file in names.items()]
    run = scan(folder / "clean.onnx", "-d", "integrity", *formats)
    assert run.returncode == 3, run.stderr
    assert "inconclusive" in run.stdout
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(names.values())
    told = json.loads((tmp_path / "r.json").read_text(encoding="utf-8"))["run"]
    assert told["arguments"][:2] == ["scan", str(folder / "clean.onnx")]
    assert told["alpha"] == 0.05


@pytest.mark.parametrize("bad", ["pdf", "json=", "=a.json"])
def test_a_format_that_is_none_scans_nothing(bad: str, folder: Path) -> None:
    run = scan(folder / "clean.onnx", "--format", bad)
    assert (run.returncode, run.stdout) == (2, "")
    assert "Invalid value for '--format'" in said(run)


@pytest.mark.parametrize("name", ["json", "html"])
def test_a_name_that_is_too_long_is_found_out_first(name: str) -> None:
    chosen = targets((f"{name}={'a' * 300}",), None)
    arriving = iter([result()])
    with pytest.raises(UsageError, match=r"cannot be written \(File name too long\)"):
        deliver(arriving, chosen, count=1)
    assert list(arriving), "nothing was asked for"


def test_a_file_that_cannot_be_written_is_found_out_first(folder: Path, tmp_path: Path) -> None:
    run = scan(folder / "clean.onnx", f"--format=sarif={tmp_path / 'no' / 'r.sarif'}")
    assert (run.returncode, run.stdout) == (2, "")
    assert "cannot be written" in said(run)


def test_a_page_for_each_model_goes_into_a_folder(folder: Path, tmp_path: Path) -> None:
    pages = tmp_path / "new" / "pages"
    run = scan(folder, "-d", "integrity", f"--format=html={pages}/")
    assert run.returncode == 2, "some of the models are broken on purpose"
    written = sorted(path.name for path in pages.iterdir())
    models = sorted(folder.glob("*.onnx"))
    assert len(written) == len(models) + 1
    assert "index.html" in written
    again = scan(folder / "clean.onnx", "-d", "integrity", "--format=html", f"--output={pages}")
    assert again.returncode == 3, again.stderr
    assert "clean.onnx" in (pages / "index.html").read_text(encoding="utf-8")


def test_a_report_that_is_one_file_is_not_written_into_a_folder(
    folder: Path, tmp_path: Path
) -> None:
    run = scan(folder / "clean.onnx", f"--format=json={tmp_path}")
    assert (run.returncode, run.stdout) == (2, "")
    assert "scan.json" in said(run)


def test_a_folder_that_cannot_be_made_scans_nothing(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    run = scan(folder / "clean.onnx", f"--format=html={tmp_path / 'file'}/")
    assert (run.returncode, run.stdout) == (2, "")
    assert "name another folder" in said(run)
