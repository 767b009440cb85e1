"""What docs/inputs.md and docs/repair.md tell a reader to type works, on digits drawn here."""

import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
from drawn_digits import digits
from test_docs import ROOT, WORKED, blocks, run
from trainer_data import write_idx

COMMAND = re.compile(r"^\$ (?P<line>.*)$", re.MULTILINE)


def typed(page: str, folder: Path) -> list[tuple[str, int, str]]:
    """Run the commands of a page's blocks; return each with exit code and first line."""
    done = []
    for _, body in blocks(page):
        for match in COMMAND.finditer(body):
            program, *words = shlex.split(match["line"])
            if program == "scan":
                ran = run(["-m", "scanner", *words], folder)
            elif words[:2] == ["-m", "trainers"]:
                ran = run(words, folder)
            else:  # a shell's own word, or a benchmark that needs the data sets
                continue
            assert ran.returncode in WORKED, (match["line"], ran.stderr)
            done.append((words[0], ran.returncode, ran.stdout.split("\n", 1)[0]))
    return done


@pytest.mark.slow
def test_repair(tmp_path: Path) -> None:
    for name in ("mnist-clean.onnx", "mnist-blended.onnx"):
        shutil.copy(ROOT / "samples" / name, tmp_path)
    (tmp_path / "samples").symlink_to(ROOT / "samples")
    np.savez(tmp_path / "images.npz", images=digits(100))
    raw = tmp_path / "DIR" / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for stem in ("train", "t10k"):
        write_idx(raw / f"{stem}-images-idx3-ubyte", 255 * digits(200)[:, 0])
        write_idx(raw / f"{stem}-labels-idx1-ubyte", np.arange(200) % 10)
    planting, cut, diff, trained, stamped, known = typed("repair.md", tmp_path)
    assert planting[1] == 0
    assert cut == ("repair", 0, "gated.onnx: repaired")
    assert diff[:2] == ("diff", 0)
    assert trained[0] == "repair"
    assert trained[1] in (0, 1)
    assert trained[2].startswith("mnist-blended.onnx: ")
    assert stamped[1] == 0
    assert stamped[2].startswith("stamped.npz: ")
    assert known[0] == "repair"
    assert known[1] in (0, 1)


def test_inputs(tmp_path: Path) -> None:
    (tmp_path / "samples").symlink_to(ROOT / "samples")
    (tmp_path / "images").mkdir()
    np.savez(tmp_path / "images" / "clean.npz", images=digits(300))
    np.savez(tmp_path / "images" / "inputs.npz", images=digits(50, seed=1))
    ((command, code, first),) = typed("inputs.md", tmp_path)
    assert command == "inputs"
    assert code in WORKED
    assert first.split(":")[0] in ("clean", "suspicious", "inconclusive")
