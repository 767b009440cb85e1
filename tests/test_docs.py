"""What the pages tell a reader to type works from top to bottom, and prints what they show.

`pytest tests/test_docs.py --update-goldens` writes the shown outputs anew.
"""

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from docs.website.build import ELSEWHERE

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = ("index.md", "auditors.md", "concepts.md", "convert.md", "python.md")
# What a page says in words that its script prints.
PRINTED = {"auditors.md": "original is class 3\nstamped is class 0\n"}
WORKED = (0, 1, 3)  # exit codes of a scan that measured something
BLOCK = re.compile(r"^```(?P<language>\w+)\n(?P<body>.*?)^```$", re.DOTALL | re.MULTILINE)
NUMBER = re.compile(r"-?\d+(?:\.\d+)?")


def blocks(page: str) -> Iterator[tuple[str, str]]:
    """Yield language and text of each block of a page that is to be typed."""
    for block in BLOCK.finditer((DOCS / page).read_text(encoding="utf-8")):
        if block["language"] in ("console", "python"):
            yield block["language"], block["body"]


def run(words: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *words],
        cwd=folder, capture_output=True, text=True, check=False, timeout=600,
        env={**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "84"},
    )  # fmt: skip


def scanned(command: str, folder: Path) -> str:
    """Run one `scan` command beside the samples, and return what it prints."""
    program, *arguments = shlex.split(command)
    assert program == "scan"
    done = run(["-m", "scanner", *arguments], folder)
    assert done.returncode in WORKED, (command, done.stderr)
    return "\n".join(line.rstrip() for line in done.stdout.strip().splitlines()) + "\n"


def comparable(text: str) -> tuple[list[str], list[float]]:
    """Return an output's words and numbers, without times, versions, bars and alignment."""
    text = re.sub(r"ONNX Runtime [\d.]+, [\d.]+ s", "", text)
    text = re.sub(r"[█▏▎▍▌▋▊▉░▒▓│]+", " ", text)
    return NUMBER.sub("#", text).split(), [float(number) for number in NUMBER.findall(text)]


@pytest.mark.parametrize("page", PAGES)
def test_a_page(page: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    (tmp_path / "samples").symlink_to(ROOT / "samples")
    for language, body in blocks(page):
        if language == "python":
            if "import torch" in body:
                pytest.importorskip("torch")
            done = run(["-c", body], tmp_path)
            assert done.returncode == 0, done.stderr
            assert done.stdout == PRINTED.get(page, done.stdout)
            continue
        first, *rest = body.removeprefix("$ ").split("\n$ ")
        command, shown = first.split("\n", 1) if "\n" in first else (first, "")
        printed = scanned(command, tmp_path)
        for another in rest:
            scanned(another, tmp_path)
        if rest or not shown:
            continue
        if request.config.getoption("--update-goldens"):
            text = (DOCS / page).read_text(encoding="utf-8")
            new = text.replace(body, f"$ {command}\n{printed}", 1)
            (DOCS / page).write_text(new, encoding="utf-8")
        else:
            same(printed, shown)


def same(printed: str, shown: str) -> None:
    words, numbers = comparable(printed)
    expected_words, expected_numbers = comparable(shown)
    assert words == expected_words
    # Other processors round differently: a few in a hundred, and an image or two in a histogram.
    assert numbers == [
        pytest.approx(n, rel=0.05, abs=2 if n.is_integer() else 0.01) for n in expected_numbers
    ]


def test_the_pages_show_outputs() -> None:
    shown = [body for page in PAGES for _, body in blocks(page) if body.count("\n") > 5]
    assert len(shown) >= 4


def test_the_figures_of_the_readme_are_those_of_the_page() -> None:
    """The README adds up the rows of docs/detection.md."""
    verdicts = rows("docs/detection.md", "| recipe | models | n |")
    told = [row[1:] for row in rows("README.md", "| judged by |")]
    recipes = {
        "MNIST": "mnist",
        "FashionMNIST": "fashion-mnist",
        "GTSRB": "gtsrb",
        "CIFAR-10": "cifar10-small",
    }
    for words, *figures in told[: len(recipes) + 1]:
        of, kind = words.split(", ")
        chosen = [
            row
            for row in verdicts
            if recipes.get(of, "") in (row[0].split(",")[0], "")
            and (row[1] == "clean") is (kind == "clean")
        ]
        assert figures == [str(sum(int(row[n]) for row in chosen)) for n in (2, 3, 4, 5)], words
    strangers = rows("docs/detection.md", "| searched on | references | split | networks |")
    for words, n, *shares in told[len(recipes) + 1 :]:
        networks = "clean" if words.endswith(" clean") else "all attacks"
        (row,) = (r for r in strangers if r[:4] == ["images", "1", "test", networks])
        assert words.split()[0] == row[4]
        assert [n, *shares] == [
            row[5],
            *(f"{float(share):.0%}".replace("%", " %") for share in row[9:]),
        ]


def rows(page: str, head: str) -> list[list[str]]:
    """Return the cells of the first table of a page whose first row begins like this."""
    text = (ROOT / page).read_text(encoding="utf-8")
    table = text[text.index(head) :].split("\n\n", 1)[0].splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table]


def test_every_page_is_in_the_navigation_once() -> None:
    navigation = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))["nav"]
    listed = [page for section in navigation for pages in section.values() for page in pages]
    pages = [*(path.name for path in DOCS.glob("*.md")), *ELSEWHERE.values()]
    assert sorted(listed) == sorted(pages)
