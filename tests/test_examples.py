"""The examples under docs/examples run as they say, and say what is expected."""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
EXAMPLES = ROOT / "docs" / "examples"
SAMPLES = ROOT / "samples"

# By example: its arguments, its exit code, and words of its output in the order in which they come.
# FOLDER stands for one that holds a backdoored and a clean model.
CASES = {
    "scan_folder.py": (
        ("FOLDER", "mnist-clean.onnx"), 0, ("suspicious", "mnist-badnets", "mnist-clean-1"),
    ),
    "judge_in_ci.py": (("mnist-badnets.onnx", "mnist-clean.onnx"), 1, ("suspicious: ", "class 0")),
    "own_baseline.py": (
        ("mnist-badnets.onnx", "mnist-clean.onnx", "mnist-clean-1.onnx", "mnist-clean-2.onnx"),
        0, ("3 clean models; p-values from 1/4 up", "inconclusive: ", "p = 0.25"),
    ),
}  # fmt: skip


def run(example: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(EXAMPLES / example), *arguments],
        cwd=SAMPLES, capture_output=True, text=True, check=False, timeout=300,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip


def test_every_example_has_a_row() -> None:
    assert sorted(CASES) == sorted(path.name for path in EXAMPLES.glob("*.py"))


@pytest.mark.parametrize("example", CASES)
def test_an_example(example: str, tmp_path: Path) -> None:
    arguments, code, words = CASES[example]
    for name in ("mnist-badnets.onnx", "mnist-clean-1.onnx"):
        shutil.copy(SAMPLES / name, tmp_path)
    done = run(example, *(str(tmp_path) if word == "FOLDER" else word for word in arguments))
    assert done.returncode == code, done.stderr
    places = [done.stdout.find(word) for word in words]
    assert -1 not in places, done.stdout
    assert places == sorted(places), done.stdout


def test_a_request_that_cannot_be_carried_out_does_not_let_a_model_through(tmp_path: Path) -> None:
    (tmp_path / "empty.onnx").write_bytes(b"")
    done = run("judge_in_ci.py", "mnist-badnets.onnx", str(tmp_path / "empty.onnx"))
    assert done.returncode == 1
    assert "not scanned" in done.stderr + done.stdout or "not measured" in done.stdout


def test_the_notebook(tmp_path: Path) -> None:
    """It runs in a kernel where there is one, or else its cells run as a program."""
    source = EXAMPLES / "notebook.ipynb"
    cells = [c for c in json.loads(source.read_text("utf-8"))["cells"] if c["cell_type"] == "code"]
    assert not any(c["outputs"] for c in cells)
    installed = all(map(importlib.util.find_spec, ("nbclient", "nbformat", "ipykernel")))
    program = tmp_path / "program.py"
    if installed:
        program.write_text(
            "import nbclient, nbformat, sys\n"
            "notebook = nbformat.read(sys.argv[1], as_version=4)\n"
            "nbclient.NotebookClient(notebook, timeout=300).execute()\n"
            "for cell in notebook.cells:\n"
            "    for output in cell.get('outputs', []):\n"
            "        print(output['data']['text/plain'], 'text/html' in output['data'])\n"
        )
    else:
        shown = ("".join(c["source"][:-1]) + f"print({c['source'][-1]})" for c in cells)
        program.write_text("\n".join(shown))
    done = run(str(program), str(source))
    assert done.returncode == 0, done.stderr
    said = "Settings(device=", "ScanResult('mnist-badnets.onnx', ", "mnist-clean-1.onnx"
    assert all(word in done.stdout for word in said), done.stdout
