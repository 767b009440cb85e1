"""A result in a notebook, and what `repr` shows of large values."""

import re

import examples

from scanner.results.notebook import html


def test_the_table_has_a_row_for_each_finding_skip_and_failure() -> None:
    result = examples.result()
    page = result._repr_html_()
    assert page == html(result)
    rows = len(result.findings) + len(result.skips) + len(result.failures)
    assert page.count("<tr>") == 1 + rows
    assert f"<b>{result.verdict.value}</b>" in page


def test_names_of_a_model_are_not_obeyed() -> None:
    page = html(examples.hostile())
    assert "\x1b" not in page
    assert "&lt;b&gt;@you" in page
    tags = set(re.findall("<([a-z]+)", page))
    assert tags <= {"p", "code", "b", "table", "tr", "th", "td"}


def test_a_repr_fits_a_line_or_two() -> None:
    result = examples.result()
    assert repr(result).startswith("ScanResult('model.onnx', ")
    assert f"verdict={result.verdict!r}" in repr(result)
    assert len(repr(result)) < 500
    for finding in result.findings:
        assert repr(finding).startswith(f"Finding({finding.rule.id!r}, ")
        assert len(repr(finding)) < 500
