"""Every way in which the command can end has an exit code of its own."""

import errno
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from examples import hostile, result, unopened

from scanner.cli import exits
from scanner.cli.exits import exit_code
from scanner.judging.ranks import STRENGTHS
from scanner.results import ScanResult, Verdict

ROOT = Path(__file__).parents[3]


def test_exit_codes_are_the_worst_of_several() -> None:
    def of(verdict: Verdict, *, failed: bool = False) -> ScanResult:
        return replace(result(), verdict=verdict, failures=result().failures if failed else ())

    clean, doubt, guilt = of(Verdict.CLEAN), of(Verdict.INCONCLUSIVE), of(Verdict.SUSPICIOUS)
    failed = of(Verdict.INCONCLUSIVE, failed=True)
    assert exit_code([clean]) == 0
    assert exit_code([clean, doubt]) == 3
    assert exit_code([clean, doubt, failed]) == 2
    assert exit_code([failed, guilt, doubt]) == 1


def test_what_fails_can_be_chosen() -> None:
    guilt = replace(result(), failures=(), size=3.0)
    doubt = replace(guilt, verdict=Verdict.INCONCLUSIVE)
    seen = replace(hostile(), failures=(), verdict=Verdict.CLEAN)
    assert exit_code([guilt], ["inconclusive"]) == 0
    assert exit_code([guilt, doubt], ["inconclusive"]) == 3
    assert exit_code([guilt, doubt], ["suspicious"]) == 1
    assert [exit_code([guilt], [word]) for word in ("size=3", "size=3.1")] == [1, 0]
    assert [exit_code([seen], [word]) for word in ("warning", "confirmed", "suspicious")] == [
        1,
        1,
        0,
    ]
    assert exit_code([guilt, unopened()], ["nothing"]) == 0


@pytest.mark.parametrize(
    ("size", "failing"),
    [
        (0.9, []),
        (1.2, ["beyond"]),
        (1.5, ["beyond", "apart"]),
        (3.0, ["beyond", "apart", "far-beyond"]),
    ],
)
def test_a_strength_fails_whatever_the_verdict(size: float, failing: list[str]) -> None:
    found = replace(result(), failures=(), size=size)
    codes = {Verdict.CLEAN: 1, Verdict.SUSPICIOUS: 1, Verdict.INCONCLUSIVE: 3}
    for verdict, code in codes.items():
        one = replace(found, verdict=verdict)
        words = [word for word in STRENGTHS if exit_code([one], [word]) == code]
        assert words == failing
        assert all(exit_code([one], [w]) == 0 for w in STRENGTHS if w not in failing)


def test_what_the_graph_shows_needs_no_size() -> None:
    shown = replace(result(), failures=(), size=None)
    assert exit_code([replace(shown, verdict=Verdict.SUSPICIOUS)], ["far-beyond"]) == 1
    assert exit_code([replace(shown, verdict=Verdict.INCONCLUSIVE)], ["beyond"]) == 0


@pytest.mark.parametrize("word", [*STRENGTHS, "size=2"])
def test_what_the_graph_shows_is_not_outweighed_by_a_small_size(word: str) -> None:
    """Beside clean models a planted graph has a size as well, that of ordinary statistics."""
    shown = replace(result(), failures=(), verdict=Verdict.SUSPICIOUS, score=1.0, size=0.4)
    assert exit_code([shown], [word]) == 1


def test_what_could_not_be_measured_fails_whatever_was_chosen() -> None:
    assert exit_code([unopened()], ["suspicious"]) == 2


@pytest.mark.parametrize("kind", ["WorkerCrashedError", "UnsafeModelError"])
def test_a_model_that_kills_or_deceives_its_reader_passes_no_gate(kind: str) -> None:
    failure = replace(result().failures[0], error={**result().failures[0].error, "type": kind})
    one = replace(result(), verdict=Verdict.INCONCLUSIVE, failures=(failure,))
    assert [exit_code([one], words) for words in ([], ["suspicious"], ["size=2"])] == [3, 3, 3]
    assert exit_code([one], ["nothing"]) == 0
    assert exit_code([replace(one, verdict=Verdict.SUSPICIOUS)], ["inconclusive"]) == 0


def test_a_model_for_which_there_was_no_time_passes_no_gate() -> None:
    one = replace(result(), verdict=Verdict.INCONCLUSIVE, failures=(), findings=())
    assert exit_code([one], ["suspicious"]) == 3


@pytest.mark.parametrize("word", ["", "guilty", "size", "size=", "size=big", "error"])
def test_other_words_are_no_condition(word: str) -> None:
    with pytest.raises(ValueError, match="is no condition"):
        exits.condition(word)


