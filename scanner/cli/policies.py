"""The policy that holds for this call, and `scan config`, which shows it."""

import dataclasses
import datetime as dt
import functools
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from scanner.cli import options, policy
from scanner.cli.output import Output, note
from scanner.cli.policy import Policy
from scanner.errors import UsageError
from scanner.judging import unanalysable
from scanner.report import Listing, ListingReport, named
from scanner.results import ScanResult

_SAID = re.compile(r"\[default: ([^\]]+)\]")
_UNSET = "not set"

_File = Annotated[
    Path | None,
    typer.Option("--config", metavar="FILE", help="The policy to show, instead of the nearest."),
]


@functools.cache
def holding(file: Path | None) -> Policy:
    """Return the policy that holds: the file named, or the nearest.

    Raises:
        UsageError: It cannot be read, or says something that means nothing, or there is no folder
            to look in.
    """
    try:
        folder = Path.cwd()
    except FileNotFoundError as error:
        raise UsageError(
            "the working folder is not there any more", remedy="change to one that is"
        ) from error
    variable = os.environ.get(f"{policy.ENVIRONMENT}CONFIG")
    chosen = file or (Path(variable) if variable else None)
    return policy.read(policy.find(chosen, folder), options.names())


def held_for(arguments: Sequence[str]) -> Policy:
    """Return the policy that holds for a command line, which may name one.

    Raises:
        UsageError: As `holding` has it.
    """
    return holding(policy.named_file(arguments))


def defaults(arguments: Sequence[str], parameters: Sequence[Any]) -> dict[str, Any]:
    """Return the values that the policy gives to a command's parameters, by their names.

    Raises:
        UsageError: The policy cannot be read, or a value is of another kind than its option's.
    """
    held, fields = held_for(arguments), options.names()
    own = {p.name: p for p in parameters if p.param_type_name == "option"}
    return {
        fields[name]: held.fitting(name, many=asked.multiple or asked.nargs > 1, flag=asked.is_flag)
        for name, value in held.options.items()
        if (asked := own.get(fields[name])) is not None and not options.is_auto(name, value)
    }


def applied(
    results: Iterable[ScanResult], file: Path | None, *, quiet: bool
) -> Iterator[ScanResult]:
    """Yield results with what the policy allows of them."""
    chosen, today = holding(file), dt.datetime.now(dt.UTC).date()
    if chosen.path is not None and not quiet:
        note(f"policy: {chosen.path}")
    unknown = chosen.unknown(_rules()) if chosen.allowed else ()
    for sentence in (*chosen.expired(today), *unknown):
        note(sentence)
    for result in results:
        yield chosen.applied(result, today)


def _rules() -> tuple[str, ...]:
    """Return the ids of the rules that a scan may report."""
    from scanner.detectors import known  # noqa: PLC0415 - it loads NumPy; few have an allow-list

    return (*known(), *unanalysable.IDS)


def told_of_variables(parameters: Iterable[Any]) -> None:
    """Say which variables of the environment look like an option's, and are none.

    Args:
        parameters: Of all commands.
    """
    known = {f"{policy.ENVIRONMENT}CONFIG", *(p.envvar for p in parameters if p.envvar)}
    for sentence in policy.unknown_variables(os.environ, known):
        note(sentence)


@options.takes_options
def config(chosen: options.FormatOptions, config: _File = None) -> None:
    """Show the policy that holds here: every option's value, and where it comes from."""
    found = holding(config)
    rows = [_row(field, found) for field in _fields()]
    rows += [
        (
            f"allow {entry.sha256[:12] or 'any model'}",
            f"{entry.rule}, until {entry.expires}: {entry.reason}",
            str(found.path),
        )
        for entry in found.allowed
    ]
    columns = ("option", "value", "from")
    data = [
        {name: None if cell is None else str(cell) for name, cell in zip(columns, row, strict=True)}
        for row in rows
    ]
    cells = [tuple(_UNSET if cell is None else str(cell) for cell in row) for row in rows]
    shown = named(chosen.shown_as)
    assert isinstance(shown, ListingReport)  # noqa: S101 - the option takes no other
    listing = Listing(subject="options", columns=columns, rows=cells, data=data)
    shown.render_listing(listing, Output())


def _fields() -> Iterator["dataclasses.Field[Any]"]:
    known = set(options.names().values())
    for field in dataclasses.fields(options.ScanOptions):
        if field.name in known:
            yield field


def _row(field: "dataclasses.Field[Any]", found: Policy) -> tuple[str, Any, str]:
    name = options.flag(field).removeprefix("--")
    variable = policy.ENVIRONMENT + name.replace("-", "_").upper()
    if variable in os.environ:
        return name, os.environ[variable], variable
    if name in found.options:
        return name, _written(found.options[name]), str(found.path)
    return name, _told(field), "default"


def _written(value: Any) -> Any:
    """Return a value as people write it."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value))
    return getattr(value, "value", value)


def _told(field: "dataclasses.Field[Any]") -> Any:
    """Return a default as people write it; what the help says of one that is found out later.

    None where nothing is set.
    """
    value = field.default
    if value is not None:
        return _written(value)
    said = _SAID.search(options.help_of(field))
    return said and said[1]
