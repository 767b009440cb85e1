"""The result as JSON, schema 2 (docs/json.md describes each field)."""

import json
from collections.abc import Iterable
from typing import Any

from scanner.report import Listing, Page
from scanner.results import ScanResult
from scanner.values import to_json

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


def write(data: Any, *, indent: int | None = 2) -> str:
    """Return plain data as ASCII JSON that ends in a line break."""
    return json.dumps(data, indent=indent, allow_nan=False) + "\n"
