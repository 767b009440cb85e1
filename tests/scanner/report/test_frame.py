"""Results as a table of pandas, where it is installed."""

import sys
import types
from typing import Any

import examples
import pytest

from scanner import UsageError, results_frame
from scanner.report.frame import COLUMNS


def test_a_row_per_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in for pandas, so that the rows are checked where it is not installed too."""
    frames: list[tuple[Any, Any]] = []
    pandas = types.ModuleType("pandas")
    vars(pandas)["DataFrame"] = lambda rows, columns: frames.append((rows, columns))
    monkeypatch.setitem(sys.modules, "pandas", pandas)
    result = examples.result()
    results_frame([result, examples.unopened()])
    ((rows, columns),) = frames
    assert columns == list(COLUMNS)
    first, second = (dict(zip(COLUMNS, row, strict=True)) for row in rows)
    assert (first["model"], first["verdict"]) == ("model.onnx", result.verdict.value)
    assert (first["score"], first["size"]) == (result.score, result.size)
    assert (first["failed"], second["failed"]) == (False, True)


def test_by_pandas_itself() -> None:
    pytest.importorskip("pandas")
    frame = results_frame([examples.result()])
    assert list(frame.columns) == list(COLUMNS)
    assert frame["model"].tolist() == ["model.onnx"]


def test_without_pandas_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(UsageError, match=r"needs pandas .* install it with pip install pandas"):
        results_frame([])
