"""What docs/pipelines.md tells a reader to type works, from top to bottom in one folder."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "pipelines.md").read_text(encoding="utf-8")
WORKED = (0, 1, 3)  # exit codes of a scan that measured something


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)


def run(words: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *words],
        cwd=folder, capture_output=True, text=True, check=False, timeout=300,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip


def test_the_commands(tmp_path: Path) -> None:
    (tmp_path / "samples").symlink_to(ROOT / "samples")
    lines = [line for block in blocks("console") for line in block.splitlines()]
    assert lines
    for line in lines:
        prompt, program, *arguments = shlex.split(line)
        assert (prompt, program) == ("$", "scan")
        done = run(["-m", "scanner", *arguments], tmp_path)
        assert done.returncode in WORKED, (line, done.stderr)
    assert "Backdoor scan: 1 model: 1 inconclusive" in (tmp_path / "result.md").read_text("utf-8")


def test_the_python_code(tmp_path: Path) -> None:
    (tmp_path / "samples").symlink_to(ROOT / "samples")
    (code,) = blocks("python")
    script = tmp_path / "page.py"
    script.write_text(code, encoding="utf-8")
    done = run([str(script)], tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("Verdict.") == 2
