"""The README's commands set the program up, and its links and those of all pages lead somewhere."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
INSTALL = ROOT / "docs" / "install.md"
WORKED = (0, 1, 3)  # exit codes of a scan that measured something
# On a process per core: native code that crashes then fails its test, and the others still run.
TESTS = "pytest -m 'not slow' -n auto"
FLAGS = re.DOTALL | re.MULTILINE
CHECKOUT = (
    "LICENSE", "README.md", "benchmarks", "constraints.txt", "docs", "overactivation",
    "pyproject.toml", "samples", "scanner", "tests", "trainers",
)  # fmt: skip


def scripts() -> list[str]:
    """Return what a reader sets the program up with, in the order of the README and its page."""
    return [
        block
        for page in (README, INSTALL)
        for block in re.findall(r"^```bash\n(.*?)^```$", page.read_text("utf-8"), FLAGS)
    ]


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
    found = scripts()
    assert [script.count("\n") for script in found] == [1] * len(found)
    first = "scan samples/mnist-badnets.onnx --reference samples/mnist-clean-1.onnx"
    assert sum(first in script for script in found) == 1
    assert sum(TESTS in script for script in found) == 1
    for script in found:
        assert subprocess.run(["/bin/sh", "-n", "-c", script], check=False).returncode == 0


def test_the_gate_runs_the_tests_as_the_readme_does() -> None:
    gate = (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()
    assert [line for line in gate if line.startswith("pytest")] == [TESTS]


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a copy of the project as a fresh clone would be."""
    folder = tmp_path_factory.mktemp("clone")
    for name in CHECKOUT:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, folder / name)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("script", [script for script in scripts() if "pytest" not in script])
def test_set_up(script: str, checkout: Path) -> None:
    """Run each command in one fresh clone, in the order of the README and of docs/install.md.

    The last installs what the one before it collected.
    """
    done = subprocess.run(
        ["/bin/sh", "-c", script], cwd=checkout, capture_output=True, text=True, check=False
    )
    assert done.returncode in WORKED, done.stdout + done.stderr


@pytest.mark.slow
def test_set_up_for_development(checkout: Path) -> None:
    """Install as the README says, and collect the tests: to run them would run this one again."""
    (script,) = (script for script in scripts() if "pytest" in script)
    collect = script.rstrip() + " --collect-only -q"
    done = subprocess.run(
        ["/bin/sh", "-c", collect], cwd=checkout, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
