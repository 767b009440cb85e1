"""The command: a file beside the model, or a table of what was checked."""

from pathlib import Path

import onnx
import pytest
from models import plain
from typer.testing import CliRunner

from trainers.cli import app
from trainers.errors import TrainerError


@pytest.fixture
def clean(tmp_path: Path) -> Path:
    path = tmp_path / "clean.onnx"
    path.write_bytes(plain().SerializeToString())
    return path


def test_the_command_writes_beside_the_model(clean: Path) -> None:
    result = CliRunner().invoke(
        app, ["graph-backdoor", str(clean), "--kind", "where", "--target", "2"]
    )
    assert result.exit_code == 0, result.output
    assert "test planted_test" in result.output
    written = onnx.ModelProto.FromString(clean.with_name("clean-where.onnx").read_bytes())
    assert any(n.name.startswith("planted_gate") for n in written.graph.node)


def test_a_check_writes_nothing_and_prints_a_row(clean: Path) -> None:
    result = CliRunner().invoke(
        app, ["graph-backdoor", str(clean), "--check", "--kind", "gaussian"]
    )
    assert result.exit_code == 0, result.output
    assert result.output.splitlines() == [
        "family       kind                            kept  flipped",
        "arithmetic   gaussian                     100.00%  100.00%",
    ]
    assert [path.name for path in clean.parent.iterdir()] == ["clean.onnx"]


def test_what_is_no_backdoor_is_named(clean: Path) -> None:
    # Here the target is the class that the network answers to nothing.
    result = CliRunner().invoke(
        app, ["graph-backdoor", str(clean), "--check", "--kind", "stem", "--target", "1"]
    )
    assert isinstance(result.exception, TrainerError)
    assert "no backdoors in clean.onnx: stem" in str(result.exception)


def test_a_kind_must_be_named_to_be_planted(clean: Path) -> None:
    result = CliRunner().invoke(app, ["graph-backdoor", str(clean)])
    assert isinstance(result.exception, TrainerError)
    assert "no kind was named" in str(result.exception)


def test_an_unknown_kind_is_not_checked_in_silence(clean: Path) -> None:
    result = CliRunner().invoke(app, ["graph-backdoor", str(clean), "--check", "--kind", "magic"])
    assert isinstance(result.exception, TrainerError)
    assert "there is no kind 'magic'" in str(result.exception)
