"""The result as JSON, schema 2 (docs/json.md describes each field)."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from scanner.errors import UsageError
from scanner.report import Listing, Page
from scanner.results import ScanResult
from scanner.values import from_json, to_json

SCHEMA = 2


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


def write_results(results: Iterable[ScanResult], path: Path) -> None:
    """Save results as JSON Lines, for `read_results`.

    Raises:
        UsageError: The file cannot be written.
    """
    try:
        path.write_text(
            "".join(render(result, indent=None) for result in results), encoding="utf-8"
        )
    except OSError as error:
        raise UsageError(
            f"{str(path)!r} cannot be written ({error.strerror})", remedy="name another file"
        ) from error


def read_results(path: Path) -> list[ScanResult]:
    """Read saved results: one JSON object, or JSON Lines.

    Raises:
        UsageError: The file cannot be read, or does not hold results of this schema.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise UsageError(
            f"the result {str(path)!r} cannot be read ({error.strerror})",
            remedy="name a file that the format 'json' or 'jsonl' wrote",
        ) from error
    except ValueError as error:
        raise _not_a_result(path, "it is not text") from error
    return [_result(path, data) for data in _objects(path, text)]


def _objects(path: Path, text: str) -> list[Any]:
    """Return the objects of a file: a single one may be spread over lines."""
    try:
        return [json.loads(text)]
    except (ValueError, RecursionError):
        lines = [line for line in text.splitlines() if line.strip()]
    try:
        return list(map(json.loads, lines)) or [None]
    except (ValueError, RecursionError) as error:
        raise _not_a_result(path, "it is not valid JSON") from error


def _result(path: Path, data: Any) -> ScanResult:
    schema = data.pop("schema", None) if isinstance(data, dict) else None
    if schema != SCHEMA:
        found = f"schema {schema}" if isinstance(schema, int) else "no schema"
        raise _not_a_result(path, f"it has {found}, and schema {SCHEMA} is needed")
    try:
        return from_json(ScanResult, data)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise _not_a_result(path, "it was edited, or written by another version") from error


def _not_a_result(path: Path, why: str) -> UsageError:
    return UsageError(
        f"{str(path)!r} is not a saved result: {why}",
        remedy="name a file that the format 'json' or 'jsonl' wrote",
    )


def write(data: Any, *, indent: int | None = 2) -> str:
    """Return plain data as ASCII JSON that ends in a line break."""
    return json.dumps(data, indent=indent, allow_nan=False) + "\n"
