"""The result as JSON, schema 2 (docs/json.md describes each field)."""

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from scanner import jsonfile
from scanner.errors import UsageError
from scanner.report import Listing, Page
from scanner.results import ScanResult, ScreenedInput, Screening
from scanner.values import UnfitError, from_json, to_json

SCHEMA = 2
SCREENING_SCHEMA = "inputs/1"  # of what was found of inputs (docs/inputs.md)
_REMEDY = "name a file that the format 'json' or 'jsonl' wrote"
_SEVERAL = 2


class JsonReport:
    """One result as an indented JSON object; several as JSON Lines, each written as it arrives."""

    name = "json"
    suffix = ".json"
    several = True
    shows_failures = True

    def render(self, results: Iterable[ScanResult], page: Page, *, count: int) -> None:
        """Write each result as soon as it is there."""
        for result in results:
            page.write(render(result, indent=2 if count == 1 else None))

    def render_listing(self, listing: Listing, page: Page) -> None:
        """Write the data of a listing."""
        page.write(write(listing.data))

    def render_input(self, found: ScreenedInput, page: Page) -> None:
        """Write nothing: the object names the inputs that stand out."""

    def render_screening(self, screening: Screening, page: Page) -> None:
        """Write one object."""
        page.write(write(screening_data(screening)))


def screening_data(screening: Screening) -> dict[str, Any]:
    """Return what was found of inputs as plain data."""
    body: dict[str, Any] = to_json(screening)
    first = {
        "schema": SCREENING_SCHEMA,
        "verdict": body.pop("verdict"),
        "reason": body.pop("reason"),
    }
    return first | body


def render(result: ScanResult, *, indent: int | None = 2) -> str:
    """Return one JSON object, ASCII only; with `indent=None` on one line, for JSON Lines."""
    body = to_json(result)
    first = {
        "schema": SCHEMA,
        "verdict": body.pop("verdict"),
        "reason": body.pop("reason"),
        "score": body.pop("score"),
    }
    return write(first | body, indent=indent)


def write_results(results: Iterable[ScanResult], path: str | os.PathLike[str]) -> None:
    """Save results as JSON Lines, for `read_results`.

    Raises:
        UsageError: The file cannot be written.
    """
    try:
        Path(path).write_text(
            "".join(render(result, indent=None) for result in results), encoding="utf-8"
        )
    except OSError as error:
        raise UsageError(
            f"{os.fspath(path)!r} cannot be written ({error.strerror})", remedy="name another file"
        ) from error


def read_results(path: str | os.PathLike[str]) -> list[ScanResult]:
    """Read saved results: one JSON object, or JSON Lines.

    Raises:
        UsageError: The file cannot be read, or does not hold results of this schema.
    """
    path = Path(path)
    try:
        return [_result(path, data) for data in _objects(jsonfile.read(path))]
    except jsonfile.UnreadableError as error:
        raise UsageError(f"the result {str(path)!r} {error}", remedy=_REMEDY) from error


def _objects(text: bytes) -> list[Any]:
    """Return the objects of a file: a single one may be spread over lines.

    Raises:
        UnreadableError: It is not JSON within the limits.
    """
    try:
        return [jsonfile.parse(text)]
    except jsonfile.UnreadableError:
        if len(lines := [line for line in text.splitlines() if line.strip()]) < _SEVERAL:
            raise
    return list(map(jsonfile.parse, lines))


def _result(path: Path, data: Any) -> ScanResult:
    schema = data.pop("schema", None) if isinstance(data, dict) else None
    if schema != SCHEMA:
        found = f"schema {schema}" if isinstance(schema, int) else "no schema"
        raise _not_a_result(path, f"it has {found}, and schema {SCHEMA} is needed")
    try:
        return from_json(ScanResult, data)
    except UnfitError as error:
        field = f", at {error.field}" if error.field else ""
        raise _not_a_result(path, f"it was edited, or written by another version{field}") from error


def _not_a_result(path: Path, why: str) -> UsageError:
    return UsageError(f"{str(path)!r} is not a saved result: {why}", remedy=_REMEDY)


def write(data: Any, *, indent: int | None = 2) -> str:
    """Return plain data as ASCII JSON that ends in a line break."""
    return json.dumps(data, indent=indent, allow_nan=False) + "\n"
