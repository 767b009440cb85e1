"""The pictures of the documents: all there, small, alone, and what the command draws today."""

import re
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from docs.website import pictures
from scanner.detectors import FAMILY

DRAWN = sorted(pictures.PICTURES.glob("*.svg"))
# Drawn from measurements that are at hand: nothing is measured, so nothing rounds differently.
FROM_RECORDS = (
    "channel_lipschitz", "layerwise", "overactivation", "places", *pictures.OF_POPULATION,
)  # fmt: skip
MEASURED = ("integrity", "graph_logic")  # quick ones


def words(svg: str) -> str:
    return re.sub(r"\d+(\.\d+)?", "#", " ".join(ET.fromstring(svg).itertext()))  # noqa: S314 - ours


def test_every_detector_has_two_pictures_and_its_section_shows_them() -> None:
    page = (pictures.ROOT / "docs" / "detectors.md").read_text(encoding="utf-8")
    sections = {
        rule: section
        for section in page.split("\n## ")
        for rule in re.findall(r"^.*\(`([\w-]+)`\)$", section, re.MULTILINE)
    }
    for rule in FAMILY:
        for kind in ("found", "clean"):
            assert f"](pictures/{rule}-{kind}.svg)" in sections[rule]
    names = {f"{rule}-{kind}.svg" for rule in FAMILY for kind in ("found", "clean")}
    assert {path.name for path in DRAWN} == names | {"answer.svg", "places.svg"}


def test_every_detector_has_a_case() -> None:
    assert {*pictures.FOUND, *pictures.OF_POPULATION} == set(FAMILY)


@pytest.mark.parametrize("path", DRAWN, ids=lambda path: path.stem)
def test_a_picture_is_small_and_needs_nothing_else(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert len(text) < 20_000
    root = ET.fromstring(text)  # noqa: S314 - ours
    assert root[0].tag.endswith("title")
    assert root[0].text
    links = re.findall(r'(?:href|src)="([^"]{0,30})', text) + re.findall(r"url\(|@import", text)
    assert all(link.startswith("data:image/png;base64,") for link in links)


@pytest.mark.parametrize("name", FROM_RECORDS)
def test_what_is_drawn_from_records_is_drawn_again(name: str) -> None:
    for file, drawn in pictures.pictures(name):
        assert (pictures.PICTURES / file).read_text(encoding="utf-8") == drawn


@pytest.mark.parametrize("name", MEASURED)
def test_what_is_measured_says_the_same_again(name: str) -> None:
    for file, drawn in pictures.pictures(name):
        assert words((pictures.PICTURES / file).read_text(encoding="utf-8")) == words(drawn)


@pytest.mark.parametrize("rule", FAMILY)
def test_what_is_found_is_a_finding_and_the_clean_one_is_clean(rule: str) -> None:
    said = {
        kind: words((pictures.PICTURES / f"{rule}-{kind}.svg").read_text(encoding="utf-8"))
        for kind in ("found", "clean")
    }
    if rule == "source_dependent":
        assert "One trigger of" in said["found"]
        assert "No trigger smaller" in said["clean"]
        return
    if rule in pictures.OF_POPULATION:
        for word in said.values():
            assert "than the median class does." in word
        return
    found = "inconclusive" if rule == "classifier" else "suspicious"
    assert f": {found}" in " ".join(said["found"].split())
    assert ": clean" in " ".join(said["clean"].split())


def test_the_command_writes_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pictures, "PICTURES", tmp_path / "pictures")
    pictures.main(["places"])
    assert [path.name for path in (tmp_path / "pictures").iterdir()] == ["places.svg"]
