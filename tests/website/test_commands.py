"""The page of commands and options is what the command line says today."""

from pathlib import Path
from typing import Any

import typer.main

from docs.website import commands
from scanner.cli.main import app

PAGE = Path(__file__).parents[2] / "docs" / "commands.md"
GROUP: Any = typer.main.get_command(app)


def test_the_page_is_fresh() -> None:
    """Write it anew with `python -m docs.website.commands > docs/commands.md`."""
    assert PAGE.read_text(encoding="utf-8") == commands.page()


def test_every_command_and_option_is_on_it() -> None:
    text = commands.page()
    for name, command in GROUP.commands.items():
        section = text.split(f"\n## scan{'' if name == 'model' else f' {name}'}\n")[1]
        own = section.split("\n## ")[0]
        for parameter in command.params:
            for flag in parameter.opts if parameter.param_type_name == "option" else ():
                assert f"`{flag}`" in own, (name, flag)


def test_no_cell_breaks_a_table() -> None:
    rows = [line for line in commands.page().splitlines() if line.startswith("| `")]
    assert len(rows) > 50
    assert {line.replace("\\|", "").count("|") for line in rows} == {4}
    assert "[default" not in commands.page()
