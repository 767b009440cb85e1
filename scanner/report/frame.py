"""Results as a table of pandas, for a notebook; pandas is loaded when one is asked for."""

import importlib
from collections.abc import Sequence
from typing import Any

from scanner.errors import UsageError
from scanner.report.totals import is_failed
from scanner.results import ScanResult

COLUMNS = (
    "model", "sha256", "verdict", "target_class", "score", "size", "index", "failed", "reason",
)  # fmt: skip


def results_frame(results: Sequence[ScanResult]) -> Any:
    """Return results as a `pandas.DataFrame`, a row per model, in their order.

    The columns are those of the JSON (docs/json.md), and `failed` for a model that could not be
    measured.

    Raises:
        UsageError: pandas is not installed.
    """
    try:
        pandas = importlib.import_module("pandas")
    except ImportError as error:
        raise UsageError(
            f"`results_frame` needs pandas ({error})",
            remedy="install it with pip install pandas",
        ) from error
    return pandas.DataFrame([_row(result) for result in results], columns=list(COLUMNS))


def _row(result: ScanResult) -> tuple[Any, ...]:
    model = result.model
    return (
        model.path, model.sha256, result.verdict.value, result.target_class, result.score,
        result.size, result.index, is_failed(result), result.reason,
    )  # fmt: skip
