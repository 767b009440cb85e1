"""A finding as a picture: its words, its images, its charts, nothing on top of one another."""

import re
from itertools import pairwise
from xml.etree import ElementTree as ET

import pytest
from examples import hostile, neural_cleanse, result

from docs.website import card
from scanner.report import charts

SVG = "{http://www.w3.org/2000/svg}"


def parts(drawn: str) -> list[ET.Element]:
    """Return the parts of a picture, from the top."""
    return [part for part in ET.fromstring(drawn) if part.tag == f"{SVG}g"]  # noqa: S314 - ours


def test_a_finding_is_drawn_in_full() -> None:
    finding = neural_cleanse()
    drawn = card.draw(card.of_finding(finding, "samples/a.onnx"))
    said = " ".join(" ".join(ET.fromstring(drawn).itertext()).split())  # noqa: S314 - ours
    assert "Neural Cleanse: suspicious" in said
    assert "samples/a.onnx" in said
    assert finding.reason[1:30] in said
    assert "mask of class 7" in said
    assert "stamped: class 7" in said
    assert drawn.count("<image ") == 4
    assert drawn.count("<svg ") == 1 + len(list(charts.of(finding)))


def test_the_parts_lie_below_one_another() -> None:
    drawn = card.draw(card.of_finding(neural_cleanse(), "a"))
    tops = [float(re.findall(r"translate\(20 ([\d.]+)\)", part.attrib["transform"])[0])
            for part in parts(drawn)]  # fmt: skip
    assert all(lower > upper for upper, lower in pairwise(tops))
    assert float(ET.fromstring(drawn).attrib["height"]) > tops[-1]  # noqa: S314 - ours


def test_a_whole_scan_has_its_own_verdict_and_reason() -> None:
    scanned = result()
    made = card.of_result(scanned, "neural_cleanse", "a beside b")
    assert (made.verdict, made.sentences) == ("suspicious", [f"{scanned.reason}."])
    with pytest.raises(ValueError, match="not enough values"):
        card.of_result(scanned, "head", "a")


def test_names_from_a_model_are_text() -> None:
    (finding,) = hostile().findings
    drawn = card.draw(card.of_finding(finding, "<script>"))
    assert "<script" not in drawn
    assert "\u202e" not in drawn
    ET.fromstring(drawn)  # noqa: S314 - ours
