"""JUnit XML: a suite per model, its counts right, and no name that breaks it."""

from collections.abc import Callable
from xml.etree import ElementTree as ET

import pytest
from examples import hostile, result, unopened
from pages import StringPage
from rich.console import Console

from scanner.report.junit import JunitReport


@pytest.fixture
def page(console: Callable[[int], Console]) -> StringPage:
    return StringPage(console(100))


def test_golden(page: StringPage, golden: Callable[[str, str], None]) -> None:
    JunitReport().render([result(), hostile(), unopened()], page, count=3)
    golden("scan.xml", page.text)


def test_the_counts_are_those_of_the_cases(page: StringPage) -> None:
    JunitReport().render([result(), hostile(), unopened()], page, count=3)
    root = ET.fromstring(page.text)  # noqa: S314 - our own text
    for parent in (root, *root):
        for attribute, path in (
            ("tests", ".//testcase"),
            ("failures", ".//testcase/failure"),
            ("errors", ".//testcase/error"),
            ("skipped", ".//testcase/skipped"),
        ):
            assert int(parent.attrib[attribute]) == len(parent.findall(path))
    outcomes = {
        (suite.attrib["name"], case.attrib["name"]): [child.tag for child in case]
        for suite in root
        for case in suite.findall("testcase")
    }
    assert outcomes["model.onnx", "verdict"] == ["failure"]
    assert outcomes["model.onnx", "strip"] == ["skipped"]
    assert outcomes["broken.onnx", "model"] == ["error"]


def test_a_file_that_was_not_read_has_no_hash(page: StringPage) -> None:
    JunitReport().render([unopened()], page, count=1)
    assert "None" not in page.text
