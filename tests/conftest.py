"""Shared fixtures: golden files and a pinned console."""

import io
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import hypothesis
import pytest
from rich.console import Console

from scanner.sandbox import launch, twins
from scanner.sandbox.worker import Worker

GOLDEN = Path(__file__).parent / "golden"
SAMPLES = Path(__file__).parent.parent / "samples"

# The same examples everywhere, however busy the machine; --hypothesis-profile default tries others.
hypothesis.settings.register_profile("repeatable", derandomize=True, deadline=None)
hypothesis.settings.load_profile("repeatable")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--update-goldens",
        action="store_true",
        help="write the golden files anew, then read the diff",
    )


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[[str, str], None]:
    """Compare a text with a golden file, or write it with --update-goldens."""

    def check(name: str, text: str) -> None:
        path = GOLDEN / name
        if request.config.getoption("--update-goldens"):
            path.write_text(text, encoding="utf-8")
        assert text == path.read_text(encoding="utf-8")

    return check


@pytest.fixture
def console() -> Callable[[int], Console]:
    """Return a console of fixed width over a string, without colour or environment."""

    def make(width: int) -> Console:
        return Console(
            width=width,
            file=io.StringIO(),
            color_system=None,
            legacy_windows=False,
            highlight=False,
            _environ={},
        )

    return make


@pytest.fixture
def way(monkeypatch: pytest.MonkeyPatch) -> str:
    """Start children as fresh interpreters; otherwise where a test repeats the tests so.

    Of "fork twin", say, the first word is how this process starts another, the last one the kind of
    the child.
    """
    first, *_, kind = 2 * os.environ.get("SCAN_TESTS_START", "interpreter").split()
    assert first == "interpreter" or launch.may_fork()
    monkeypatch.setattr(launch, "may_fork", lambda: first == "fork")
    if kind == "twin":
        monkeypatch.setattr(launch, "start", _one_of_two)
    return kind


def _one_of_two(preload: Sequence[str]) -> launch.Child:
    child, other = twins.start(preload, 2)
    Worker(child=other).kill()
    return child
