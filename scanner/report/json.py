"""The result as JSON, schema 2 (docs/json.md describes each field)."""

import json
from typing import Any

from scanner.results import ScanResult
from scanner.values import to_json

SCHEMA = 2


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
