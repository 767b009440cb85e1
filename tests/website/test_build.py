"""The site: links for its readers, all pages, strict, and nothing from the network."""

import re
from pathlib import Path

import pytest
from pages import Elements

import scanner
from docs.website import build

FETCHED = {"script": "src", "img": "src", "iframe": "src", "link": "href", "source": "src"}


@pytest.mark.parametrize(
    ("source", "link", "expected"),
    [
        ("docs/index.md", "[x](json.md#run)", "[x](json.md#run)"),
        ("docs/index.md", "[README](../README.md)", "[README](index.md)"),
        ("docs/index.md", "[json.md](json.md#run)", "[The JSON result](json.md#run)"),
        ("README.md", "[docs/json.md](docs/json.md)", "[The JSON result](json.md)"),
        ("docs/zoo.md", "[x](../CONTRIBUTING.md)", "[x](contributing.md)"),
        ("CONTRIBUTING.md", "[x](docs/adding.md#a-detector)", "[x](adding.md#a-detector)"),
        ("benchmarks/README.md", "[x](../docs/zoo.md)", "[x](zoo.md)"),
        ("docs/python.md", "[x](examples/scan_folder.py)", "[x](examples/scan_folder.py)"),
        ("docs/detection.md", "[samples/results](../samples/results)", "samples/results"),
        ("docs/adding.md", "[it](../scanner/cache.py)", "it (`scanner/cache.py`)"),
        ("docs/index.md", "[x](https://a.example/b.md)", "[x](https://a.example/b.md)"),
        ("docs/index.md", "[x](#own)", "[x](#own)"),
        ("docs/index.md", "![p](pictures/answer.svg)", "![p](pictures/answer.svg)"),
    ],
)
def test_a_link_leads_to_a_page_or_names_a_file(source: str, link: str, expected: str) -> None:
    assert build.relinked(f"See {link}.", source) == f"See {expected}."


def test_the_pages_are_collected_from_everywhere(tmp_path: Path) -> None:
    build.collect(tmp_path / "pages")
    names = {path.name for path in (tmp_path / "pages").glob("*.md")}
    assert names == {*(p.name for p in build.ROOT.glob("docs/*.md")), *build.ELSEWHERE.values()}
    assert (tmp_path / "pages" / "pictures" / "answer.svg").is_file()


def test_the_reference_describes_every_name() -> None:
    page = (build.ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    named = re.findall(r"^::: scanner\.(\w+)$", page, re.MULTILINE)
    assert sorted(named) == sorted(scanner.__all__)


@pytest.fixture(scope="module")
def site() -> Path:
    pytest.importorskip("zensical")
    pytest.importorskip("mkdocstrings_handlers.python")
    assert build.build() == 0
    return build.SITE


@pytest.mark.slow
def test_the_site_needs_no_network(site: Path) -> None:
    pages = list(site.glob("*.html"))
    assert len(pages) > 25
    for page in pages:
        for name, attributes in Elements(page.read_text(encoding="utf-8")).found:
            target = attributes.get(FETCHED.get(name, ""), "")
            assert not re.match(r"(https?:)?//", target), (page.name, target)
    for sheet in site.rglob("*.css"):
        assert not re.search(r"url\(['\"]?(https?:)?//|@import", sheet.read_text("utf-8"))


@pytest.mark.slow
def test_every_page_and_every_picture_is_on_the_site(site: Path) -> None:
    pages = {path.stem for path in (build.ROOT / "docs").glob("*.md")}
    assert pages | {"contributing", "changelog", "security", "benchmarks"} <= {
        path.stem for path in site.glob("*.html")
    }
    for path in (build.ROOT / "docs" / "pictures").iterdir():
        assert (site / "pictures" / path.name).is_file()


@pytest.mark.slow
def test_the_reference_is_filled_in(site: Path) -> None:
    text = Elements((site / "api.html").read_text(encoding="utf-8")).text
    assert ":::" not in text
    for words in ("Judge measured models by clean ones", "references", "ScannerError"):
        assert words in text
