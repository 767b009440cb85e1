"""The index of several models: the worst first, all on one scale, filtered without a script."""

import dataclasses
import re
from pathlib import Path

import pytest
from examples import hostile, result, unopened

from scanner.report import overview
from scanner.report.markup import join
from scanner.report.overview import index, order
from scanner.results import ScanResult, Verdict

STYLE = Path(overview.__file__).with_name("page.css")
RESULTS = [result(), hostile(), unopened()]


def listed(*results: ScanResult) -> str:
    return join(index(results, lambda number: f"page-{number}"))


def test_the_worst_stand_first() -> None:
    clean = dataclasses.replace(result(), verdict=Verdict.CLEAN)
    further = dataclasses.replace(clean, score=2.0)
    assert order([unopened(), clean, further, result()]) == [3, 2, 1, 0]


def test_every_row_leads_to_its_model() -> None:
    rows = listed(*RESULTS).split("<tr")[2:]
    assert len(rows) == len(RESULTS)
    for number, row in zip(order(RESULTS), rows, strict=True):
        assert f'href="page-{number}"' in row


def test_all_models_stand_on_one_scale() -> None:
    text = listed(*RESULTS)
    (tiles,) = re.findall(r'(?s)<ul class="tiles">(.*?)</ul>', text)
    assert tiles.count("<svg") == 1, "the others have no figures by class"
    assert 'href="page-0"' in tiles
    assert "class 7 stands out most" in tiles
    assert "2 of 3 models have no such figures." in text


@pytest.mark.parametrize("word", ["all", "suspicious", "inconclusive", "failed"])
def test_models_can_be_filtered_without_a_script(word: str) -> None:
    text = listed(*RESULTS, dataclasses.replace(result("b"), verdict=Verdict.INCONCLUSIVE))
    assert f'id="only-{word}"' in text
    if word != "all":  # and the style hides the others
        assert f"#only-{word}:checked" in STYLE.read_text(encoding="utf-8")
