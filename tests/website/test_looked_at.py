"""The site in a browser, opened from the disk: nothing is fetched, nothing overflows, it searches.

Needs Chromium, and the extras `docs` and `looks`. Screenshots go to the folder that
SCAN_SCREENSHOTS names.
"""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from docs.website import build

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
# Without these a browser looks for its maker's hosts; root has no other sandbox than none.
QUIET = ["--disable-background-networking", "--disable-component-update", "--disable-sync"]
ROOT = ["--no-sandbox"] if hasattr(os, "getuid") and os.getuid() == 0 else []
PAGES = ("index", "auditors", "detectors", "concepts", "commands", "api")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium"),
]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api")
    pytest.importorskip("zensical")
    assert build.build() == 0
    with playwright.sync_playwright() as running:
        yield running.chromium.launch(executable_path=CHROMIUM, args=[*QUIET, *ROOT])


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_pages(width: int, scheme: str, browser: Any, tmp_path: Path) -> None:
    folder = Path(os.environ.get("SCAN_SCREENSHOTS", tmp_path))
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
    shown, said, asked = context.new_page(), list[str](), set[str]()
    shown.on("console", lambda message: said.append(message.text))
    shown.on("request", lambda request: asked.add(request.url.split(":")[0]))
    for name in PAGES:
        shown.goto((build.SITE / f"{name}.html").as_uri())
        assert shown.evaluate("document.documentElement.scrollWidth") <= width
        shown.screenshot(path=folder / f"site-{name}-{scheme}-{width}.png", full_page=True)
    assert said == []
    assert asked <= {"file", "data"}
    context.close()


def test_the_search_works_from_the_disk(browser: Any) -> None:
    shown = browser.new_page(viewport={"width": 1280, "height": 900})
    shown.goto((build.SITE / "index.html").as_uri())
    shown.keyboard.press("Control+k")
    shown.keyboard.type("calibrate", delay=50)
    shown.wait_for_selector("text=/[0-9]+ results/", timeout=20_000)
    assert shown.query_selector("a[href*='concepts.html']") is not None
