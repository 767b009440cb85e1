"""A page about inputs names them, carries the numbers, and obeys no name."""

import dataclasses
import io
import json

import pytest
import scenes

from scanner import report
from scanner.report import ScreeningReport, screened
from scanner.results import ScreenedInput


class Sheet(io.StringIO):
    """A page in memory that nothing is drawn on."""

    console = None


def _page(*found: ScreenedInput) -> str:
    shown, sheet = report.named("html"), Sheet()
    assert isinstance(shown, ScreeningReport)
    for one in found:
        shown.render_input(one, sheet)  # type: ignore[arg-type]
    shown.render_screening(scenes.screening(*found), sheet)  # type: ignore[arg-type]
    return sheet.getvalue()


@pytest.mark.parametrize("numbers", [(), (3, 5)])
def test_a_page_names_the_inputs_and_carries_the_numbers(numbers: tuple[int, ...]) -> None:
    page = _page(*map(scenes.screened, numbers))
    data = page.split('id="results">')[1].split("</script>")[0]
    assert len(json.loads(data)["found"]) == len(numbers)
    assert all(f"{number}.png</td>" in page for number in numbers)
    assert ("Inputs that stand out" in page) == bool(numbers)


def test_a_page_obeys_no_name() -> None:
    hostile = dataclasses.replace(scenes.screened(), name="</script><script>alert(1)</script>")
    assert "<script>alert" not in _page(hostile)


def test_rows_are_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(screened, "_MOST", 2)
    page = _page(*map(scenes.screened, range(5)))
    assert page.count("<tr>") == 1 + 2
    assert "... and 3 more" in page


def test_a_filter_that_does_not_decide_says_so() -> None:
    whole = dataclasses.replace(scenes.screening(), filters=(scenes.note(decides=False),))
    assert "(shown, and does not decide)" in screened.article(whole)
