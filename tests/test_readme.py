"""What the README tells a reader to type works, and prints what it shows.

`pytest tests/test_readme.py --update-goldens` writes the shown outputs anew.
"""

import ast
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
WORKED = (0, 1, 3)  # exit codes of a scan that measured something
# On a process per core: native code that crashes then fails its test, and the others still run.
TESTS = "pytest -m 'not slow' -n auto"
BLOCK = re.compile(
    r"^(?P<indent> *)```(?P<language>\w+)\n(?P<body>.*?)^ *```$", re.DOTALL | re.MULTILINE
)
NUMBER = re.compile(r"-?\d+(?:\.\d+)?")
CHECKOUT = (
    "LICENSE", "README.md", "benchmarks", "constraints.txt", "docs", "overactivation",
    "pyproject.toml", "samples", "scanner", "tests", "trainers",
)  # fmt: skip


def blocks(language: str) -> list[str]:
    found = BLOCK.finditer(README.read_text(encoding="utf-8"))
    return [
        re.sub(rf"^{block['indent']}", "", block["body"], flags=re.MULTILINE)
        for block in found
        if block["language"] == language
    ]


SESSIONS = [block for block in blocks("console") if block.count("$ ") == 1]
COMMANDS = [
    line[2:] for block in blocks("console") for line in block.splitlines() if line.startswith("$ ")
]
OTHERS = [
    command for command in COMMANDS if not any(f"$ {command}\n" in session for session in SESSIONS)
]


def run(command: str, folder: Path) -> str:
    """Run one `scan` command of the README beside the samples, and return what it prints."""
    program, *arguments = shlex.split(command)
    assert program == "scan"
    if not (folder / "samples").exists():
        (folder / "samples").symlink_to(ROOT / "samples")
    done = subprocess.run(
        [sys.executable, "-m", "scanner", *arguments],
        cwd=folder, capture_output=True, text=True, check=False, timeout=600,
        env={**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "100"},
    )  # fmt: skip
    assert done.returncode in WORKED, done.stderr
    return "\n".join(line.rstrip() for line in done.stdout.strip().splitlines()) + "\n"


def comparable(text: str) -> tuple[list[str], list[float]]:
    """Return an output's words and numbers, without times, versions, bars and alignment."""
    text = re.sub(r"ONNX Runtime [\d.]+, [\d.]+ s", "", text)
    text = re.sub(r"[█▏▎▍▌▋▊▉░▒▓│]+", " ", text)
    return NUMBER.sub("#", text).split(), [float(number) for number in NUMBER.findall(text)]


@pytest.mark.parametrize("session", SESSIONS)
def test_output(session: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    command, shown = session.removeprefix("$ ").split("\n", 1)
    printed = run(command, tmp_path)
    if request.config.getoption("--update-goldens"):
        update(session, f"$ {command}\n{printed}")
        return
    words, numbers = comparable(printed)
    expected_words, expected_numbers = comparable(shown)
    assert words == expected_words
    # Other processors round differently: a few in a hundred, and an image or two in a histogram.
    assert numbers == [
        pytest.approx(n, rel=0.05, abs=2 if n.is_integer() else 0.01) for n in expected_numbers
    ]


def update(session: str, new: str) -> None:
    text = README.read_text(encoding="utf-8")
    block = next(
        b for b in BLOCK.finditer(text) if session == re.sub(rf"(?m)^{b['indent']}", "", b["body"])
    )
    body = "".join(f"{block['indent']}{line}".rstrip() + "\n" for line in new.splitlines())
    README.write_text(
        text[: block.start("body")] + body + text[block.end("body") :], encoding="utf-8"
    )


@pytest.mark.parametrize("command", OTHERS)
def test_command(command: str, tmp_path: Path) -> None:
    printed = run(command, tmp_path)
    assert printed.strip() or (tmp_path / "result.json").stat().st_size > 0


def test_the_samples_named_exist() -> None:
    named = set(re.findall(r"samples/[\w.-]+\.(?:onnx|json)", README.read_text(encoding="utf-8")))
    assert named
    assert [name for name in named if not (ROOT / name).is_file()] == []


PAGES = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("benchmarks/*.md")]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_the_links_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([\w./-]+)(?:#[\w-]+)?\)", page.read_text(encoding="utf-8"))
    assert [link for link in links if not (page.parent / link).exists()] == []


def test_every_page_is_linked_from_another() -> None:
    linked = {
        (page.parent / link).resolve()
        for page in PAGES
        for link in re.findall(r"\]\(([\w./-]+)", page.read_text(encoding="utf-8"))
    }
    assert [page.name for page in PAGES if page.resolve() not in {README, *linked}] == []


def test_the_set_up_commands_are_one_line_each_and_parse() -> None:
    scripts = blocks("bash")
    assert [script.count("\n") for script in scripts] == [1] * len(scripts)
    first = "scan samples/mnist-badnets.onnx --reference samples/mnist-clean-1.onnx"
    assert sum(first in script for script in scripts) == 1
    assert sum(TESTS in script for script in scripts) == 1
    for script in scripts:
        assert subprocess.run(["/bin/sh", "-n", "-c", script], check=False).returncode == 0


def test_the_gate_runs_the_tests_as_the_readme_does() -> None:
    gate = (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()
    assert [line for line in gate if line.startswith("pytest")] == [TESTS]


@pytest.mark.parametrize("code", blocks("python"))
def test_python(code: str, tmp_path: Path) -> None:
    ast.parse(code)
    if "torch" in code:
        pytest.importorskip("torch")
    (tmp_path / "samples").symlink_to(ROOT / "samples")
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a copy of the project as a fresh clone would be."""
    folder = tmp_path_factory.mktemp("clone")
    for name in CHECKOUT:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, folder / name)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("script", [script for script in blocks("bash") if "pytest" not in script])
def test_set_up(script: str, checkout: Path) -> None:
    """Run each command in one fresh clone, in the README's order.

    The last installs what the one before it collected.
    """
    done = subprocess.run(
        ["/bin/sh", "-c", script], cwd=checkout, capture_output=True, text=True, check=False
    )
    assert done.returncode in WORKED, done.stdout + done.stderr


@pytest.mark.slow
def test_set_up_for_development(checkout: Path) -> None:
    """Install as the README says, and collect the tests: to run them would run this one again."""
    (script,) = (script for script in blocks("bash") if "pytest" in script)
    collect = script.rstrip() + " --collect-only -q"
    done = subprocess.run(
        ["/bin/sh", "-c", collect], cwd=checkout, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
