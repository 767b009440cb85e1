"""Sentences of the library, in the words of the command line.

Errors, advice and reasons are written for every caller, so they name "the setting `input_shape`"
and "the function `calibrate`". Here these two forms become `--input-shape` and 'scan calibrate'.
"""

import dataclasses
import enum
import re
from collections.abc import Mapping
from typing import Any, TypeVar, cast

from scanner.cli.options import CalibrateOptions, ScanOptions, filling
from scanner.results import ModelIdentity, Run

T = TypeVar("T")

FUNCTIONS = {
    "scan": "'scan'",
    "scan_many": "'scan'",
    "measure": "'scan'",
    "judge": "'scan'",
    "calibrate": "'scan calibrate'",
    "layers": "'scan layers'",
    "check": "'scan check'",
    "rules": "'scan detectors'",
    "detectors": "'scan detectors'",
    "diagnose": "'scan doctor'",
    "screen_inputs": "'scan inputs'",
}
SETTINGS = {
    fills.name: flag for kind in (ScanOptions, CalibrateOptions) for _, flag, fills in filling(kind)
}
SETTINGS["triggers"] = "--triggers"  # of 'scan inputs'
SETTINGS["targets"] = "--target"  # of 'scan repair'
_NAMED = re.compile(r"\b[Tt]he (setting|function) `(\w+)`")


def in_options(sentence: str) -> str:
    """Return a sentence with settings as options and functions as commands."""
    return _NAMED.sub(_translation, sentence)


def _translation(match: re.Match[str]) -> str:
    kind, name = match.groups()
    return (SETTINGS if kind == "setting" else FUNCTIONS).get(name, match[0])


def result_in_options(value: T) -> T:
    """Return a result with all its sentences translated, but not what names a model or run."""
    return cast("T", _translated(value))


def _translated(value: Any) -> Any:
    if isinstance(value, str):
        return in_options(value) if "`" in value else value
    if isinstance(value, ModelIdentity | Run | enum.Enum):
        return value
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = (field.name for field in dataclasses.fields(value))
        return dataclasses.replace(
            value, **{name: _translated(getattr(value, name)) for name in fields}
        )
    if isinstance(value, Mapping):
        return {key: _translated(content) for key, content in value.items()}
    if isinstance(value, tuple | list):
        return type(value)(map(_translated, value))
    return value
