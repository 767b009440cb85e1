"""Shared fixtures: golden files and a pinned console."""

import io
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from scanner.sandbox import launch

GOLDEN = Path(__file__).parent / "golden"
SAMPLES = Path(__file__).parent.parent / "samples"


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
    """Start children as fresh interpreters; by forks where test_launch.py repeats the tests so."""
    chosen = os.environ.get("SCAN_TESTS_START", "interpreter")
    assert chosen == "interpreter" or launch.may_fork()
    monkeypatch.setattr(launch, "may_fork", lambda: chosen == "fork")
    return chosen