def raiser(error: BaseException) -> int:
    raise error


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ZeroDivisionError("a bug"), exits.INTERNAL),
        (FileNotFoundError(errno.ENOENT, "not there"), exits.INTERNAL),
        (SystemExit(1), exits.INTERNAL),
        (OSError(errno.ENOSPC, "No space left on device"), exits.UNDELIVERED),
        (KeyboardInterrupt(), exits.INTERRUPTED),
    ],
)
def test_no_failure_looks_like_a_verdict(
    error: BaseException, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    # Not capfd: what cannot be delivered has its descriptor replaced, and that would be pytest's.
    assert exits.ending(lambda: raiser(error)) == code
    assert "Traceback" not in capsys.readouterr().err


def test_a_verdict_is_passed_on() -> None:
    assert exits.ending(lambda: exits.SUSPICIOUS) == exits.SUSPICIOUS


def test_a_bug_is_one_sentence_and_a_short_trace(capfd: pytest.CaptureFixture[str]) -> None:
    assert exits.ending(lambda: raiser(ZeroDivisionError("odd\x1b[2J"))) == 70
    sentence, *trace = capfd.readouterr().err.splitlines()
    assert sentence == (
        "internal error: ZeroDivisionError: odd\\x1b[2J; please report it with the lines below."
    )
    assert trace[0].startswith("  scanner/cli/exits.py:")
    assert trace[-1].endswith(" in raiser")
    assert len(trace) <= 6


def piped(command: str) -> tuple[int, str]:
    """Run a command of bash; return its first program's exit code, and what it says on stderr."""
    bash = shutil.which("bash") or pytest.skip("no bash")
    script = f"{command}; exit ${{PIPESTATUS[0]}}"
    run = subprocess.run(
        [bash, "-c", script], capture_output=True, text=True, check=False, timeout=120
    )
    return run.returncode, run.stderr


@pytest.mark.parametrize(
    "arguments", ["--help", "detectors", "detectors --format json", "MODEL -d integrity"]
)
def test_a_closed_pipe_ends_quietly(arguments: str, folder: Path) -> None:
    command = arguments.replace("MODEL", str(folder / "clean.onnx"))
    code, errors = piped(f"{sys.executable} -m scanner {command} | true")
    assert (code, errors) == (exits.UNDELIVERED, "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("arguments", ["--help", "detectors", "detectors --format json"])
def test_a_full_disk_is_one_sentence(arguments: str) -> None:
    code, errors = piped(f"{sys.executable} -m scanner {arguments} > /dev/full")
    assert code == exits.UNDELIVERED
    assert errors == "error: the output cannot be written (No space left on device)\n"


def test_a_closed_stdout_keeps_the_exit_code(folder: Path) -> None:
    code, errors = piped(f"{sys.executable} -m scanner {folder / 'clean.onnx'} -d integrity >&-")
    assert (code, errors) == (exits.INCONCLUSIVE, "")


def test_every_exit_code_is_on_the_page_for_pipelines() -> None:
    text = (Path(__file__).parents[3] / "docs" / "pipelines.md").read_text(encoding="utf-8")
    assert [code for code in exits.MEANINGS if f"| {code} |" not in text] == []


@pytest.mark.skipif(sys.platform == "win32", reason="no signals")
@pytest.mark.parametrize(
    ("name", "code"),
    [("SIGTERM", exits.TERMINATED), ("SIGHUP", exits.HUNG_UP), ("SIGINT", exits.INTERRUPTED)],
)
def test_a_scan_that_is_ended_leaves_what_is_finished_and_no_temporary_file(
    folder: Path, tmp_path: Path, name: str, code: int
) -> None:
    number = getattr(signal, name)  # Windows has not all of them
    quick, slow = folder / "planted.onnx", ROOT / "samples" / "gtsrb-clean.onnx"
    models = [str(quick), str(folder / "clean.onnx"), str(slow)]
    command = [sys.executable, "-m", "scanner", *models, "-d", "neural_cleanse"]
    command += ["--budget", "thorough"]
    # A job in a shell's background ignores interrupts, and so do its children, unless they are
    # handled here.
    before = signal.signal(number, signal.default_int_handler)
    process = subprocess.Popen(
        [*command, "--format", "json", "--output", str(tmp_path / "out.jsonl")],
        cwd=ROOT, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    signal.signal(number, before)
    assert process.stderr is not None
    with process.stderr:
        next(line for line in process.stderr if line.startswith("[2/"))
        process.send_signal(number)
        assert process.wait(30) == code
    assert [path.name for path in tmp_path.iterdir()] == ["out.jsonl"]
    assert (tmp_path / "out.jsonl").read_text().count("\n") >= 1
