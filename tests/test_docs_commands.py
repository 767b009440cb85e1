"""Every command on a page is one that its program takes: parsed, not run.

tests/test_docs.py runs those of the pages that a reader types from top to bottom.
"""

import contextlib
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main

from scanner.cli.main import app
from trainers.cli import app as trainers_app

ROOT = Path(__file__).parent.parent
PAGES = sorted(
    [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), ROOT / "benchmarks" / "README.md"]
)
FENCE = re.compile(r"^ *```(?:console|sh|bash)\n(.*?)^ *```$", re.DOTALL | re.MULTILINE)
SPAN = re.compile(r"`(scan [^`]+)`")
GROUP: Any = typer.main.get_command(app)
MAIN = "model"
MODULE = re.compile(r"python -m (?P<module>trainers|(?:benchmarks|fuzz)\.\w+)(?P<rest>[^`\n#]*)")
FLAG = re.compile(r"(?<!\S)--([a-z][a-z-]+)")


def typed(text: str) -> Iterator[str]:
    """Yield the commands in a page's blocks, without prompt, program path and comment."""
    for block in FENCE.findall(text):
        for line in block.replace("\\\n", " ").splitlines():
            for part in line.split("&&"):
                words = part.strip().removeprefix("$ ").removeprefix(".venv/bin/")
                if words.startswith("scan "):
                    yield words


def command_of(words: list[str]) -> tuple[Any, list[str]]:
    """Return the command that words name, and its arguments."""
    name = words[0] if words and words[0] in GROUP.commands else MAIN
    return GROUP.commands[name], words if name == MAIN else words[1:]


def options(command: Any) -> set[str]:
    own = {flag for parameter in command.params for flag in parameter.opts}
    return own | {"--help", "-h", "--version", "--install-completion", "--show-completion"}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_the_commands_parse(page: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)  # where no policy is
    for line in typed(page.read_text(encoding="utf-8")):
        _, *words = shlex.split(line, comments=True)
        if words == ["--version"]:
            continue
        command, arguments = command_of(words)
        try:
            command.make_context("scan", list(arguments))
        except Exception as error:
            error.add_note(line)
            raise


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_the_options_in_sentences_exist(page: Path) -> None:
    for line in SPAN.findall(page.read_text(encoding="utf-8")):
        with contextlib.suppress(ValueError):
            command, arguments = command_of(shlex.split(" ".join(line.split())[5:]))
            named = {word.split("=")[0] for word in arguments if re.match(r"--?[a-z]", word)}
            assert sorted(named - options(command)) == [], line


def test_a_wrong_option_is_noticed() -> None:
    command, arguments = command_of(["m.onnx", "--referense", "c.onnx"])
    with pytest.raises(Exception, match="referense"):
        command.make_context("scan", arguments)


def test_many_commands_were_looked_at() -> None:
    found = [line for page in PAGES for line in typed(page.read_text(encoding="utf-8"))]
    assert len(found) > 20


def modules(text: str) -> Iterator[tuple[str, str]]:
    """Yield the module that a command of a page runs, and its arguments."""
    for match in MODULE.finditer(text.replace("\\\n", " ")):
        yield match["module"], match["rest"]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_the_trainers_and_benchmarks_named_have_these_options(page: Path) -> None:
    for module, rest in modules(page.read_text(encoding="utf-8")):
        if module == "trainers":
            trainers: Any = typer.main.get_command(trainers_app)
            name = rest.split()[0] if rest.split() else None
            assert name is None or name in trainers.commands, rest
            known = options(trainers.commands[name]) if name else set()
            assert {f"--{flag}" for flag in FLAG.findall(rest)} <= known, rest
        else:
            folder = ROOT / "tests" if module.startswith("fuzz") else ROOT
            source = (folder / f"{module.replace('.', '/')}.py").read_text(encoding="utf-8")
            for flag in FLAG.findall(rest):
                # Typer makes an option of a parameter's name.
                assert re.search(rf"--{flag}\b|\b{flag.replace('-', '_')}: ", source), (rest, flag)


def test_many_modules_were_looked_at() -> None:
    found = [module for page in PAGES for module, _ in modules(page.read_text(encoding="utf-8"))]
    assert len(found) > 50
    assert {"trainers", "benchmarks.detection", "fuzz.drive"} <= set(found)
